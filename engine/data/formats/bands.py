"""Image and mask files as arrays: of an image the bands that data.bands names, of a mask what is stored.

- TIFF is read by rasterio, with all its bands: side by side, a plane each, or a page each.
- NPY holds (h, w, n), (n, h, w) or (h, w).
- Of other files transparency is a band. A PNG of more than 8 bits per channel is read by rasterio, too.

A mask is a file of Pillow, an array, or a TIFF that Pillow does not know, such as of 64 bits. Without
data.bands an image is RGB, and `images.py` reads it. Shapes: n bands of h x w pixels.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.data.bands import RGB, Bands, require_bands
from engine.data.formats.images import (
    REMEDY,
    TIFF_ENDINGS,
    Source,
    UnknownImage,
    decode_image,
    left_to_turn,
    mode_of,
    naming_file,
    open_image,
    opened_upright,
    orientation_of,
    read_header,
    refuse_bomb,
    turn,
)
from engine.data.formats.tiff import any_header, is_wide_tiff, nodata_of, tiff_header
from engine.data.formats.value_range import ValueRanges, as_bytes
from engine.data.gdal import open_quietly, reason, small_cache
from engine.data.sample import DataError, UnreadableSample, require_regular

MASK_HINT = "Save masks as PNG or TIFF. "
ARRAY = ".npy"
NUM_BANDS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I": 1, "I;16": 1, "I;16B": 1, "F": 1}  # others become RGB


class Stored(NamedTuple):
    """values: (n, h, w) as displayed. orientation: EXIF's, applied. nodata: the value of missing pixels."""

    values: NDArray[Any]
    orientation: int = 1
    nodata: float | None = None


def image_header(path: Path, bands: Bands) -> tuple[tuple[int, int], int]:
    """(h, w) of the displayed image, and its EXIF orientation; nothing is decoded.

    Raises:
        UnreadableSample: not an image, damaged, or too large.
        DataError: another number of bands; or rasterio is needed and not installed.
    """
    ending = path.suffix.lower()
    if bands is None:
        return read_header(path)
    if ending == ARRAY:
        number, h, w = open_array(path, len(bands)).shape
        found = (h, w), 1
    elif ending in TIFF_ENDINGS:
        with open_pages(path) as pages:
            number, found = sum(page.count for page in pages), tiff_header(path)
    else:
        number, found = NUM_BANDS.get(mode_of(path), len(RGB)), read_header(path)
    require_bands(number, bands, str(path))
    return found


def image_pixels(path: Path, value_range: ValueRanges | None, bands: Bands) -> tuple[NDArray[np.uint8], int]:
    """(n, h, w) as displayed, and the EXIF orientation that was applied; RGB where `bands` is None.

    Args:
        value_range: of pixels of more than 8 bits.

    Raises:
        UnreadableSample: as `image_header` does; or pixels without a known range of values.
        DataError: another number of bands; or rasterio is needed and not installed.
    """
    if bands is None:
        pixels, orientation = decode_image(path, value_range)  # (h, w, 3)
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
        return Stored(np.array(open_array(path, expected), order="C"))
    if ending not in TIFF_ENDINGS:
        with opened_upright(path) as (image, orientation, is_wide):
            if not is_wide:
                mode = image.mode if image.mode in NUM_BANDS else "RGB"
                pixels = np.atleast_3d(np.array(image.convert(mode)))  # (h, w, n)
                return Stored(_turned(np.moveaxis(pixels, 2, 0), orientation), orientation)
    with open_pages(path) as pages:  # GDAL gives the stored pixels
        if ending in TIFF_ENDINGS:
            orientation = tiff_header(path)[1]
        values = np.concatenate([page.read() for page in pages])
        return Stored(_turned(values, orientation), orientation, pages[0].nodata)


