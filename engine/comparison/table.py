"""The comparison: each method over its seeds and its difference to the first, in numbers and words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.comparison.columns import COLUMNS, Column
from engine.comparison.groups import groups_of
from engine.comparison.notes import notes
from engine.comparison.runs import Method, ScoredRun
from engine.recipe import Recipe
from engine.recipe.differences import changes
from engine.scoring.metrics import mean_iou_of_overlaps
from engine.scoring.run import Run
from engine.scoring.seeds import Difference, SeedScores, difference
from engine.scoring.statistics import (
    CONFIDENCE,
    FEW_IMAGES,
    Interval,
    draws,
    interval,
)
from engine.scoring.training_images import trained_on
from engine.wording import quantity


@dataclass(frozen=True)
class Gap:
    """A difference to the first method with its interval."""

    value: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.value:+.4f} [no interval]"
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Spread:
    """Of one score over the seeds; sd is None for a single one, all are None for a class that a run lacks."""

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Spread":
        if np.isnan(values).any():
            return cls(None, None, None, None)
        sd = float(values.std(ddof=1)) if len(values) > 1 else None
        return cls(float(values.mean()), sd, float(values.min()), float(values.max()))


@dataclass(frozen=True)
class FoldScore:
    """One run of a cross-validation. mIoU: of its best checkpoint on the images of its fold."""

    run: str
    seed: int
    num_images: int
    mIoU: float
    step: int


@dataclass(frozen=True)
class FoldEnsemble:
    """The best checkpoints of all folds as one saved ensemble, and its scores on the held-out split.

    num_trained_on: how many images of that split are in the training split, too. mIoU, low, high: of the
    ensemble, with its interval over images. of_members: the mean mIoU of its members. All four are None where
    there is no held-out split.
    """

    method: str
    path: str
    num_members: int
    split: str
    num_images: int = 0
    num_trained_on: int = 0
    mIoU: float | None = None
    low: float | None = None
    high: float | None = None
    of_members: float | None = None


@dataclass(frozen=True)
class MethodSummary:
    """One row of the table; `gap` and `class_gaps` are None in the row of the first method.

    folds: where the runs are those of folds. interval: of their mIoU, over images; NaN of few images.
    """

    name: str
    runs: list[str]
    seeds: list[int]
    values: list[float]  # mIoU by seed
    mIoU: Spread
    IoU: dict[str, Spread]
    gap: Gap | None
    class_gaps: dict[str, Gap | None]
    verdict: str
    figures: dict[str, float | None]  # of `COLUMNS`, mean over the runs; None where one was not measured
    curves: list[list[tuple[int, float | None]]]
    changed: list[str]  # recipe values that differ from those of the first method
    folds: list[FoldScore]
    interval: Interval | None


@dataclass(frozen=True)
class Comparison:
    """The content of the files, the page and the console; `ensembles` are over the folds."""

    methods: list[MethodSummary]
    class_names: list[str]
    num_images: int
    unit: str  # what intervals draw: "image", or "group" of images that belong together
    data: str
    protocol: dict[str, object]
    confidence: float  # of each interval, so that all of the mIoU together have 95 %
    notes: list[str]
    ensembles: list[FoldEnsemble]

    @property
    def has_folds(self) -> bool:
        return any(method.folds for method in self.methods)

    def to_dict(self) -> dict[str, Any]:
        """For compare.json."""
        return asdict(self)

    def largest_class_gaps(self, num: int) -> list[tuple[str, str, Gap]]:
        """(method, class, gap), the largest first, of those whose interval excludes 0."""
        gaps = [
            (method.name, name, gap)
            for method in self.methods
            for name, gap in method.class_gaps.items()
            if gap and gap.is_shown
        ]
        return sorted(gaps, key=lambda found: -abs(found[2].value))[:num]


def compare(methods: Sequence[Method], ensembles: Sequence[FoldEnsemble] = ()) -> Comparison:
    """Compare methods with the first of them; they have to be comparable (`require_comparable`)."""
    one = methods[0].runs[0]
    groups = groups_of(one.recipe, one.ids)
    drawn = draws(groups.number)
    num_gaps = max(1, len(methods) - 1)
    confidence = 1 - (1 - CONFIDENCE) / num_gaps  # Bonferroni
    scored = [
        SeedScores.of({run.seed: groups.summed(run.overlaps) for run in method.runs}, drawn)
        for method in methods
    ]
    found = [None, *(difference(scores, scored[0], confidence) for scores in scored[1:])]
    class_names = one.manifest.class_names
    data = one.manifest.data
    what = f"{data.train} by {len(one.folds)} folds" if one.folds else data.val
    return Comparison(
        methods=[
            _result(method, scores, gaps, class_names, one.recipe, groups.unit)
            for method, scores, gaps in zip(methods, scored, found, strict=True)
        ],
        class_names=class_names,
        num_images=len(one.ids),
        unit=groups.unit,
        data=f"{data.format} {what} ({one.val_fingerprint[:8]})",
        protocol=one.protocol,
        confidence=confidence,
        notes=[*notes(methods, scored, found, confidence, groups), *_about_ensembles(ensembles)],
        ensembles=list(ensembles),
    )


def _result(
    method: Method,
    scores: SeedScores,
    found: Difference | None,
    class_names: Sequence[str],
    first: Recipe,
    unit: str,
) -> MethodSummary:
    gaps = (
        [Gap(*map(float, of)) for of in zip(found.value, found.low, found.high, strict=True)] if found else []
    )
    parts = [part for run in method.runs for part in run.parts]
    folds = [fold for run in method.runs for fold in run.folds]
    of_draws = scores.drawn[:, :, 0].mean(axis=0) if scores.num_images >= FEW_IMAGES else np.empty(0)
    return MethodSummary(
        name=method.name,
        runs=[str(part.path) for part in parts],
        seeds=list(scores.seeds),
        values=[float(value) for value in scores.scores[:, 0]],
        mIoU=Spread.of(scores.scores[:, 0]),
        IoU={name: Spread.of(scores.scores[:, place]) for place, name in enumerate(class_names, 1)},
        gap=gaps[0] if gaps else None,
        class_gaps={
            name: None if math.isnan(gap.value) else gap
            for name, gap in zip(class_names, gaps[1:], strict=False)
        },
        verdict=_verdict(gaps[0], found, unit) if found else "reference",
        figures={name: _mean(column, parts) for name, column in COLUMNS.items()},
        curves=[[(row["step"], row["mIoU"]) for row in part.val_rows] for part in parts],
        changed=[
            f"{change.key}: {change.now} instead of {change.before}"
            for change in changes(first, method.runs[0].recipe)
            if change.key != "seed"
        ],
        folds=[_fold_score(fold) for fold in folds],
        interval=interval(of_draws) if folds else None,
    )


def _about_ensembles(ensembles: Sequence[FoldEnsemble]) -> list[str]:
    scored = [each for each in ensembles if each.mIoU is not None]
    if not ensembles:
        return []
    if not scored:
        return ["There is no held-out split, so the ensembles over the folds have no score of their own."]
    seen = trained_on(scored[0].num_trained_on, scored[0].num_images)
    images = quantity(scored[0].num_images, "image")
    return [
        f"The ensembles over the folds are scored on {scored[0].split}, {images}, "
        f"which no fold uses: other images than those of the scores by folds. {seen}".strip()
    ]


def _fold_score(fold: ScoredRun) -> FoldScore:
    mean = mean_iou_of_overlaps(fold.overlaps.sum(axis=0))
    return FoldScore(str(fold.path), fold.seed, len(fold.ids), mean, fold.run.best.step)


def _verdict(gap: Gap, found: Difference, unit: str) -> str:
    if gap.is_shown:
        verdict = f"{'better' if gap.value > 0 else 'worse'} by {abs(gap.value):.4f}"
    else:
        verdict = "no difference shown at this n"
    if found.counts_seeds:
        return verdict
    return f"{verdict} ({unit}s only: one seed says nothing about training noise)"


def _mean(column: Column, runs: Sequence[Run]) -> float | None:
    values = [value for run in runs if (value := column.value(run)) is not None]
    return float(np.mean(values)) if len(values) == len(runs) else None
