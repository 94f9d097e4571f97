"""Large images and masks, read in parts, and maps of the same size and place; by rasterio, which need not be
installed.

Shapes: an image of h x w pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.bands import Bands, require_bands
from engine.data.formats.bands import ARRAY, image_pixels, open_array
from engine.data.formats.images import REMEDY, TIFF_ENDINGS
from engine.data.formats.tiff import is_plain_tiff, tiff_header
from engine.data.formats.value_range import ValueRanges, as_bytes
from engine.data.gdal import CACHE_BYTES, open_quietly, rasterio_module, reason, small_cache
from engine.data.sample import DataError, UnreadableSample, require_regular
from engine.wording import not_installed

Pixels = NDArray[np.uint8]
Span = tuple[int, int]  # from the first row or column to before the last

BLOCK_PX = 256
DRIVERS = {
    **dict.fromkeys(TIFF_ENDINGS, "GTiff"),
    **dict.fromkeys((".jpg", ".jpeg"), "JPEG"),
    **{".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"},
}
KEPT_ROWS = 2048  # decoded, of a file that is stored by whole rows


@dataclass(frozen=True)
class Raster:
    """An open image or mask.

    size: (h, w).
    read: rows and columns -> (n, height, width), the bands of data.bands, or RGB; of a mask what is stored.
    georeference: the arguments `crs` and `transform` of rasterio for a file of the same place.
    orientation: EXIF's, which was applied.
    """

    size: tuple[int, int]
    read: Callable[[Span, Span], NDArray[Any]]
    georeference: Mapping[str, Any] = field(default_factory=dict)
    orientation: int = 1


def in_memory(values: NDArray[Any], orientation: int = 1) -> Raster:
    """Of an array (n, h, w)."""
    return Raster(
        (values.shape[1], values.shape[2]),
        lambda rows, columns: values[:, slice(*rows), slice(*columns)],
        orientation=orientation,
    )


@contextmanager
def open_raster(path: Path, value_range: ValueRanges | None = None, bands: Bands = None) -> Iterator[Raster]:
    """Open an image of any size that GDAL reads: TIFF, PNG, JPEG, ...

    What Pillow takes is decoded by Pillow, except TIFF: as for training, rotated by EXIF, and JPEG to the
    last bit, which GDAL decodes in another way.

    Args:
        value_range: of an image of more than 8 bits per channel.
        bands: of data.bands.

    Raises:
        DataError: rasterio is not installed, or the image has another number of bands.
        UnreadableSample: not an image, damaged, or of pixels without a fixed range.
    """
    rasterio_module()
    if bands is not None and path.suffix.lower() == ARRAY:
        number, h, w = open_array(path, len(bands), any_size=True).shape
        require_bands(number, bands, str(path))

        def read_array(rows: Span, columns: Span) -> Pixels:
            # Opened again, so that none of its pages stay in memory.
            values = open_array(path, number, any_size=True)
            return as_bytes(values[:, slice(*rows), slice(*columns)], value_range, path)

        yield Raster((h, w), read_array)
        return
    if _is_pillows(path):
        yield in_memory(*image_pixels(path, value_range, bands))
        return
    with _opened(path) as file:
        if bands is not None and file.count == 1 < len(bands):  # perhaps a band a page
            yield in_memory(*image_pixels(path, value_range, bands))
            return
        if bands is not None:
            require_bands(file.count, bands, str(path))
        table = _colour_table(file) if bands is None and file.count < 3 else None
        chosen = None if bands is not None else (1, 2, 3) if file.count >= 3 else (1,)

        def read(rows: Span, columns: Span) -> Pixels:
            pixels = as_bytes(_values(file, path, (rows, columns), chosen), value_range, path)
            if bands is None and len(pixels) == 1:
                return np.repeat(pixels, 3, axis=0) if table is None else np.take(table, pixels[0], axis=1)
            return pixels

        georeference = {"crs": file.crs, "transform": file.transform} if file.crs else {}
        yield Raster((file.height, file.width), read, georeference)


@contextmanager
def open_mask(path: Path, as_colours: bool) -> Iterator[Raster | None]:
    """The stored values of a mask as `decode_mask` gives them; None where Pillow decodes it as a whole.

    Args:
        as_colours: the colours of a palette image, not its values.

    Raises:
        UnreadableSample: not an image, or damaged.
    """
    if _is_pillows(path):
        yield None
        return
    with _opened(path) as file:
        table = _colour_table(file) if as_colours else None

        def read(rows: Span, columns: Span) -> NDArray[Any]:
            values = _values(file, path, (rows, columns))
            if as_colours and len(values) == 1:
                return np.repeat(values, 3, axis=0) if table is None else np.take(table, values[0], axis=1)
            return values

        yield Raster((file.height, file.width), read)


def _is_pillows(path: Path) -> bool:
    """Whether an image is decoded as a whole: unless it is too large, or a TIFF whose values are as stored.

    One that is rotated is not as stored, whatever its size and its bands.
    """
    is_tiff = path.suffix.lower() in TIFF_ENDINGS
    try:
        return not is_plain_tiff(path) or not is_tiff
    except UnreadableSample:  # more pixels than the limit, or bands that Pillow does not know
        return is_tiff and _is_turned(path)


def _is_turned(path: Path) -> bool:
    try:
        return tiff_header(path)[1] != 1
    except UnreadableSample:  # GDAL says why
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of rasterio, whose cache is large enough for one that is stored by whole rows."""
    require_regular(path)
    # Not any driver of GDAL: some open further files, or addresses, that a file names.
    with small_cache() as rasterio:
        try:
            file = open_quietly(path, driver=DRIVERS.get(path.suffix.lower()))
        except rasterio.errors.RasterioError as error:
            raise UnreadableSample(f"{path} cannot be read as an image: {reason(error)}. {REMEDY}") from error
        with file:
            is_stored_by_rows = file.block_shapes[0][1] == file.width
            row = file.width * sum(np.dtype(kind).itemsize for kind in file.dtypes)
            with rasterio.Env(GDAL_CACHEMAX=max(CACHE_BYTES, KEPT_ROWS * row * is_stored_by_rows)):
                yield file


