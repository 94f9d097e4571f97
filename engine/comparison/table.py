"""The comparison: each method over its seeds and its difference to the first, in numbers and words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.comparison.columns import COLUMNS, Column
from engine.comparison.notes import notes
from engine.comparison.runs import Method
from engine.recipe import Recipe, changes
from engine.scoring.run import Run
from engine.scoring.seeds import Difference, SeedScores, difference
from engine.scoring.statistics import CONFIDENCE, draws


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
            return f"{self.value:+.4f} [too few images]"
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
class MethodSummary:
    """One row of the table; `gap` and `class_gaps` are None in the row of the first method."""

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


@dataclass(frozen=True)
class Comparison:
    """The content of the files, the page and the console."""

    methods: list[MethodSummary]
    class_names: list[str]
    num_images: int
    data: str
    protocol: dict[str, object]
    confidence: float  # of each interval, so that all of the mIoU together have 95 %
    notes: list[str]

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


def compare(methods: Sequence[Method]) -> Comparison:
    """Compare methods with the first of them; they have to be comparable (`require_comparable`)."""
    one = methods[0].runs[0]
    drawn = draws(len(one.ids))
    num_gaps = max(1, len(methods) - 1)
    confidence = 1 - (1 - CONFIDENCE) / num_gaps  # Bonferroni
    scored = [SeedScores.of({run.seed: run.overlaps for run in method.runs}, drawn) for method in methods]
    found = [None, *(difference(scores, scored[0], confidence) for scores in scored[1:])]
    class_names = one.manifest.class_names
    data = one.manifest.data
    return Comparison(
        methods=[
            _result(method, scores, gaps, class_names, methods[0].runs[0].recipe)
            for method, scores, gaps in zip(methods, scored, found, strict=True)
        ],
        class_names=class_names,
        num_images=len(one.ids),
        data=f"{data.format} {data.val} ({data.val_fingerprint[:8]})",
        protocol=one.protocol,
        confidence=confidence,
        notes=notes(methods, scored, found, confidence),
    )


def _result(
    method: Method,
    scores: SeedScores,
    found: Difference | None,
    class_names: Sequence[str],
    first: Recipe,
) -> MethodSummary:
    gaps = (
        [Gap(*map(float, of)) for of in zip(found.value, found.low, found.high, strict=True)] if found else []
    )
    return MethodSummary(
        name=method.name,
        runs=[str(run.path) for run in method.runs],
        seeds=list(scores.seeds),
        values=[float(value) for value in scores.scores[:, 0]],
        mIoU=Spread.of(scores.scores[:, 0]),
        IoU={name: Spread.of(scores.scores[:, place]) for place, name in enumerate(class_names, 1)},
        gap=gaps[0] if gaps else None,
        class_gaps={
            name: None if math.isnan(gap.value) else gap
            for name, gap in zip(class_names, gaps[1:], strict=False)
        },
        verdict=_verdict(gaps[0], found) if found else "reference",
        figures={name: _mean(column, [run.run for run in method.runs]) for name, column in COLUMNS.items()},
        curves=[[(row["step"], row["mIoU"]) for row in run.run.val_rows] for run in method.runs],
        changed=[
            f"{change.key}: {change.now} instead of {change.before}"
            for change in changes(first, method.runs[0].recipe)
            if change.key not in ("name", "seed")
        ],
    )


def _verdict(gap: Gap, found: Difference) -> str:
    if gap.is_shown:
        verdict = f"{'better' if gap.value > 0 else 'worse'} by {abs(gap.value):.4f}"
    else:
        verdict = "no difference shown at this n"
    if found.counts_seeds:
        return verdict
    return f"{verdict} (images only: one seed says nothing about training noise)"


def _mean(column: Column, runs: Sequence[Run]) -> float | None:
    values = [value for run in runs if (value := column.value(run)) is not None]
    return float(np.mean(values)) if len(values) == len(runs) else None
