"""The page as text: styles, script and pictures are inside, so that it can be mailed."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from engine import __version__
from engine.diagnosis import RunDiagnosis
from engine.reporting.colours import Colour
from engine.reporting.pages import Filters, script_digest, template
from engine.reporting.plots import SERIES
from engine.reporting.report import views
from engine.reporting.report.content import RunContent, cautions_of_all
from engine.reporting.report.gallery import Gallery
from engine.reporting.report.images import VIEWS, confidence_colours
from engine.reporting.report.results import joint_ensembles
from engine.scoring.metrics import METRICS

TEMPLATES = Path(__file__).parent / "templates"
MISSING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def render(
    title: str,
    groups: Sequence[Sequence[RunContent]],
    galleries: Mapping[Path, Gallery],
    suggestions: Mapping[Path, RunDiagnosis],
) -> str:
    """The text of the page.

    Args:
        title: its heading.
        groups: runs that may be compared, together.
        galleries, suggestions: by the path of the run; either may lack some.
    """
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return _page().render(
        title=title,
        groups=[_group(number, group, galleries, suggestions) for number, group in enumerate(groups, 1)],
        views=VIEWS,
        metrics=[metric for metric in METRICS if metric != "mIoU"],  # which has columns of its own
        num_series=len(SERIES),
        confidence=confidence_colours(),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=script_digest(script),
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        version=__version__,
    )


@cache  # a process that writes several reports compiles it once
def _page() -> Template:
    filters: Filters = {"score": _score, "gain": _gain, "percent": _percent, "css": _css,
                        "plain": _plain, "duration": _duration, "thousands": _thousands}  # fmt: skip
    return template(TEMPLATES / "report.html", trims=True, filters=filters)


def _group(
    number: int,
    group: Sequence[RunContent],
    galleries: Mapping[Path, Gallery],
    suggestions: Mapping[Path, RunDiagnosis],
) -> dict[str, Any]:
    series = views.series_of(group)
    return {
        "number": number,
        "contents": group,
        "data": group[0].run.manifest.data,
        "dataset": next((content.run.ensemble["dataset"] for content in group if content.run.ensemble), None),
        "baselines": views.baselines_of(group),
        "cautions": cautions_of_all(group),
        "protocols": views.protocols_of(group),
        "joint": joint_ensembles(
            list(dict.fromkeys(content.run.path.parent for content in group)),
            group[0].run.manifest.data.val_fingerprint,
        ),
        "curves": views.curves_view(group),
        "series": series,
        "classes": views.class_rows(group, series),
        "recipe": views.recipe_view(group),
        "runs": [
            _run(
                place, content, galleries.get(content.run.path, Gallery()), suggestions.get(content.run.path)
            )
            for place, content in enumerate(group)
        ],
    }


def _run(place: int, content: RunContent, gallery: Gallery, diagnosis: RunDiagnosis | None) -> dict[str, Any]:
    return {
        "place": place,
        "content": content,
        "diagnosis": diagnosis,
        **views.further_view(content),
        "confusion": views.confusion_view(content),
        "masks": views.masks_view(content),
        "reliability": views.reliability_view(content),
        "boundary": views.boundary_rows(content),
        "gallery": views.gallery_view(content, gallery),
        "weights": views.weights_facts(content.run.manifest.weights),
        "recipe_text": content.run.recipe.to_yaml() if content.run.recipe else "",
    }


def _score(value: float | None) -> str:
    """A share of 1 with four digits, as in the files and on the console."""
    return MISSING if value is None or math.isnan(value) else f"{value:.4f}"


def _gain(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.4f}".replace("-", MINUS)


def _percent(share: float | None, digits: int = 0) -> str:
    return MISSING if share is None or math.isnan(share) else f"{share:.{digits}%}"


def _thousands(value: float | None, digits: int = 0) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def _duration(seconds: float | None) -> str:
    return MISSING if seconds is None else str(timedelta(seconds=round(seconds)))


def _plain(value: Any) -> str:
    """A value of a recipe as YAML writes it, in one line."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _css(colour: Colour) -> str:
    return f"rgb({', '.join(map(str, colour))})"