def _values(file: Any, path: Path, window: Any, chosen: Sequence[int] | None = None) -> NDArray[Any]:
    from rasterio.errors import RasterioError

    try:
        values: NDArray[Any] = file.read(chosen, window=window)
    except RasterioError as error:
        raise UnreadableSample(f"{path} is damaged: {reason(error)}. {REMEDY}") from error
    return values


@contextmanager
def new_map(path: Path, raster: Raster, colours: Sequence[Sequence[int]] = ()) -> Iterator[Any]:
    """A new TIFF of one byte a pixel, of the size and place of `raster`, as an open file of rasterio.

    Args:
        colours: RGB by value, for image viewers.
    """
    h, w = raster.size
    layout = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX} if min(h, w) > BLOCK_PX else {}
    with (
        small_cache(),
        open_quietly(
            path, "w", driver="GTiff", height=h, width=w, count=1, dtype="uint8", compress="deflate",
            bigtiff="if_safer", **layout, **raster.georeference,
        ) as file,
    ):  # fmt: skip
        if colours:
            file.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(colours)})
        yield file


@contextmanager
def open_map(path: Path) -> Iterator[Any]:
    """A file of `new_map`, to be read by pixels: with a georeference, GDAL gives outlines in map units."""
    with small_cache(), open_quietly(path, GEOREF_SOURCES="NONE") as file:
        yield file


def require_geo() -> None:
    """Raises DataError where rasterio or shapely is not installed."""
    rasterio_module()
    try:
        import shapely  # noqa: F401
    except ImportError as error:
        raise DataError(not_installed(error.name, "geo")) from error


def _colour_table(file: Any) -> NDArray[np.uint8] | None:
    """(3, 256), of a palette image."""
    try:
        found = file.colormap(1)
    except ValueError:
        return None
    table = np.zeros((3, 256), np.uint8)
    for value, colour in found.items():
        if value < 256:
            table[:, value] = colour[:3]
    return table
