"""What the tables of the page show, row by row.

Numbers stay numbers, None where there is none: the templates format them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from engine.recipe import Recipe
from engine.recipe.differences import values_of
from engine.reporting.colours import UNSCORED, VOID, WRONG, Colour, display_colours
from engine.reporting.pictures import Picture, classes_in, share_right, with_sets_of
from engine.reporting.plots import TITLES, precision_recall_diagram, reliability_diagram, training_curves
from engine.reporting.report.analysis import Analysis
from engine.reporting.report.content import RunContent
from engine.reporting.report.gallery import Gallery
from engine.reporting.report.images import Layers, layers_of
from engine.reporting.report.results import PredictorScores
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.metrics import METRICS
from engine.scoring.statistics import Interval

ABSENT = "absent"
PLACE_KEYS = ("name", "output.")  # they say where a run is, not what it is
MOST_BARS = 6  # runs in the bars of a class
MOST_CELLS = 30  # classes of a confusion matrix that can be read
NUM_CONFUSED = 8


@dataclass(frozen=True)
class Series:
    """One row of bars over the classes: a member or an ensemble; `place` is its colour."""

    name: str
    place: int
    IoU: Mapping[str, float | None]
    intervals: Mapping[str, Interval]


def series_of(group: Sequence[RunContent]) -> list[Series]:
    """The best member of each run; of a single run its ensemble, too, first."""
    series: list[tuple[str, PredictorScores | None, Analysis | None, RunContent]] = []
    if len(group) == 1 and group[0].ensemble:
        series.append(("ensemble", group[0].ensemble, group[0].ensemble_analysis, group[0]))
    for content in group[:MOST_BARS]:
        name = content.best.name if len(group) == 1 and content.best else content.name
        series.append((name, content.best, content.analysis, content))
    return [
        Series(name, place, result.IoU, _class_intervals(analysis, content.run.manifest.class_names))
        for place, (name, result, analysis, content) in enumerate(series)
        if result and result.IoU
    ]


def _class_intervals(analysis: Analysis | None, class_names: Sequence[str]) -> dict[str, Interval]:
    return dict(zip(class_names, analysis.IoU_intervals, strict=True)) if analysis else {}


def class_rows(group: Sequence[RunContent], series: Sequence[Series]) -> list[dict[str, Any]]:
    """Each class of any series with its IoU and interval in each, the best of the first series first."""
    manifest = group[0].run.manifest
    rows = [
        {
            "name": name,
            "colour": colour,
            "bars": [(one.IoU.get(name), one.intervals.get(name)) for one in series],
            "top": max((value for one in series if (value := one.IoU.get(name)) is not None), default=None),
        }
        for name, colour in zip(manifest.class_names, display_colours(manifest.palette), strict=True)
    ]
    seen = [row for row in rows if row["top"] is not None]
    return sorted(
        seen, key=lambda row: -1.0 if row["bars"][0][0] is None else row["bars"][0][0], reverse=True
    )


def curves_view(group: Sequence[RunContent]) -> list[dict[str, Any]]:
    """Each plot, with the values that its cursor shows.

    The titles have the split that is scored during the trainings in place of val.
    """
    splits = " and ".join(dict.fromkeys(content.run.evaluated_on for content in group))
    runs = {one.name: (one.run.rows, [member.step for member in one.run.manifest.members]) for one in group}
    return [
        {
            "title": title.replace(" on val", f" on {splits}") if title in TITLES.values() else title,
            "svg": Markup(curves.svg),  # matplotlib has escaped the text in it
            "data": {
                "frame": curves.frame,
                "limits": curves.limits,
                "lines": [
                    {"name": name, "place": place, "points": [_point(step, value) for step, value in points]}
                    for place, (name, points) in enumerate(curves.lines.items())
                ],
            },
        }
        for title, curves in training_curves(runs).items()
    ]


def _point(step: int, value: float) -> tuple[int, float | None]:
    return step, None if math.isnan(value) else float(f"{value:.5g}")


def further_view(content: RunContent) -> dict[str, Any]:
    """The scores on the splits of further sets: a column for each split and model, rows of values by name."""
    scored = (content.run.ensemble or {}).get("further", {})
    columns = {
        f"{split}, {'ensemble' if name == ENSEMBLE else name}": numbers
        for split, of_split in scored.items()
        for name, numbers in of_split.items()
    }
    rows = [(metric, [numbers.get(metric) for numbers in columns.values()]) for metric in METRICS]
    rows += [
        (f"IoU {name}", [numbers["IoU"].get(name) for numbers in columns.values()])
        for name in content.run.manifest.class_names
    ]
    present = [row for row in rows if any(value is not None for value in row[1])]
    return {"further": present, "further_columns": [*columns]}


def confusion_view(content: RunContent) -> dict[str, Any] | None:
    """Shares of the label's pixels; of many classes, those confused most, and the sum of the others."""
    analysis = content.analysis
    if analysis is None or analysis.confusion is None:
        return None
    names = content.run.manifest.class_names
    shown = analysis.most_confused(MOST_CELLS)
    totals = analysis.confusion.sum(axis=1)
    shares = analysis.confusion / np.maximum(1, totals)[:, None]
    num_hidden = np.count_nonzero(~np.isnan(analysis.IoU)) - len(shown)
    rows = [
        {
            "name": names[i],
            "pixels": int(totals[i]),
            "cells": [(names[j], shares[i, j], i == j) for j in shown],
            "others": 1 - shares[i, shown].sum() if num_hidden else None,
        }
        for i in shown
    ]
    confused = [(names[i], names[j], *how_much) for i, j, *how_much in analysis.confused(NUM_CONFUSED)]
    return {"rows": rows, "num_hidden": num_hidden, "confused": confused}


