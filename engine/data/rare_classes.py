"""Rare classes: which classes are rare, and how often each image should be drawn so that they are seen.

After rare class sampling (Hoyer et al. 2022, DAFormer, arXiv 2111.14887): draw a class c with P(c) =
softmax((1 - share) / T), then uniformly one of the images with enough pixels of it. Together the two draws
are one probability per image. Two things differ from the paper, whose street scenes have most classes in
every image; on photos of single objects its T of 0.01 would hardly ever draw images of the common classes:

- T follows from the shares, so that the rarest class is drawn RATIO times as often as the most frequent one;
- an image is drawn at most ten times and at least a tenth as often as the median image, because otherwise the
  only image of a class would be repeated again and again.

Shapes: N images, C classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.class_counts import ClassCounts
from engine.data.class_weights import bounded

Array = NDArray[Any]

RARE_SHARE = 0.01  # of the labelled pixels; a present class with less is called rare
RATIO = 10.0  # between the probabilities of the rarest and the most frequent class
ENOUGH_SHARE = 3000 / 2048 / 1024  # of an image's labelled pixels; the paper: 3000 px of a Cityscapes frame


def rare_classes(counts: ClassCounts) -> list[tuple[int, float]]:
    """(class id, share of the labelled pixels) of each class that is present and rare, rarest first."""
    rare = [(id, share) for id, share in enumerate(counts.shares.tolist()) if 0 < share < RARE_SHARE]
    return sorted(rare, key=lambda found: found[1])


def temperature(shares: Array) -> float:
    """T of the softmax, from the shares (C,) of the classes; infinite where all are equal."""
    present = shares[shares > 0]
    spread = float(np.ptp(present)) if len(present) else 0.0
    return spread / math.log(RATIO) if spread > 0 else math.inf


def class_probabilities(shares: Array, temperature: float) -> Array:
    """(C,): the probability of each class; 0 for a class that is absent, with sum 1.

    Args:
        shares: (C,) of the labelled pixels.
        temperature: above 0; infinite: uniform over the present classes.
    """
    present = shares > 0
    rarest = shares[present].min(initial=1.0)  # so that the largest exponent is 0 and nothing overflows
    appeal = np.where(present, np.exp((rarest - shares) / temperature), 0.0)
    return np.asarray(appeal / max(appeal.sum(), 1.0))


def image_probabilities(counts: ClassCounts) -> Array:
    """(N,): the probability of each image, with sum 1; 0 for images without a labelled pixel.

    A class of which no image has enough is drawn from all images that contain it. Where no image has a label,
    all have the same probability.
    """
    pixels = counts.pixels
    labelled = pixels.sum(axis=1)  # (N,)
    if not labelled.any():
        return np.full(len(pixels), 1 / len(pixels))
    present = pixels > 0  # (N, C)
    enough = present & (pixels >= ENOUGH_SHARE * labelled[:, None])
    eligible = np.where(enough.any(axis=0), enough, present)
    by_class = class_probabilities(counts.shares, temperature(counts.shares))
    wanted = eligible @ (by_class / np.maximum(1, eligible.sum(axis=0)))  # (N,)
    probabilities = np.zeros(len(pixels))
    probabilities[labelled > 0] = bounded(wanted[labelled > 0])
    return np.asarray(probabilities / probabilities.sum())


def probabilities_in_sets(
    counts: ClassCounts, shares: NDArray[np.float64] | None, sizes: Sequence[int]
) -> Array:
    """(N,): `image_probabilities`, where each of several data sets keeps its share.

    Args:
        shares: (N,) of the images, by the weights of their sets; None: these have no weights.
        sizes: number of images of each set.
    """
    if shares is None:
        return image_probabilities(counts)
    ends = np.cumsum(sizes)
    rows = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    of_sets = [image_probabilities(ClassCounts(counts.pixels[own], counts.void[own])) for own in rows]
    return np.concatenate([shares[own].sum() * part for own, part in zip(rows, of_sets, strict=True)])
