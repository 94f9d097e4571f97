"""Class weights for a loss, from class frequencies: pure functions of counts.

Each scheme gives positive weights for the classes that are present. They are clipped to between a tenth and
ten times their median, then divided by their mean. Without the upper bound a class of a few pixels, perhaps
mislabelled, would dominate the training; without the lower bound false positives on a background of 99 %
would cost next to nothing.

Shapes: N images, C classes; (P,) for the classes that are present.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.class_counts import ClassCounts

Array = NDArray[Any]

REACH = 10.0  # a weight is at most this times the median, and at least the median divided by this
ENET_C = 1.02  # of arXiv 1606.02147
DECIMALS = 6  # of the numbers that go into a recipe


def class_weights(scheme: str, counts: ClassCounts) -> list[float]:
    """(C,): one weight per class; the mean over the classes that are present is 1.

    A class without a pixel gets 1: it has no effect by itself, and where label smoothing gives it a share of
    the target, that share is neither favoured nor ignored.

    Args:
        scheme: "inverse", "median", "enet" or "effective".
        counts: of the training labels.
    """
    present = counts.pixels.sum(axis=0) > 0  # (C,)
    weights = np.ones(len(present))
    if present.any():
        weights[present] = bounded(SCHEMES[scheme](counts.pixels[:, present]))
    return [round(float(weight), DECIMALS) for weight in weights]


def bounded(values: Array) -> Array:
    """(n,) positive values, clipped to a tenth and ten times their median, then divided by their mean.

    The median, because a single extreme value would shift the mean, and with it the bounds.
    """
    middle = np.median(values)
    values = np.clip(values, middle / REACH, middle * REACH)
    return np.asarray(values / values.mean())


def inverse_frequency(pixels: Array) -> Array:
    """(N, P) -> (P,): 1 / the share of the class in all pixels, so all classes weigh the same in total."""
    return np.asarray(pixels.sum() / pixels.sum(axis=0))


def median_frequency(pixels: Array) -> Array:
    """(N, P) -> (P,): median(freq) / freq (Eigen and Fergus 2014, arXiv 1411.4734).

    freq is the share of the class in the labelled pixels of the images that contain it.
    """
    # (P,) labelled pixels of the images with the class
    around = ((pixels > 0) * pixels.sum(axis=1, keepdims=True)).sum(axis=0)
    frequency = pixels.sum(axis=0) / around
    return np.asarray(np.median(frequency) / frequency)


def enet(pixels: Array) -> Array:
    """(N, P) -> (P,): 1 / ln(1.02 + share) (Paszke et al. 2016, arXiv 1606.02147)."""
    return np.asarray(1 / np.log(ENET_C + pixels.sum(axis=0) / pixels.sum()))


def effective_number(pixels: Array) -> Array:
    """(N, P) -> (P,): (1 - beta) / (1 - beta^n) (Cui et al. 2019, arXiv 1901.05555).

    A sample is an image, as in the paper: n counts the images that contain the class. Pixels of one object
    are not independent samples, and with millions of them beta^n is 0 for every class. beta = (N - 1) / N,
    the paper's relation of beta to the number N of all possible samples, here the images of the data set.
    """
    num_images = (pixels > 0).sum(axis=0)  # (P,)
    beta = (len(pixels) - 1) / len(pixels)
    return np.asarray((1 - beta) / (1 - beta**num_images))


SCHEMES: dict[str, Callable[[Array], Array]] = {
    "inverse": inverse_frequency,
    "median": median_frequency,
    "enet": enet,
    "effective": effective_number,
}
