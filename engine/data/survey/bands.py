"""How many bands the images of a folder have, where those are not RGB."""

from typing import NamedTuple

import numpy as np

from engine.data.formats.bands import ARRAY, Stored, read_bands
from engine.data.formats.files import FileDataset
from engine.data.formats.images import TIFF_ENDINGS, decode_image
from engine.data.ranges import probed
from engine.data.sample import DataError, UnreadableSample
from engine.wording import quantity

NUM_PROBED = 8  # images that are read
MEDIUM_SHARE = 0.5  # of the values of a fourth channel that are neither 0 nor 255, above which it is a band


class FoundBands(NamedTuple):
    """number: for data.bands. finding: a line about it."""

    number: int
    finding: str


def bands_of(train: FileDataset) -> FoundBands | None:
    """Of the first images of a split; None where they are RGB, or grey, or cannot be read, or differ.

    Transparency is no band: nearly all of its values are 0 and 255.
    """
    found = [image for i in probed(len(train))[:NUM_PROBED] if (image := _readable(train, i))]
    numbers = {len(image.values) for image in found}
    if len(numbers) != 1:
        return None
    [number] = numbers
    is_usual = number in (1, 3) or (number in (2, 4) and all(map(_is_transparency, found)))
    if is_usual and _is_read_as_rgb(train):
        return None
    return FoundBands(number, f"images of {quantity(number, 'band')} of {found[0].values.dtype}")


def _readable(train: FileDataset, index: int) -> Stored | None:
    path = train.image_path(index)
    try:
        return read_bands(path) if path.suffix.lower() in (ARRAY, ".png", *TIFF_ENDINGS) else None
    except DataError:  # the doctor reports it
        return None


def _is_transparency(image: Stored) -> bool:
    last = image.values[-1]
    highest = np.iinfo(last.dtype).max if last.dtype.kind == "u" else -1
    return highest > 0 and float(((last > 0) & (last < highest)).mean()) <= MEDIUM_SHARE


def _is_read_as_rgb(train: FileDataset) -> bool:
    try:
        decode_image(train.image_path(0), (0.0, 1.0))
    except UnreadableSample:
        return False
    return True
