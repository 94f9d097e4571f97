"""How a training went: where it started, whether it over-fitted, whether it waited for data."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engine.data.resident import IMAGES
from engine.diagnosis.curve import shape_of
from engine.diagnosis.remedies import DATA_WAIT_SHARE
from engine.scoring.run import Array, Run, series

FILLED = 0.95  # of the encoder: what a run requires its weights to fill
EARLY = 0.1  # of the training: a first evaluation later than this says nothing about the start
SLOW = 0.5  # of the best mIoU: less than that, so early, is a slow start
CROSS_ENTROPY = "decode.loss_ce"
NOTABLE_RISE = 0.03  # of the lowest val loss
CAVEAT = "Training sees augmented crops, so trends are compared, not levels."

Kind = Literal["random", "partly filled", "filled", "unknown"]


@dataclass(frozen=True)
class Start:
    """kind: what the manifest says of the encoder.

    share: of the encoder's values that the weights filled, 0..1. source: of the weights.
    first: mIoU at the first evaluation and the best, in points, and when the first was, as a share of the
    training; None where the first was too late to say anything.
    """

    kind: Kind
    share: float | None
    source: str | None
    first: tuple[float, float, float] | None

    @property
    def is_slow(self) -> bool:
        return self.first is not None and self.first[0] < SLOW * self.first[1]

    @property
    def is_suspect(self) -> bool:
        """Whether the weights are the first thing to check."""
        return self.kind in ("random", "partly filled") or (self.kind == "unknown" and self.is_slow)

    def __str__(self) -> str:
        share = 0.0 if self.share is None else 100 * self.share
        origin = {
            "random": "The manifest says that training started from random weights.",
            "partly filled": f"The weights {self.source} filled only {share:.1f} % of the encoder.",
            "filled": f"The weights {self.source} filled {share:.1f} % of the encoder.",
            "unknown": "The manifest does not say which weights the training started from.",
        }[self.kind]
        if self.first is None:
            return origin
        first, best, when = self.first
        curve = f"At {100 * when:.0f} % of the training mIoU was {first:.1f}, "
        meaning = ", a slow start, as from random weights." if self.is_slow else "."
        return f"{origin} {curve}{100 * first / best:.0f} % of its best{meaning}"


def study_start(run: Run) -> Start:
    """From the manifest, the recipe and the first evaluation."""
    report: dict[str, Any] | None = run.manifest.weights
    if report is None:
        from_scratch = run.recipe is not None and run.recipe.model.from_scratch
        return Start("random" if from_scratch else "unknown", None, None, _first(run))
    encoder = report.get("parts", {}).get("encoder", {})
    share = encoder.get("num_matched_values", 0) / max(1, encoder.get("num_values", 0))
    kind: Kind = "filled" if share >= FILLED else "partly filled"
    return Start(kind, share, str(report.get("source", "")), _first(run))


def _first(run: Run) -> tuple[float, float, float] | None:
    steps, shares = series(run.val_rows, "mIoU")
    if len(steps) < 2 or steps[0] > EARLY * steps[-1] or shares.max() <= 0:
        return None
    return 100 * float(shares[0]), 100 * float(shares.max()), float(steps[0] / steps[-1])


@dataclass(frozen=True)
class Losses:
    """Where val loss was lowest, and how both losses went on from there; each pair is (then, at the end).

    The losses are different functions: that of val is the log-loss of the probabilities that are scored, that
    of training comes from augmented crops, perhaps with class weights. So only their trends are compared.

    train: the training's cross-entropy, or its whole loss where there is none; None where too few log rows
    follow. split: that of `val`.
    """

    best_step: float
    val: tuple[float, float]
    train_name: str
    train: tuple[float, float] | None
    miou: tuple[float, float] | None
    val_rises: bool
    split: str = "val"

    @property
    def is_overfitting(self) -> bool:
        return self.val_rises and self.train is not None and self.train[1] < self.train[0]

    @property
    def only_confidence(self) -> bool:
        """Whether mIoU did not fall: the probabilities became worse, the predicted classes did not."""
        return self.miou is not None and self.miou[1] >= self.miou[0]

    def __str__(self) -> str:
        low, last = self.val
        loss = "Val loss" if self.split == "val" else f"The loss on {self.split}"
        if not self.val_rises:
            return f"{loss} does not rise beyond its noise (last {last:.3f}). {CAVEAT}"
        rise = f"{loss} was lowest near step {self.best_step:,.0f} ({low:.3f}) and rose to {last:.3f}"
        if self.train is None:
            return f"{rise}; the log has too few training rows to say why. {CAVEAT}"
        trend = f"the {self.train_name} of training went from {self.train[0]:.3f} to {self.train[1]:.3f}"
        if not self.is_overfitting:
            return f"{rise}, but {trend}: both rise, so this is not over-fitting. {CAVEAT}"
        also = ""
        if self.miou:
            also = f" Meanwhile mIoU went from {self.miou[0]:.1f} to {self.miou[1]:.1f}"
            also += ": only the confidence became worse, not the classes." if self.only_confidence else "."
        return f"Over-fitting: {rise}, while {trend}.{also} {CAVEAT}"


def study_losses(run: Run) -> Losses | None:
    """None for fewer than three evaluations with a loss."""
    steps, val = series(run.val_rows, "loss")
    scale = np.median(val) / 100 if len(val) else 0.0
    shape = shape_of(steps, val / scale) if scale > 0 else None  # in percent, for its thresholds
    if shape is None:
        return None
    heights = [shape.phases[0].low, *(phase.high for phase in shape.phases)]
    ends = [shape.phases[0].start, *(phase.end for phase in shape.phases)]
    lowest = int(np.argmin(heights))
    # a line can end below or above all that was measured
    low, last = np.clip((scale * heights[lowest], scale * heights[-1]), val.min(), val.max())
    is_up = heights[-1] > (1 + NOTABLE_RISE) * heights[lowest]
    has_cross_entropy = any(CROSS_ENTROPY in row for row in run.train_rows)
    return Losses(
        best_step=ends[lowest],
        val=(float(low), float(last)),
        train_name="cross-entropy" if has_cross_entropy else "loss",
        train=_first_and_last_third(
            *series(run.train_rows, CROSS_ENTROPY if has_cross_entropy else "loss"), ends[lowest]
        ),
        miou=_nearest_and_last(*series(run.val_rows, "mIoU"), ends[lowest]),
        val_rises=shape.phases[-1].name in ("growth", "slowing") and is_up,
        split=run.evaluated_on,
    )


def _first_and_last_third(steps: Array, values: Array, since: float) -> tuple[float, float] | None:
    """Medians of the rows after `since`."""
    later = values[steps >= since]
    third = len(later) // 3
    return (float(np.median(later[:third])), float(np.median(later[-third:]))) if third else None


def _nearest_and_last(steps: Array, shares: Array, since: float) -> tuple[float, float] | None:
    if not len(steps):
        return None
    return 100 * float(shares[np.abs(steps - since).argmin()]), 100 * float(shares[-1])


@dataclass(frozen=True)
class Speed:
    """Medians over the log: seconds per update, and the share of it spent waiting for its batch.

    images: IN_MEMORY or ON_DISK; None where the manifest does not say.
    """

    seconds: float
    data_share: float
    images: str | None

    @property
    def is_data_bound(self) -> bool:
        return self.data_share > DATA_WAIT_SHARE

    def __str__(self) -> str:
        verdict = "Training waits for data" if self.is_data_bound else "Training does not wait for data"
        return (
            f"{verdict}: {100 * self.data_share:.0f} % of an update of {self.seconds:.2f} s passes before "
            f"its batch is ready (medians over the log{f'; images {self.images}' if self.images else ''})."
        )


def study_speed(run: Run) -> Speed | None:
    """None where the log has no times."""
    rows = [row for row in run.train_rows if row.get("time")]
    steps, seconds = series(rows, "time")
    data_steps, data_seconds = series(rows, "data_time")
    if not len(steps) or not np.array_equal(steps, data_steps):
        return None
    images = run.manifest.environment.get(IMAGES)
    return Speed(float(np.median(seconds)), float(np.median(data_seconds / seconds)), images)