def _turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored values (n, h, w) as displayed."""
    return np.ascontiguousarray(np.moveaxis(turn(np.moveaxis(values, 0, 2), orientation), 2, 0))


def is_wide(path: Path) -> bool:
    """Whether the values of an image become bytes by a range, as those of more than 8 bits do.

    Raises:
        UnreadableSample: not an image, damaged, or too large.
    """
    ending = path.suffix.lower()
    if ending == ARRAY:
        return open_array(path, any_size=True).dtype != np.uint8
    if ending in TIFF_ENDINGS:
        return is_wide_tiff(path)
    with opened_upright(path) as (_, _, is_wide):
        return is_wide


def open_array(path: Path, expected: int | None = None, any_size: bool = False) -> NDArray[Any]:
    """(n, h, w) of an NPY file, mapped into memory. Raises UnreadableSample where it is no such array."""
    require_regular(path)
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise UnreadableSample(
            f"{path} cannot be read as an array: {str(error).rstrip('.')}. {REMEDY}"
        ) from error
    if found.ndim == 2:
        found = found[None]
    elif found.ndim == 3 and _are_bands_last(found.shape, expected):
        found = np.moveaxis(found, 2, 0)
    if found.ndim != 3 or 0 in found.shape or found.dtype.kind not in "buif":
        raise UnreadableSample(
            f"{path} holds {found.dtype} of shape {found.shape}; expected numbers (h, w, bands), "
            f"(bands, h, w) or (h, w). {REMEDY}"
        )
    if not any_size:
        refuse_bomb(path, found.shape[1], found.shape[2])
    return found


@contextmanager
def open_pages(path: Path) -> Iterator[list[Any]]:
    """The pages that make up the bands of a TIFF or PNG, as open files of rasterio.

    Raises:
        UnreadableSample: it is none, damaged, or too large.
    """
    require_regular(path)
    # Not any driver of GDAL: some open further files, or addresses, that the file names.
    driver = "GTiff" if path.suffix.lower() in TIFF_ENDINGS else "PNG"
    with small_cache() as rasterio, ExitStack() as files:
        try:
            first = files.enter_context(open_quietly(path, driver=driver))
            names = first.subdatasets if first.count == 1 else []  # GTIFF_DIR:<number of the page>:<path>
            names = sorted(names, key=lambda name: int(name.split(":")[1]))
            pages = [files.enter_context(open_quietly(name, driver=driver)) for name in names]
            refuse_bomb(path, first.height, first.width)
            if any("complex" in kind for kind in first.dtypes):
                raise UnreadableSample(
                    f"{path} holds complex numbers, and a model takes real ones. Save amplitude and phase, "
                    "or real and imaginary parts, as bands."
                )
            are_bands = all(page.count == 1 and page.shape == first.shape for page in pages)
            yield pages if pages and are_bands else [first]
        except rasterio.errors.RasterioError as error:
            raise UnreadableSample(f"{path} cannot be read as an image: {reason(error)}. {REMEDY}") from error


def decode_mask(path: Source, mode: str | None = None, photo: Path | None = None) -> NDArray[Any]:
    """The stored values: (h, w) of a palette or grayscale image, (h, w, channels) of others.

    A mask with an EXIF orientation of its own, as programs copy it from the photo, is rotated by it, except
    where the size of the photo shows that it was drawn on the upright photo and kept the orientation by
    mistake. Where the size is the same both ways (half turns and mirrored images, square photos), the
    mask's own orientation is assumed to be meant.

    Args:
        mode: "RGB" converts a palette or grayscale image to its colours, (h, w, 3).
        photo: the image of the mask, of which at most the header is read.
    """
    with open_image(path, MASK_HINT) as image, naming_file(path):
        own, left = orientation_of(image), left_to_turn(image)
        if image.mode == "1" and not mode:  # Pillow's array has the byte 255 for True
            pixels = turn(np.array(image.convert("L")) > 0, left)
        else:
            pixels = turn(np.array(image.convert(mode) if mode else image), left)
    return turned_back_to_fit(pixels, own, photo)


def turned_back_to_fit(mask: NDArray[Any], own: int, photo: Path | None) -> NDArray[Any]:
    """A mask that was turned by its own orientation, or as it is stored, where the size decides for that.

    Args:
        mask: (h, w, ...)
        photo: its image, if there is one.
    """
    if own == 1 or photo is None:
        return mask
    try:
        (h, w), orientation = any_header(photo)
    except UnreadableSample:  # reported where the photo is read
        return mask
    if h == w or max(own, orientation) < 5:
        return mask
    stored = turn(mask, {6: 8, 8: 6}.get(own, own))  # each other orientation undoes itself
    # One that does not swap the sides is not that of this photo: the mask is rotated with the photo, or fits.
    return stored if own < 5 or stored.shape[:2] == (h, w) else mask


def stored_values(path: Path, photo: Path | None = None) -> NDArray[Any]:
    """(h, w) of one channel, (h, w, channels) of others; of any pixel type.

    Args:
        photo: the image of a mask, whose size tells whether the mask's EXIF orientation is meant.

    Raises:
        UnreadableSample: not an image, damaged, or too large; or it needs rasterio, which is not installed.
    """
    try:
        if path.suffix.lower() != ARRAY:
            return decode_mask(path, photo=photo)
        stored = read_bands(path)
    except UnknownImage as error:
        stored = _by_rasterio(path, error)
    values = stored.values  # (n, h, w)
    pixels = values[0] if len(values) == 1 else np.moveaxis(values, 0, 2)
    return turned_back_to_fit(pixels, stored.orientation, photo)


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


def _are_bands_last(shape: tuple[int, ...], expected: int | None) -> bool:
    """Whether the last axis of an array is that of the bands: as many as expected, else the shorter one."""
    if expected is not None and (shape[0] == expected) != (shape[2] == expected):
        return shape[2] == expected
    return shape[2] <= shape[0]