def reliability_view(content: RunContent) -> dict[str, Any] | None:
    """The diagram and the expected calibration error of the best member, where they were counted."""
    analysis = content.analysis
    if analysis is None or analysis.reliability is None:
        return None
    return {"svg": Markup(reliability_diagram(analysis.reliability)), "error": analysis.calibration_error()}


def boundary_rows(content: RunContent) -> list[tuple[str, float]]:
    """(class, boundary IoU) of the best member, the lowest first, where it was counted."""
    analysis = content.analysis
    if analysis is None or analysis.boundary_IoU is None:
        return []
    rows = zip(content.run.manifest.class_names, analysis.boundary_IoU.tolist(), strict=True)
    return sorted((row for row in rows if not math.isnan(row[1])), key=lambda row: row[1])


def masks_view(content: RunContent) -> dict[str, Any] | None:
    """Scores of each class at its threshold and the curves of the best member, where classes may overlap."""
    best = content.best
    if best is None or best.of_masks is None:
        return None
    columns = ("threshold", "precision", "recall", "Dice", "AP")
    rows = [
        (name, best.IoU.get(name), [best.of_masks[column][name] for column in columns])
        for name in content.run.manifest.class_names
    ]
    return {
        "columns": columns,
        "rows": rows,
        "svg": Markup(precision_recall_diagram(best.of_masks)),
        "split": content.run.evaluated_on,
    }


@dataclass(frozen=True)
class Shot:
    """One picture of the gallery."""

    id: str
    layers: Layers
    mIoU: float
    right: float


def gallery_view(content: RunContent, gallery: Gallery) -> dict[str, Any]:
    """The pictures as layers, worst and best, and the legend of their classes."""
    analysis, manifest = content.analysis, content.run.manifest
    pictures, colours, names = with_sets_of(
        [*gallery.worst, *gallery.best], tuple(manifest.palette), manifest.class_names, gallery.ignore_index
    )
    palette, num_worst = display_colours(colours), len(gallery.worst)
    scores = dict(zip(analysis.ids, analysis.image_mIoU.tolist(), strict=True)) if analysis else {}

    def shots(of_kind: Sequence[Picture]) -> list[Shot]:
        return [
            Shot(
                picture.id,
                layers_of(picture, palette, gallery.ignore_index),
                scores[picture.id],
                share_right(picture, gallery.ignore_index),
            )
            for picture in of_kind
        ]

    classes = [(names[i], palette[i]) for i in classes_in(pictures, gallery.ignore_index)]
    errors: list[tuple[str, Colour]] = [("wrong", WRONG), ("void", UNSCORED)]
    return {
        "kinds": [("Worst", shots(pictures[:num_worst])), ("Best", shots(pictures[num_worst:]))]
        if pictures
        else [],
        "classes": [*classes, ("void", VOID)],
        "errors": errors,
        "why_empty": gallery.why_empty,
    }


def baselines_of(group: Sequence[RunContent]) -> dict[str, float]:
    """mIoU on the images of a group without looking at them, by what is predicted."""
    for content in group:
        if content.analysis:
            return content.analysis.baselines.rows()
    return {}


def recipe_view(group: Sequence[RunContent]) -> dict[str, Any]:
    """The keys that differ between the runs; of a single run, those that are not the default."""
    known = [content for content in group if content.run.recipe]
    recipes = [content.run.recipe for content in known if content.run.recipe]
    if len(recipes) == 1:
        rows = [(key, [value, default]) for key, value, default in not_default(recipes[0])]
        return {"columns": [known[0].name, "default"], "rows": rows}
    return {"columns": [content.name for content in known], "rows": differences(recipes) if recipes else []}


def differences(recipes: Sequence[Recipe]) -> list[tuple[str, list[Any]]]:
    """(key, its value in each recipe) of the keys whose values differ."""
    each = [values_of(recipe) for recipe in recipes]
    rows = [(key, [values.get(key, ABSENT) for values in each]) for key in _keys(each)]
    return [(key, values) for key, values in rows if any(value != values[0] for value in values)]


def not_default(recipe: Recipe) -> list[tuple[str, Any, Any]]:
    """(key, value, default) where they differ; a key that only this recipe has is shown without a default."""
    values, defaults = values_of(recipe), values_of(Recipe(name=recipe.name))
    keys = _keys([values])
    return [
        (key, values[key], defaults.get(key, ABSENT))
        for key in keys
        if values[key] != defaults.get(key, ABSENT)
    ]


def _keys(each: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of all, in the order of the recipe."""
    keys = dict.fromkeys(key for values in each for key in values)
    return [key for key in keys if not key.startswith(PLACE_KEYS)]


def weights_facts(weights: Mapping[str, Any] | None) -> list[str]:
    """Where the weights came from and how much of each part they filled; the manifest lists every key."""
    if weights is None:
        return []
    facts = [f"{key}: {weights[key]}" for key in ("source", "layout", "licence") if weights.get(key)]
    parts = weights.get("parts", {}).items()
    shares = {
        name: part["num_matched_values"] / part["num_values"] for name, part in parts if part["num_values"]
    }
    return facts + [f"{name}: {share:.1%} filled" for name, share in shares.items()]


def protocols_of(group: Sequence[RunContent]) -> list[tuple[list[str], Mapping[str, Any]]]:
    """(names of the runs, their protocol) of each protocol that the scores of a group were made under."""
    found: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for content in group:
        if content.run.ensemble:
            protocol = content.run.ensemble["protocol"]
            found.setdefault(repr(protocol), ([], protocol))[0].append(content.name)
    return list(found.values())
