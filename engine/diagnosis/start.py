"""Where the training started: whether pretrained weights arrived, and whether the curve looks like it."""

from dataclasses import dataclass
from typing import Any, Literal

from engine.diagnosis.findings import Finding
from engine.scoring.run import Run

TOPIC = "weights"
FILLED = 0.95  # of the encoder: what a run asks of its weights
EARLY = 0.1  # of the training: the first evaluation has to lie before this to say anything
SLOW = 0.5  # of the best mIoU: a start below it, that early, is slow

Kind = Literal["random", "partly filled", "filled", "not told"]


@dataclass(frozen=True)
class Start:
    """kind: what the manifest says of the encoder.

    share: of the encoder's values that the weights filled, 0..1. source: of the weights.
    first: mIoU at the first evaluation and the best, in points, and when the first was, as a share of the
    training; None where the first came too late to say anything.
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
        """Whether weights are the first thing to look at."""
        return self.kind in ("random", "partly filled") or (self.kind == "not told" and self.is_slow)

    def evidence(self) -> str:
        share = 0.0 if self.share is None else 100 * self.share
        told = {
            "random": "The manifest says that training started from random weights.",
            "partly filled": f"The weights {self.source} filled only {share:.1f} % of the encoder.",
            "filled": f"The weights {self.source} filled {share:.1f} % of the encoder.",
            "not told": "The manifest does not tell where the training started.",
        }[self.kind]
        if self.first is None:
            return told
        low, best, when = self.first
        curve = (
            f"At {100 * when:.0f} % of the training mIoU was {low:.1f}, {100 * low / best:.0f} % of its best"
        )
        meaning = ", a slow start, as from random weights." if self.is_slow else "."
        return f"{told} {curve}{meaning}"

    def finding(self) -> Finding:
        return Finding(TOPIC, self.evidence())


def study_start(run: Run) -> Start:
    """From the manifest, the recipe and the first evaluation."""
    report: dict[str, Any] | None = run.manifest.weights
    if report is None:
        from_scratch = run.recipe is not None and run.recipe.model.from_scratch
        kind: Kind = "random" if from_scratch else "not told"
        return Start(kind, None, None, _first(run))
    encoder = report.get("parts", {}).get("encoder", {})
    share = encoder.get("num_matched_values", 0) / max(1, encoder.get("num_values", 0))
    kind = "filled" if share >= FILLED else "partly filled"
    return Start(kind, share, str(report.get("source", "")), _first(run))


def _first(run: Run) -> tuple[float, float, float] | None:
    steps, shares = run.curve("mIoU")
    if len(steps) < 2 or steps[0] > EARLY * steps[-1] or shares.max() <= 0:
        return None
    return 100 * float(shares[0]), 100 * float(shares.max()), float(steps[0] / steps[-1])
