"""Whether the probabilities mean what they say: expected calibration error (Guo et al. 2017, 1706.04599).

Over the labelled pixels of val, in bins of the winning probability.
"""

from dataclasses import dataclass

from engine.diagnosis.findings import Finding
from engine.scoring.calibration import Calibration
from engine.scoring.run import Run

TOPIC = "calibration"
NOTABLE = 3.0  # points of calibration error


@dataclass(frozen=True)
class Sureness:
    """In points: the expected calibration error, mean confidence, and share of pixels that are right."""

    error: float
    confidence: float
    accuracy: float

    @property
    def is_overconfident(self) -> bool:
        return self.error >= NOTABLE and self.confidence > self.accuracy

    def finding(self) -> Finding:
        side = "over" if self.confidence > self.accuracy else "under"
        verdict = f"The model is {side}confident" if self.error >= NOTABLE else "Probabilities can be trusted"
        return Finding(
            TOPIC,
            f"{verdict}: mean confidence {self.confidence:.1f} %, right {self.accuracy:.1f} %, expected "
            f"calibration error {self.error:.1f} points.",
        )


def study_calibration(run: Run) -> Sureness | None:
    """None where confidences were not counted."""
    if run.scores is None or run.predictor not in run.scores.reliability:
        return None
    counts = run.scores.reliability[run.predictor].sum(axis=0)  # (3, bins)
    num, confidence, right = counts.sum(axis=1)
    if not num:
        return None
    error = Calibration.of(counts).ece
    return Sureness(*(100 * float(share) for share in (error, confidence / num, right / num)))
