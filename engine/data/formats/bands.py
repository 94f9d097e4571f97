"""Image files as arrays of the bands that data.bands names: TIFF, NPY, and what Pillow reads, such as PNG.

- TIFF is read by rasterio, with all its bands: side by side, a plane each, or a page each.
- NPY holds (h, w, n), (n, h, w) or (h, w).
- Of other files transparency is a band. A PNG of more than 8 bits per channel is read by rasterio, too.

Without data.bands an image is RGB, and `images.py` reads it. Shapes: n bands of h x w pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.data.bands import Bands, require_bands
from engine.data.formats.images import (
    REMEDY,
    TIFF_ENDINGS,
    UNKNOWN_RANGE,
    ValueRange,
    decode_image,
    opened_upright,
    read_header,
    refuse_bomb,
    scaled,
    turn,
)
from engine.data.gdal import quiet_rasterio
from engine.data.sample import UnreadableSample, require_regular

ValueRanges = ValueRange | tuple[ValueRange, ...]  # of all bands, or of each
ARRAY = ".npy"
ONE_BYTE_MODES = ("L", "LA", "RGB", "RGBA")


class Stored(NamedTuple):
    """values: (n, h, w) as displayed. orientation: EXIF's, applied. nodata: the value of missing pixels."""

    values: NDArray[Any]
    orientation: int = 1
    nodata: float | None = None


def image_header(path: Path, bands: Bands) -> tuple[tuple[int, int], int]:
    """(h, w) of the displayed image, and its EXIF orientation; nothing is decoded.

    Raises:
        UnreadableSample: not an image, damaged, or too large.
        DataError: rasterio is needed and not installed.
    """
    ending = path.suffix.lower()
    if bands is not None and ending == ARRAY:
        h, w = open_array(path, len(bands)).shape[1:]
        return (h, w), 1
    if bands is not None and ending in TIFF_ENDINGS:
        with open_gdal(path) as file:
            return (file.height, file.width), 1
    return read_header(path)


def image_pixels(path: Path, value_range: ValueRanges | None, bands: Bands) -> tuple[NDArray[np.uint8], int]:
    """(n, h, w) as displayed, and the EXIF orientation that was applied; RGB where `bands` is None.

    Args:
        value_range: of pixels of more than 8 bits.

    Raises:
        UnreadableSample: as `image_header` does; or pixels without a known range of values.
        DataError: another number of bands; or rasterio is needed and not installed.
    """
    if bands is None:
        pixels, orientation = decode_image(path, single_range(value_range))  # (h, w, 3)
        return np.ascontiguousarray(np.moveaxis(pixels, 2, 0)), orientation
    stored = read_bands(path, len(bands))
    require_bands(len(stored.values), bands, str(path))
    return as_bytes(stored.values, value_range, path), stored.orientation


def read_bands(path: Path, expected: int | None = None) -> Stored:
    """All bands of an image, however many; `expected` tells them from the sides of an array.

    Raises as `image_header` does.
    """
    ending = path.suffix.lower()
    if ending == ARRAY:
        return Stored(np.array(open_array(path, expected)))
    if ending not in TIFF_ENDINGS:
        with opened_upright(path) as (image, orientation, is_wide):
            if not is_wide:
                mode = image.mode if image.mode in ONE_BYTE_MODES else "RGB"
                pixels = turn(np.atleast_3d(np.asarray(image.convert(mode))), orientation)  # (h, w, n)
                return Stored(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)), orientation)
    with open_gdal(path) as file:
        pages = _pages(file)
        values = np.concatenate([_decoded(page, path) for page in pages]) if pages else _decoded(file, path)
        return Stored(values, nodata=file.nodata)


def as_bytes(values: NDArray[Any], value_range: ValueRanges | None, path: Path) -> NDArray[np.uint8]:
    """256 equal steps of the range of each band (n, h, w); 8 bits stay as they are.

    Raises:
        UnreadableSample: the range is needed and not known.
    """
    if values.dtype == np.uint8:
        return values
    bands = []
    for band, of_band in zip(values, _of_each(value_range, len(values)), strict=True):
        pixels = scaled(band, of_band)
        if pixels is None:
            raise UnreadableSample(UNKNOWN_RANGE.format(path=path, dtype=values.dtype.name))
        bands.append(pixels)
    return np.stack(bands)


def open_array(path: Path, expected: int | None = None) -> NDArray[Any]:
    """(n, h, w) of an NPY file, mapped into memory. Raises UnreadableSample where it is no such array."""
    require_regular(path)
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise UnreadableSample(f"{path} cannot be read as an array: {error}. {REMEDY}") from error
    if found.ndim == 2:
        found = found[None]
    elif found.ndim == 3 and _are_bands_last(found.shape, expected):
        found = np.moveaxis(found, 2, 0)
    if found.ndim != 3 or 0 in found.shape or found.dtype.kind not in "buif":
        raise UnreadableSample(
            f"{path} holds {found.dtype} of shape {found.shape}; expected numbers (h, w, bands), "
            f"(bands, h, w) or (h, w). {REMEDY}"
        )
    refuse_bomb(path, found.shape[1], found.shape[2])
    return found


@contextmanager
def open_gdal(path: Path) -> Iterator[Any]:
    """A TIFF or PNG as an open file of rasterio; raises UnreadableSample where it is none, or too large."""
    require_regular(path)
    with quiet_rasterio() as rasterio:
        try:
            # Not any driver of GDAL: some open further files, or addresses, that the file names.
            file = rasterio.open(path, driver="GTiff" if path.suffix.lower() in TIFF_ENDINGS else "PNG")
        except rasterio.errors.RasterioError as error:
            raise UnreadableSample(f"{path} cannot be read as an image: {error}. {REMEDY}") from error
        with file:
            refuse_bomb(path, file.height, file.width)
            yield file


def _pages(file: Any) -> list[Any]:
    """The pages of a TIFF with one band a page; none where it has one page, or pages of other sizes."""
    import rasterio

    if file.count > 1 or not file.subdatasets:
        return []
    pages = [rasterio.open(name, driver="GTiff") for name in file.subdatasets]
    are_bands = all(page.count == 1 and page.shape == file.shape for page in pages)
    return pages if are_bands else []


def _decoded(file: Any, path: Path) -> NDArray[Any]:
    from rasterio.errors import RasterioError

    try:
        values: NDArray[Any] = file.read()
    except RasterioError as error:
        raise UnreadableSample(f"{path} is damaged: {error}. {REMEDY}") from error
    return values


def _are_bands_last(shape: tuple[int, ...], expected: int | None) -> bool:
    """Whether the last axis of an array is that of the bands: as many as expected, else the shorter one."""
    if expected is not None and (shape[0] == expected) != (shape[2] == expected):
        return shape[2] == expected
    return shape[2] <= shape[0]


def single_range(value_range: ValueRanges | None) -> ValueRange | None:
    """That of RGB images, which have one for all channels."""
    [found] = _of_each(value_range, 1)
    return found


def _of_each(value_range: ValueRanges | None, num_bands: int) -> Sequence[ValueRange | None]:
    if value_range is None:
        return [None] * num_bands
    first, last = value_range[0], value_range[-1]
    if isinstance(first, tuple) or isinstance(last, tuple):
        return [pair for pair in value_range if isinstance(pair, tuple)]
    return [(first, last)] * num_bands
