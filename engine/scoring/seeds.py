"""Confidence interval of the difference of two methods, each trained with several seeds, on the same images.

Both the seeds and the images are samples, and the interval covers both. A bootstrap over the seeds would be
too narrow, since redrawing 3 seeds gives at most 3 different ones; so only the images are redrawn, and
Student's t accounts for the seeds.

Shapes: R runs of a method, S draws of the images, K scores of a run: its mIoU, then the IoU of each class.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # quantiles of Student's t; scipy.stats has them too, but loads slowly

from engine.scoring.statistics import (
    CONFIDENCE,
    FEW_IMAGES,
    Overlaps,
    drawn_iou,
    image_mean_iou,
    means_of_present,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SeedScores:
    """The scores of one method, one run per seed; NaN where a class is absent."""

    seeds: tuple[int, ...]
    scores: Floats  # (R, K), on the images as they are
    drawn: Floats  # (R, S, K), on each draw
    of_images: Floats  # (R, N), mIoU of each image, over the classes present in it

    @property
    def num_images(self) -> int:
        return len(self.of_images[0])

    @classmethod
    def of(cls, runs: Mapping[int, Overlaps], drawn: Floats) -> "SeedScores":
        """From the overlaps of each image by seed, (N, 2, C), and how often each draw holds it, (S, N)."""
        once = np.ones((1, drawn.shape[1]))
        scores = [_with_mean(drawn_iou(found, once)) for found in runs.values()]
        of_draws = [_with_mean(drawn_iou(found, drawn)) for found in runs.values()]
        of_images = [image_mean_iou(found) for found in runs.values()]
        return cls(tuple(runs), np.concatenate(scores), np.stack(of_draws), np.stack(of_images))


@dataclass(frozen=True)
class Difference:
    """(K,) each: mean over the seeds of one method minus that of another, and an interval around it.

    of_images: (N,) the same of the mIoU of each image. For fewer than FEW_IMAGES the ends are NaN.
    `is_paired`: both have the same seeds, and were compared seed by seed. `counts_seeds`: the interval covers
    other seeds; it cannot where a method has only one.
    """

    value: Floats
    low: Floats
    high: Floats
    of_images: Floats
    is_paired: bool
    counts_seeds: bool


def difference(ours: SeedScores, first: SeedScores, confidence: float = CONFIDENCE) -> Difference:
    """The mean over seeds of `ours` minus that of `first`, both on the same draws of the same images.

    Runs of one seed see the same images in the same order and may be correlated; methods with the same seeds
    are therefore compared seed by seed, which is valid with or without correlation.

    The variance of the difference has two parts: that of the images, from the draws, and that of the seeds,
    from the spread of the runs on the original images, less the part that the draws explain (what a seed
    changes on single images is in both). The squares of their half-widths add up (MOVER, Zou & Donner 2008):
    t with N-1 degrees of freedom for the images; for the seeds R-1, or Welch's where they are not paired.
    """
    is_paired = sorted(ours.seeds) == sorted(first.seeds)
    if is_paired:
        order = [first.seeds.index(seed) for seed in ours.seeds]
        parts = [(ours.scores - first.scores[order], ours.drawn - first.drawn[order])]
    else:
        parts = [(ours.scores, ours.drawn), (-first.scores, -first.drawn)]
    value = sum((scores.mean(axis=0) for scores, _ in parts), np.zeros(ours.scores.shape[1]))
    of_images = _variance(sum((drawn.mean(axis=0) for _, drawn in parts), np.zeros(ours.drawn.shape[1:])))
    outside = 1 - (1 - confidence) / 2
    square = stdtrit(ours.num_images - 1, outside) ** 2 * of_images
    counts_seeds = all(len(scores) > 1 for scores, _ in parts)
    if counts_seeds:
        square = square + _seed_square(parts, outside)
    known = ~np.isnan(value) & (ours.num_images >= FEW_IMAGES)
    half = np.where(known, np.sqrt(square), np.nan)
    each = ours.of_images.mean(axis=0) - first.of_images.mean(axis=0)
    return Difference(value, value - half, value + half, each, is_paired, counts_seeds)


def _seed_square(parts: list[tuple[Floats, Floats]], outside: float) -> Floats:
    """(K,) the square of the seeds' half-width."""
    of_runs = np.stack([scores.var(axis=0, ddof=1) / len(scores) for scores, _ in parts])
    explained = np.stack([_variance_within(drawn) / len(drawn) for _, drawn in parts])
    freedom = np.array([len(scores) - 1 for scores, _ in parts])
    welch = np.divide(
        of_runs.sum(axis=0) ** 2,
        (of_runs**2 / freedom[:, None]).sum(axis=0),
        out=np.ones(of_runs.shape[1]),
        where=of_runs.sum(axis=0) > 0,
    )
    of_seeds = np.maximum(0.0, (of_runs - explained).sum(axis=0))
    square: Floats = stdtrit(welch, outside) ** 2 * of_seeds
    return square


def _variance_within(drawn: Floats) -> Floats:
    """(K,) variance over draws of each run's deviation from the mean of its method, from (R, S, K)."""
    deviation = drawn - drawn.mean(axis=0)
    variance: Floats = np.sum([_variance(run) for run in deviation], axis=0) / (len(drawn) - 1)
    return variance


def _variance(drawn: Floats) -> Floats:
    """(K,) variance over draws, from (S, K), of those draws that hold the class."""
    held = np.ma.masked_invalid(drawn)
    variance: Floats = held.var(axis=0, ddof=1).filled(np.nan)
    return variance


def _with_mean(iou: Floats) -> Floats:
    """(S, 1 + C): mIoU over classes present, then the IoU of each, from (S, C)."""
    return np.column_stack([means_of_present(iou), iou])
