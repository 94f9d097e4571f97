"""The report of a run: one page that holds everything it shows, so it can be mailed. Knows nothing of models.

It is made from what the run folder holds; a run that was cut off gives a page that says so.
"""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from engine.data.sample import Palette
from engine.reporting.pictures import (
    UNSCORED,
    VOID,
    WRONG,
    Colour,
    Picture,
    classes_in,
    fitted,
    panels,
    share_right,
)
from engine.reporting.plots import class_bars, training_curves
from engine.run_folder import Manifest, RunFolder, write_text
from engine.scoring.evaluation import ENSEMBLE

TEMPLATES = Path(__file__).parent / "templates"
PANEL_PX = 480  # the longer side of a picture in the page
MAX_ENLARGED = 3  # a small picture grows at most this much: the browser does the rest
WEBP_QUALITY = 80

# One ensemble or member: name, note, mIoU, mAcc, aAcc, IoU by class; shares of 1, None where there is none.
Result = Mapping[str, Any]


def write_report(run: RunFolder, pictures: Sequence[Picture], palette: Palette, ignore_index: int) -> Path:
    """Write report.html into the run folder and give its path; all but the manifest may be missing there.

    Args:
        run: its manifest.json, log.jsonl, recipe.yaml and ensemble.json are read.
        pictures: shown in this order.
        palette: a colour for each class.
        ignore_index: the label id of void.

    Raises:
        RunFolderError: manifest.json is missing or damaged.
    """
    manifest = run.read_manifest()
    scored = json.loads(_text(run.path / "ensemble.json") or "null")
    rows = read_log(run.log)
    ensembles, members = _results(scored) if scored else ([], _members_of_log(manifest, rows))
    best = max(members, key=_score, default=None)
    headline = next((result for result in ensembles if result["key"] == ENSEMBLE), best)
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"share": _share, "css": _css}
    page = environment.get_template("report.html").render(
        manifest=manifest,
        folder=run.path,
        headline=headline,
        best=best,
        ensembles=ensembles,
        members=members,
        classes=_class_rows(manifest.class_names, palette, [*ensembles, *members]),
        protocol=scored["protocol"] if scored else {},
        dataset=scored["dataset"] if scored else {},
        bars=_bars(headline, best),
        curves=_drawn(training_curves(rows, [member.step for member in manifest.members])),
        pictures=[_shown(picture, palette, ignore_index) for picture in pictures],
        legend=_legend(pictures, manifest.class_names, palette, ignore_index),
        recipe=_text(run.recipe),
    )
    write_text(run.report, page)
    return run.report


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of log.jsonl; half a last line, as a crash leaves it, is left out."""
    lines = _text(path).splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _text(path: Path) -> str:
    """The text of a file, or nothing where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _results(scored: Mapping[str, Any]) -> tuple[list[Result], list[Result]]:
    """Ensembles and members of ensemble.json."""
    ensembles = [
        {
            "key": key,
            "name": "ensemble" if key == ENSEMBLE else f"ensemble ({key})",
            "note": f"{key} of {len(scored['members'])} members",
            **scores,
        }
        for key, scores in scored["ensembles"].items()
    ]
    members = [
        {"name": f"step {member['step']}", "note": member["path"], **member} for member in scored["members"]
    ]
    return ensembles, members


def _members_of_log(manifest: Manifest, rows: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Members with the scores of the evaluation that kept them."""
    evaluations = {row["step"]: row for row in rows if row["split"] == "val"}
    unknown = {"mIoU": None, "mAcc": None, "aAcc": None, "IoU": {}}
    members = []
    for member in manifest.members:
        name = {"name": f"step {member.step}", "note": member.file}
        members.append(unknown | member.scores | evaluations.get(member.step, {}) | name)
    return members


def _score(result: Result) -> float:
    return -1.0 if result["mIoU"] is None else result["mIoU"]


def _class_rows(
    class_names: Sequence[str], palette: Palette, results: Sequence[Result]
) -> list[dict[str, Any]]:
    """A class with its IoU by each result, and which of them is the best."""
    rows = []
    for name, colour in zip(class_names, palette, strict=True):
        values = [result["IoU"].get(name) for result in results]
        top = max((value for value in values if value is not None), default=None)
        rows.append({"name": name, "colour": colour, "values": values, "top": top})
    return rows


def _bars(headline: Result | None, best: Result | None) -> Markup | None:
    """The bars of the headline, beside those of the best member where that is another one."""
    series = {result["name"]: result["IoU"] for result in (headline, best) if result and result["IoU"]}
    return Markup(class_bars(series)) if series else None


def _drawn(curves: Mapping[str, str]) -> dict[str, Markup]:
    """SVG is markup already; matplotlib has escaped the text in it."""
    return {title: Markup(svg) for title, svg in curves.items()}


def _shown(picture: Picture, palette: Palette, ignore_index: int) -> dict[str, Any]:
    """A picture as the page shows it: its panels as data URIs."""
    height, width = picture.labels.shape
    box_px = min(PANEL_PX, MAX_ENLARGED * max(height, width))
    views = {
        name: fitted(pixels, box_px, box_px)
        for name, pixels in panels(picture, palette, ignore_index).items()
    }
    share = share_right(picture, ignore_index)
    return {
        "id": picture.id,
        "right": None if math.isnan(share) else f"{share:.1%}",
        "views": {name: (_data_uri(view), view.width, view.height) for name, view in views.items()},
    }


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=WEBP_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _legend(
    pictures: Sequence[Picture], class_names: Sequence[str], palette: Palette, ignore_index: int
) -> list[tuple[str, Colour]]:
    classes = [(class_names[i], palette[i]) for i in classes_in(pictures, ignore_index)]
    return [*classes, ("void", VOID), ("wrong", WRONG), ("void among errors", UNSCORED)]


def _share(value: float | None) -> str:
    """A share of 1 with four digits, as in the files and on the console."""
    return "none" if value is None else f"{value:.4f}"


def _css(colour: Colour) -> str:
    return f"rgb({', '.join(map(str, colour))})"
