"""The learning rate range test (Smith 2015, arXiv 1506.01186): real updates at a rate that grows
exponentially, and the rate that their losses suggest. Restores the step afterwards.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from engine.data.batches import Batch
from engine.training.step import SupervisedStep

WINDOW = 0.125  # standard deviation of the smoothing, in decades of the rate
STOP_FACTOR = 4.0  # times the smallest smoothed loss so far, as in fastai
MIN_LOSSES = 10  # fewer give no suggestion
# How many standard errors of a smoothed loss count. A rise counts sooner, since too high a rate costs more.
FALL, RISE = 5.0, 3.0
SHARE = 0.9  # of the fall
RULE = (
    "the middle of the low part of the curve: from the rate with nine tenths of its fall to the rate at "
    "which it first rises by more than its noise"
)


@dataclass(frozen=True)
class RangeTest:
    """rates, losses: of each update. stopped: why the test ended before its last rate, or None."""

    rates: list[float]
    losses: list[float]
    stopped: str | None

    @cached_property
    def smoothed(self) -> list[float]:
        """Of the finite losses."""
        return [float(loss) for loss in smooth(self.rates, self._finite)]

    @property
    def verdict(self) -> Literal["found", "flat", "rises", "falls to the end"]:
        """What the curve shows; `found` has a suggestion."""
        if len(self._finite) < MIN_LOSSES:
            return "rises" if self.stopped else "flat"
        if self._fallen is None:
            has_risen = max(self.smoothed) > self.smoothed[0] + FALL * self.error
            return "rises" if has_risen or self.stopped else "flat"
        return "falls to the end" if self.rise is None else "found"

    @property
    def suggestion(self) -> float | None:
        """By RULE, on a logarithmic scale; None if the curve shows no such part."""
        if self.verdict != "found" or not (self.low and self.rise):
            return None
        return math.sqrt(self.low * self.rise)

    @property
    def low(self) -> float | None:
        """The first rate with SHARE of the fall before `rise`; None if the loss does not fall."""
        if self._fallen is None:
            return None
        end = len(self.smoothed) if self.rise is None else self.rates.index(self.rise)
        before = np.asarray(self.smoothed[:end])
        enough = before[0] - SHARE * (before[0] - before.min())
        return self.rates[int(np.flatnonzero(before <= enough)[0])]

    @cached_property
    def rise(self) -> float | None:
        """The rate at which the loss, after half of its fall, first rises or becomes infinite.

        None if it does not. Before, a plateau may rise by chance, such as that after the biases have learnt
        how frequent the classes are.
        """
        if self._fallen is None:
            return None
        after = np.asarray(self.smoothed[self._fallen :])
        risen = np.flatnonzero(after - np.minimum.accumulate(after) > RISE * self.error)
        if len(risen):
            return self.rates[self._fallen + int(risen[0])]
        return self.rates[-1] if self.stopped else None

    @cached_property
    def error(self) -> float:
        """The standard error of a smoothed loss.

        The noise of a single loss is estimated from the median difference between successive losses, which
        does not grow when the loss diverges; 0.954 is that median for normal noise of standard deviation 1.
        """
        noise = float(np.median(np.abs(np.diff(self._finite)))) / 0.954
        error = noise / math.sqrt(2 * math.sqrt(math.pi) * updates_per_window(self.rates))
        return max(error, 1e-6 * abs(self.smoothed[0]))  # above rounding

    @cached_property
    def _fallen(self) -> int | None:
        """The first update after half of the fall; None if the loss does not fall by more than its noise."""
        if len(self._finite) < MIN_LOSSES:
            return None
        fall = self.smoothed[0] - np.asarray(self.smoothed)
        return int(np.flatnonzero(fall >= fall.max() / 2)[0]) if fall.max() > FALL * self.error else None

    @property
    def _finite(self) -> list[float]:
        return [loss for loss in self.losses if math.isfinite(loss)]


def updates_per_window(rates: Sequence[float]) -> float:
    """How many updates there are within WINDOW, at least 1."""
    return max(1.0, WINDOW / math.log10(rates[1] / rates[0])) if len(rates) > 1 else 1.0


def smooth(rates: Sequence[float], losses: Sequence[float]) -> np.ndarray:
    """Means of neighbouring losses, weighted by a normal distribution over the logarithm of the rate.

    Both sides count, so that the curve does not lag behind the rates. Returns (len(losses),).
    """
    places = np.arange(len(losses)) / updates_per_window(rates)
    weights = np.exp(-0.5 * (places[:, None] - places) ** 2)
    return np.asarray(weights @ np.asarray(losses) / weights.sum(axis=1))


def range_test(
    step: SupervisedStep,
    batches: Iterator[Batch],
    rates: Sequence[float],
    base_lr: float,
    progress: Callable[[int, int], None],
) -> RangeTest:
    """One update at each rate, until the loss diverges; afterwards the step is bitwise what it was before.

    Args:
        rates: of the encoder, as `optimizer.lr`, in equal ratios; the other parameter groups keep their
            factors on it.
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
            stopped = _diverged(rates, losses)
            if stopped:
                break
            progress(done + 1, len(rates))
        progress(len(rates), len(rates))
    return RangeTest(list(rates[: len(losses)]), losses, stopped)


def _diverged(rates: Sequence[float], losses: list[float]) -> str | None:
    if not math.isfinite(losses[-1]):
        return "the loss became NaN or infinite"
    smoothed = smooth(rates, losses)
    if len(losses) >= MIN_LOSSES and smoothed[-1] > STOP_FACTOR * smoothed.min():
        return f"the smoothed loss is above {STOP_FACTOR:g} times its minimum"
    return None


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
