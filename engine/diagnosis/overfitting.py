"""Whether the loss rises on val while it falls on train.

The two are different functions: val's is the log-loss of the probabilities that are scored, train's comes
from augmented crops, perhaps with class weights. So trends are compared, never levels.
"""

from dataclasses import dataclass

import numpy as np

from engine.diagnosis.curve import shape_of
from engine.diagnosis.findings import Finding
from engine.scoring.run import Array, Run

TOPIC = "over-fitting"
CROSS_ENTROPY = "decode.loss_ce"
NOTABLE = 0.03  # by how much of its lowest value val loss has to rise
CAVEAT = "Training sees augmented crops, so trends are compared, not levels."


@dataclass(frozen=True)
class Losses:
    """Where val loss was lowest, and how both went on from there; each pair is (then, at the end).

    train: the training's cross-entropy, or its whole loss where there is none; None where too few rows
    follow.
    """

    best_step: float
    val: tuple[float, float]
    train_name: str
    train: tuple[float, float] | None
    miou: tuple[float, float] | None
    val_rises: bool

    @property
    def is_overfitting(self) -> bool:
        return self.val_rises and self.train is not None and self.train[1] < self.train[0]

    @property
    def only_confidence(self) -> bool:
        """Whether mIoU did not suffer: the probabilities became worse, the classes did not."""
        return self.miou is not None and self.miou[1] >= self.miou[0]

    def finding(self) -> Finding:
        low, last = self.val
        if not self.val_rises:
            return Finding(TOPIC, f"Val loss does not rise beyond its noise (last {last:.3f}). {CAVEAT}")
        rise = f"Val loss was lowest near step {self.best_step:,.0f} ({low:.3f}) and rose to {last:.3f}"
        if self.train is None:
            return Finding(TOPIC, f"{rise}; the log has too little of train to say why. {CAVEAT}")
        trend = f"the {self.train_name} of training went from {self.train[0]:.3f} to {self.train[1]:.3f}"
        if not self.is_overfitting:
            return Finding(TOPIC, f"{rise}, but {trend}: both rise, so this is no over-fitting. {CAVEAT}")
        also = ""
        if self.miou:
            moved = f"mIoU went from {self.miou[0]:.1f} to {self.miou[1]:.1f}"
            also = (
                f" Meanwhile {moved}: it is the confidence that suffers, not the classes."
                if self.only_confidence
                else f" Meanwhile {moved}."
            )
        return Finding(TOPIC, f"Over-fitting: {rise}, while {trend}.{also} {CAVEAT}")


def study_losses(run: Run) -> Losses | None:
    """None for fewer than three evaluations with a loss."""
    steps, val = run.curve("loss")
    scale = np.median(val) / 100 if len(val) else 0.0
    shape = shape_of(steps, val / scale) if scale > 0 else None  # in percent, for its thresholds
    if shape is None:
        return None
    heights = [shape.phases[0].low, *(phase.high for phase in shape.phases)]
    ends = [shape.phases[0].start, *(phase.end for phase in shape.phases)]
    lowest = int(np.argmin(heights))
    since = ends[lowest]
    rises = shape.phases[-1].name in ("growth", "slowing") and heights[-1] > (1 + NOTABLE) * heights[lowest]
    key = CROSS_ENTROPY if any(CROSS_ENTROPY in row for row in run.train_rows) else "loss"
    return Losses(
        since,
        (scale * heights[lowest], scale * heights[-1]),
        "cross-entropy" if key == CROSS_ENTROPY else "loss",
        _then_and_now(*run.curve(key, "train"), since),
        _nearest_and_last(*run.curve("mIoU"), since),
        rises,
    )


def _then_and_now(steps: Array, values: Array, since: float) -> tuple[float, float] | None:
    """Medians over the first and the last third of what follows."""
    later = values[steps >= since]
    third = len(later) // 3
    return (float(np.median(later[:third])), float(np.median(later[-third:]))) if third else None


def _nearest_and_last(steps: Array, shares: Array, since: float) -> tuple[float, float] | None:
    if not len(steps):
        return None
    return 100 * float(shares[np.abs(steps - since).argmin()]), 100 * float(shares[-1])
