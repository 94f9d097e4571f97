"""Confidence intervals of scores, by bootstrap over the images of a split.

Images are drawn, since pixels of one image are not independent. Comparisons use the same draws for both.
A class that occurs in one or two images is missing from many draws, whose mIoU is then the mean over the
other classes: where such classes score badly, the interval of the mIoU is biased upwards.
Fewer than FEW_IMAGES images get no interval, since the bootstrap of so few is too narrow.

Shapes: N images, C classes, S draws.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.scoring.metrics import ratio

NUM_DRAWS = 2000
CONFIDENCE = 0.95
FEW_IMAGES = 20

Overlaps = NDArray[np.int64]  # (N, 2, C), intersection and union: `overlaps` of confusion matrices


class Interval(NamedTuple):
    """Percentile interval of a bootstrap (Efron 1979)."""

    low: float
    high: float


def draws(num_images: int, num_draws: int = NUM_DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """(S, N): how often each image is drawn."""
    shares = np.full(num_images, 1 / num_images)
    return np.random.default_rng(seed).multinomial(num_images, shares, num_draws).astype(np.float64)


def enough(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """The draws (S, N), or none of them, (0, N), where they are of too few images for an interval."""
    return drawn if drawn.shape[1] >= FEW_IMAGES else drawn[:0]


def few_images(
    num_images: int,
    lowest: float = math.nan,
    highest: float = math.nan,
    what: str = "mIoU",
    unit: str = "image",
) -> str:
    """What can be said of fewer than FEW_IMAGES scored images; empty for more.

    The median of the images that these were drawn from is outside their range only if all of them are on one
    side of it, which has a probability of at most 2 / 2^n, whatever the distribution.

    Args:
        lowest, highest: mIoU of the images; NaN where they are not known.
        what: these are of each image.
        unit: what is counted, "image" or "group" (of images that belong together).
    """
    if num_images >= FEW_IMAGES or num_images == 0:
        return ""
    if num_images == 1:
        return f"Only 1 {unit} was scored: the result may be quite different on others."
    text = f"Only {num_images} {unit}s were scored, which are too few for a 95 % interval."
    if math.isnan(lowest):
        return text
    percent = math.floor(1000 * (1 - 2.0 ** (1 - num_images))) / 10
    return (
        f"{text} Their own {what} range from {lowest:.4f} to {highest:.4f}. If they were drawn "
        f"independently, the median of all such {unit}s is in that range with a probability of at least "
        f"{percent:g} %."
    )


def range_of(of_images: NDArray[np.float64]) -> tuple[float, float]:
    """The lowest and the highest of (N,) values, without NaN; NaN where there is none."""
    known = of_images[~np.isnan(of_images)]
    return (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)


def drawn_iou(found: Overlaps, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, C): IoU of each class on each draw, NaN where neither label nor prediction holds it."""
    return ratio(drawn @ found[:, 0], drawn @ found[:, 1])


def image_mean_iou(found: Overlaps) -> NDArray[np.float64]:
    """(N,) of each image, over the classes present in it; NaN where there are none."""
    return means_of_present(ratio(*found.transpose(1, 0, 2)))


def means_of_present(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,) mean over the classes present, NaN where there are none, from (S, C)."""
    is_present = ~np.isnan(iou)
    return ratio(iou.sum(axis=1, where=is_present), is_present.sum(axis=1))


def mean_iou_interval(found: Overlaps, drawn: NDArray[np.float64]) -> Interval:
    """Of the mIoU over classes present; NaN for few images."""
    return interval(means_of_present(drawn_iou(found, enough(drawn))))


def gain_interval(before: Overlaps, after: Overlaps, drawn: NDArray[np.float64]) -> Interval:
    """Of mIoU after minus before, both on the same draws of the same images; NaN for few images."""
    drawn = enough(drawn)
    of_both = (means_of_present(drawn_iou(found, drawn)) for found in (after, before))
    return interval(np.subtract(*of_both))


def optimism_of_the_best(found: Sequence[Overlaps], drawn: NDArray[np.float64]) -> float:
    """The optimism of the best of several mIoU: how much of its lead over their mean comes from its choice.

    On each draw the best is chosen on the drawn images, and its lead is taken on the others, which it was not
    chosen on (Tsamardinos et al. 2018, arXiv 1708.07180). NaN for few images.
    """
    drawn = enough(drawn)
    inside, outside = (
        np.stack([means_of_present(drawn_iou(of_one, rows)) for of_one in found])  # (several, S)
        for rows in (drawn, (drawn == 0).astype(np.float64))
    )
    known = ~(np.isnan(inside) | np.isnan(outside)).any(axis=0)
    if not known.any():
        return math.nan
    inside, outside = inside[:, known], outside[:, known]
    of_best = np.take_along_axis(outside, inside.argmax(axis=0)[None], axis=0)[0]
    every = np.ones((1, drawn.shape[1]))
    whole = np.array([means_of_present(drawn_iou(of_one, every))[0] for of_one in found])
    return float(whole.max() - whole.mean() - (of_best - outside.mean(axis=0)).mean())


def interval(values: NDArray[np.float64]) -> Interval:
    """Between the outer percentiles over all draws."""
    seen = values[~np.isnan(values)]
    if not len(seen):
        return Interval(float("nan"), float("nan"))
    outside = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(seen, [outside, 100 - outside])
    return Interval(float(low), float(high))
