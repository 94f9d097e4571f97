"""data.normalisation: mean and standard deviation of each band, counted in images of the training split."""

from typing import Any

import numpy as np

from engine.data.bands import RGB, band_names
from engine.data.options import Normalisation
from engine.data.ranges import probed
from engine.data.sample import DataError, Dataset, UnreadableSample, read_or_error

LEAST_STD = 1.0  # one step of 8 bits, for a band that is constant


def with_normalisation(section: Any, train: Dataset) -> Any:
    """A recipe's `data` section with numbers in place of `normalisation: auto`, for bands other than RGB.

    A run keeps them in its recipe, so that all images are normalised alike later. They are counted in at most
    `ranges.NUM_PROBED` images, in whole numbers, so that every process finds the same.

    Raises:
        DataError: an image has another number of bands, or none of those that are read can be.
    """
    if section.normalisation != "auto" or band_names(section.bands) in (None, RGB):
        return section
    counts = np.zeros((len(band_names(section.bands) or ()), 256), np.int64)  # pixels by value
    for index in probed(len(train)):
        sample = read_or_error(train, index)
        if isinstance(sample, UnreadableSample):  # reported, or skipped, when it is read
            continue
        if isinstance(sample, DataError):
            raise sample
        for row, band in zip(counts, sample.image.numpy(), strict=True):
            row += np.bincount(band.ravel(), minlength=256)
    if not counts.any():
        raise DataError("None of the images that were read to normalise the bands can be read.")
    values, share = np.arange(256), counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1)).clip(min=LEAST_STD)
    found = Normalisation(mean=mean.round(3).tolist(), std=std.round(3).tolist())
    return section.model_copy(update={"normalisation": found})
