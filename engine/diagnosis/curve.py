"""The shape of a curve over steps: straight phases, and what a training twice as long could add.

Phases are a continuous piecewise linear fit; the number of pieces and the places where they meet are those of
the lowest BIC (Schwarz 1978). What more steps could add is estimated with two families of saturating curves,
a - b exp(-t / c) and a - b t^-p. Values are points: shares of 1 times 100.

Shapes: n evaluations.
"""

import itertools
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import stdtrit  # quantiles of Student's t; scipy.stats has them too, but loads slowly

from engine.scoring.run import Array

MAX_PHASES = 3
MAX_KNOTS = 40  # places that are tried as ends of a phase, however long the log
LEAST_NOISE = 0.3  # points: no fit is assumed to be better than this
ASSUMED_NOISE = 1.0  # points, where too few evaluations are left to estimate it
# Of Student's distribution: the number of standard errors above which a change is significant.
ALMOST_SURE = 0.998
PLATEAU = 0.2  # of the mean speed of the whole curve: a slower rise is no growth
SLOWING = 0.5  # of the speed of the fastest phase: a slower rise has slowed down
WORTH = 1.0  # points of mIoU that justify a remedy
SATURATED = 0.05  # of the rise so far: a curve with no more than this to come is saturated
LIKELY = 2.71  # how much worse than the best a curve may fit: 90 % of a likelihood ratio
MIN_FOR_OUTLOOK = 4  # evaluations
MIN_FOR_PHASES = 3
MIN_FOR_NOISE = 2  # points more than parameters: one more would say next to nothing


@dataclass(frozen=True)
class Phase:
    """One straight piece, from (start, low) to (end, high): steps and points; `slope` in points per step."""

    name: str  # growth, slowing, plateau, falling
    start: float
    end: float
    low: float
    high: float

    @property
    def slope(self) -> float:
        return (self.high - self.low) / (self.end - self.start)


@dataclass(frozen=True)
class Outlook:
    """What as many steps again would add, in points: the best fit, and the most that the data allow."""

    likely: float
    most: float


@dataclass(frozen=True)
class Shape:
    """A curve and what was fitted to it.

    noise: standard deviation around the phases, in points; None where too few points are left to estimate it.
    outlook: None where the curve does not rise, or has too few points.
    """

    steps: Array  # (n,)
    values: Array  # (n,)
    phases: list[Phase]
    noise: float | None
    outlook: Outlook | None

    @property
    def rises(self) -> bool:
        """Whether it rose by more than its noise."""
        return any(phase.name in ("growth", "slowing") for phase in self.phases)

    @property
    def still_rises(self) -> bool:
        """Whether more steps of the same kind are likely to add something worth having.

        Where an outlook is known it decides; a curve of three evaluations has none, only its last phase.
        """
        last = self.phases[-1].name
        if self.outlook is None:
            return last == "growth"
        return last != "falling" and not self.is_saturated and self.outlook.likely >= WORTH

    @property
    def is_saturated(self) -> bool:
        """Whether it rose, and no curve that fits has much more to come."""
        return self.outlook is not None and self.outlook.most <= SATURATED * self.rise

    @property
    def rise(self) -> float:
        """From the lowest to the highest of what was fitted, in points."""
        return float(np.ptp([self.phases[0].low, *(phase.high for phase in self.phases)]))


def shape_of(steps: Array, values: Array) -> Shape | None:
    """The shape of (n,) points at (n,) steps, which increase; None for fewer than three evaluations."""
    if len(steps) < MIN_FOR_PHASES:
        return None
    knots, heights, noise = fit_pieces(steps, values)
    phases = _named(knots, heights, noise, steps)
    rises = any(phase.name in ("growth", "slowing") for phase in phases)
    outlook = _outlook(steps, values, phases) if rises and len(steps) >= MIN_FOR_OUTLOOK else None
    return Shape(steps, values, phases, noise, outlook)


