"""Masks as their files hold them: images, arrays (.npy), and by rasterio TIFF that Pillow does not know.

Those are TIFF of 64 bits, for example.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.formats.bands import ARRAY, Stored, read_bands
from engine.data.formats.images import TIFF_ENDINGS, UnknownImage, decode_mask, nodata_of
from engine.data.sample import DataError, UnreadableSample


def stored_values(path: Path) -> NDArray[Any]:
    """(h, w) of one channel, (h, w, channels) of others; of any pixel type.

    Raises:
        UnreadableSample: not an image, damaged, or too large; or it needs rasterio, which is not installed.
    """
    try:
        if path.suffix.lower() != ARRAY:
            return decode_mask(path)
        values = read_bands(path).values  # (n, h, w)
    except UnknownImage as error:
        values = _by_rasterio(path, error).values
    return values[0] if len(values) == 1 else np.moveaxis(values, 0, 2)


def declared_nodata(path: Path) -> float | None:
    """The value that a GeoTIFF declares as "no data", if it does; None for other files."""
    if path.suffix.lower() not in TIFF_ENDINGS:
        return None
    try:
        return nodata_of(path)
    except UnknownImage as error:
        return _by_rasterio(path, error).nodata


def _by_rasterio(path: Path, error: UnknownImage) -> Stored:
    if path.suffix.lower() not in TIFF_ENDINGS:
        raise error
    try:
        return read_bands(path)
    except UnreadableSample:
        raise error from None
    except DataError as missing:
        raise UnreadableSample(f"{error} If it is a TIFF of 64 bits: {missing}") from None
