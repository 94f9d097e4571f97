"""The learning rate range test (Smith 2015, arXiv 1506.01186): real updates at a rate that grows
exponentially, and the rate that their losses suggest. Restores the step afterwards.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.data.batches import Batch
from engine.training.step import SupervisedStep

SMOOTHING = 0.9  # the weight of the previous value
STOP_FACTOR = 4.0  # times the smallest smoothed loss so far, as in fastai
MIN_LOSSES = 10  # fewer give no suggestion
RULE = "the smaller of two: where the smoothed loss falls fastest, and a tenth of where it is lowest"


@dataclass(frozen=True)
class RangeTest:
    """rates, losses: of each update. stopped: why the test ended before its last rate, or None."""

    rates: list[float]
    losses: list[float]
    stopped: str | None

    @property
    def smoothed(self) -> list[float]:
        """Averaged from both directions, so that the curve does not lag behind the rates."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        backward = exponential_mean(finite[::-1])[::-1]
        return [(a + b) / 2 for a, b in zip(exponential_mean(finite), backward, strict=True)]

    @property
    def lowest(self) -> float | None:
        """The rate at the minimum of the smoothed loss; None if it still falls at the end of the range."""
        smoothed = self.smoothed
        place = int(np.argmin(smoothed)) if smoothed else 0
        at_the_end = place >= len(smoothed) - max(2, len(smoothed) // 20)
        return None if not smoothed or at_the_end else self.rates[place]

    @property
    def suggestion(self) -> float | None:
        """By RULE; None if the loss never falls, or after too few updates."""
        if self.steepest is None or self.lowest is None:
            return self.steepest
        return min(self.steepest, self.lowest / 10)

    @property
    def steepest(self) -> float | None:
        """The rate before the minimum at which the smoothed loss falls fastest per decade of the rate."""
        smoothed = np.asarray(self.smoothed)
        edge = max(1, len(smoothed) // 20)  # averages over few losses are too noisy for a slope
        last = int(smoothed.argmin()) if len(smoothed) else 0
        if len(smoothed) < MIN_LOSSES or last <= edge:
            return None
        slopes = np.gradient(smoothed, np.log10(self.rates[: len(smoothed)]))[edge : last + 1]
        return self.rates[edge + int(slopes.argmin())] if slopes.min() < 0 else None


def range_test(
    step: SupervisedStep,
    batches: Iterator[Batch],
    rates: Sequence[float],
    base_lr: float,
    progress: Callable[[int, int], None],
) -> RangeTest:
    """One update at each rate, until the loss diverges; afterwards the step is bitwise what it was before.

    Args:
        rates: of the encoder, as `optimizer.lr`; the other parameter groups keep their factors on it.
        base_lr: `optimizer.lr` of the recipe.
        progress: called with (done, total).
    """
    losses: list[float] = []
    stopped = None
    with unchanged(step):
        first = step.count
        step.lr_factor = lambda count: rates[count - first] / base_lr
        for done in range(len(rates)):
            losses.append(float(step(next(batches))["loss"]))
            stopped = _diverged(losses)
            if stopped:
                break
            progress(done + 1, len(rates))
        progress(len(rates), len(rates))
    return RangeTest(list(rates[: len(losses)]), losses, stopped)


def _diverged(losses: list[float]) -> str | None:
    if not math.isfinite(losses[-1]):
        return "the loss became NaN or infinite"
    smoothed = exponential_mean(losses)
    if len(losses) >= MIN_LOSSES and smoothed[-1] > STOP_FACTOR * min(smoothed):
        return f"the smoothed loss is above {STOP_FACTOR:g} times its minimum"
    return None


def exponential_mean(values: Sequence[float]) -> list[float]:
    """Exponential moving average of the values so far, corrected for its start at 0 as in Adam."""
    mean, means = 0.0, []
    for count, value in enumerate(values, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        means.append(mean / (1 - SMOOTHING**count))
    return means


@contextmanager
def unchanged(step: SupervisedStep) -> Iterator[None]:
    """Restores weights, moving average, discriminator, optimisers, loss scales, and counts."""
    parts: list[Any] = [*step.modules.values(), *step.optimizers.values(), *step.scalers.values()]
    states = [deepcopy(part.state_dict()) for part in parts]
    count, lr_factor, random_state = step.count, step.lr_factor, torch.get_rng_state()
    try:
        yield
    finally:
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        step.count, step.lr_factor = count, lr_factor
        torch.set_rng_state(random_state)