def fit_pieces(steps: Array, values: Array) -> tuple[Array, Array, float | None]:
    """Where the pieces of the best continuous piecewise linear fit meet.

    Returns:
        (K + 1,) steps, the first and the last among them, the heights there, and the noise: None where there
        are hardly more points than parameters.
    """
    num_steps = len(steps)
    least_gap = max(1, num_steps // 20)  # evaluations that a phase lasts at least
    tried = np.unique(np.linspace(least_gap, num_steps - 1 - least_gap, MAX_KNOTS).round().astype(int))
    x = (steps - steps[0]) / (steps[-1] - steps[0])
    best: tuple[float, Array, Array, float | None] | None = None
    for num_phases in range(1, min(MAX_PHASES, num_steps - 1) + 1):
        for inner in itertools.combinations(tried, num_phases - 1):
            if any(later - earlier < least_gap for earlier, later in itertools.pairwise(inner)):
                continue
            ends = x[[0, *inner, -1]]
            # hat functions: row i holds the share of each end in the height of point i
            hats = np.stack([np.interp(x, ends, unit) for unit in np.eye(len(ends))], axis=1)  # (n, K + 1)
            heights, *_ = np.linalg.lstsq(hats, values, rcond=None)
            squares = float(np.sum((values - hats @ heights) ** 2))
            # A knot costs two parameters, as its place was searched for, and its height one.
            penalty = 3 * num_phases - 1
            bic = _misfit(squares, num_steps) + penalty * np.log(num_steps)
            if best is None or bic < best[0]:
                left = num_steps - 2 * num_phases  # heights, and the steps between them
                noise = np.sqrt(squares / left) if left >= MIN_FOR_NOISE else None
                best = bic, steps[[0, *inner, -1]], heights, noise
    assert best is not None
    return best[1:]


def _misfit(squares: float, num: int) -> float:
    """-2 log-likelihood of a fit with this sum of squares, up to a constant."""
    return float(num * np.log(squares / num + LEAST_NOISE**2))


def _named(knots: Array, heights: Array, noise: float | None, steps: Array) -> list[Phase]:
    speeds = np.diff(heights) / np.diff(knots)
    num_left = len(steps) - 2 * len(speeds)
    if noise is None:
        beyond = stdtrit(np.inf, ALMOST_SURE) * ASSUMED_NOISE
    else:
        beyond = stdtrit(num_left, ALMOST_SURE) * max(noise, LEAST_NOISE)
    mean_speed = np.ptp(heights) / (knots[-1] - knots[0])
    phases = []
    for i, speed in enumerate(speeds):
        num = np.count_nonzero((steps >= knots[i]) & (steps <= knots[i + 1]))
        # standard error of the rise of a least squares line over `num` even points, for a noise of 1
        error = np.sqrt(12 * (num - 1) / (num * (num + 1)))
        if abs(heights[i + 1] - heights[i]) < beyond * error or abs(speed) < PLATEAU * mean_speed:
            name = "plateau"
        elif speed < 0:
            name = "falling"
        else:
            name = "growth" if speed >= SLOWING * speeds.max() else "slowing"
        phases.append(Phase(name, *map(float, (*knots[i : i + 2], *heights[i : i + 2]))))
    return [_joined(list(same)) for _, same in itertools.groupby(phases, key=lambda phase: phase.name)]


def _joined(phases: list[Phase]) -> Phase:
    """Merge neighbouring phases of the same name."""
    first, last = phases[0], phases[-1]
    return Phase(first.name, first.start, last.end, first.low, last.high)


def _outlook(steps: Array, values: Array, phases: list[Phase]) -> Outlook | None:
    """The gain at twice the last step, over all curves that fit about as well as the best."""
    start = next(phase.start for phase in phases if phase.name in ("growth", "slowing"))
    rising = steps >= start  # a flat start does not fit a saturating curve
    t, y = steps[rising] / steps[-1], values[rising]
    if len(t) < MIN_FOR_OUTLOOK:
        return None
    first = max(t[0], 0.5 * (t[1] - t[0]))
    decays = [partial(_exponential, c=c) for c in np.geomspace(0.02, 10, 80)]
    decays += [partial(_power, p=p, first=first) for p in np.geomspace(0.1, 4, 60)]
    fits = []  # (misfit, gain)
    for decay in decays:
        design = np.stack([np.ones_like(t), -decay(t)], axis=1)  # (n, 2)
        coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)  # a, b
        if coefficients[1] > 0:
            misfit = _misfit(float(np.sum((y - design @ coefficients) ** 2)), len(t))
            fits.append((misfit, float(coefficients[1] * (decay(np.array(1.0)) - decay(np.array(2.0))))))
    if not fits:
        return None
    best, likely = min(fits)
    return Outlook(likely, max(gain for misfit, gain in fits if misfit <= best + LIKELY))


def _exponential(t: Array, c: float) -> Array:
    decay: Array = np.exp(-t / c)
    return decay


def _power(t: Array, p: float, first: float) -> Array:
    decay: Array = np.maximum(t, first) ** -p
    return decay
