"""Weights of classes for a loss, from how often they occur: pure functions of counts.

Each scheme gives positive numbers for the classes that are present. They are cut at ten times and at a tenth
of their median, then divided by their mean. Without the ceiling a class of a few pixels, perhaps mislabelled,
would steer the training; without the floor false alarms on a background of 99 % would cost next to nothing.
Knows nothing of losses.

Shapes: N images, C classes; (P,) for the classes that are present.
"""

from collections.abc import Callable

import numpy as np

from engine.data.class_counts import ClassCounts

REACH = 10.0  # how many times over or under the median a weight may be
ENET_C = 1.02  # of arXiv 1606.02147
DECIMALS = 6  # of the numbers that go into a recipe


def class_weights(scheme: str, counts: ClassCounts) -> list[float]:
    """(C,): one weight a class, in the mean 1 over the classes that are present.

    A class without a pixel gets 1: it weighs nothing by itself, and where label smoothing gives it a share of
    the target, it is neither favoured nor left out.

    Args:
        scheme: "inverse", "median", "enet" or "effective".
        counts: of the training labels.
    """
    present = counts.pixels.sum(axis=0) > 0  # (C,)
    weights = np.ones(len(present))
    if present.any():
        weights[present] = bounded(SCHEMES[scheme](counts.pixels[:, present]))
    return [round(float(weight), DECIMALS) for weight in weights]


def bounded(values: np.ndarray) -> np.ndarray:
    """(n,) positive values, none over ten times or under a tenth of their median, then divided by their mean.

    The median, because one extreme value would shift the mean, and with it every bound.
    """
    middle = np.median(values)
    values = np.clip(values, middle / REACH, middle * REACH)
    return values / values.mean()


def inverse_frequency(pixels: np.ndarray) -> np.ndarray:
    """(N, P) -> (P,): 1 / the share of the class in all pixels. Every class then weighs the same in sum."""
    return pixels.sum() / pixels.sum(axis=0)


def median_frequency(pixels: np.ndarray) -> np.ndarray:
    """(N, P) -> (P,): median(freq) / freq (Eigen and Fergus 2014, arXiv 1411.4734).

    freq is the share of the class in the images where it is present; their void pixels are left out.
    """
    around = ((pixels > 0) * pixels.sum(axis=1, keepdims=True)).sum(axis=0)  # (P,) px of images that have it
    frequency = pixels.sum(axis=0) / around
    return np.median(frequency) / frequency


def enet(pixels: np.ndarray) -> np.ndarray:
    """(N, P) -> (P,): 1 / ln(1.02 + share) (Paszke et al. 2016, arXiv 1606.02147)."""
    return 1 / np.log(ENET_C + pixels.sum(axis=0) / pixels.sum())


def effective_number(pixels: np.ndarray) -> np.ndarray:
    """(N, P) -> (P,): (1 - beta) / (1 - beta^n) (Cui et al. 2019, arXiv 1901.05555).

    A sample is an image, as in the paper: n counts the images that have the class. Pixels of one object are
    no independent samples, and with millions of them beta^n is 0 for every class. beta = (N - 1) / N, the
    paper's relation of beta to the number N of samples that there could be, here the images of the set.
    """
    num_images = (pixels > 0).sum(axis=0)  # (P,)
    beta = (len(pixels) - 1) / len(pixels)
    return (1 - beta) / (1 - beta**num_images)


SCHEMES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverse": inverse_frequency,
    "median": median_frequency,
    "enet": enet,
    "effective": effective_number,
}
