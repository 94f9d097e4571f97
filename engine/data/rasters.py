"""Large images, read by rows, and maps of the same size and place; by rasterio, which need not be installed.

Shapes: an image of h x w pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.bands import Bands, require_bands
from engine.data.formats.bands import ARRAY, ValueRanges, as_bytes, image_header, image_pixels, open_array
from engine.data.gdal import NOT_INSTALLED, quiet_rasterio, rasterio_module
from engine.data.sample import DataError, UnreadableSample, require_regular

Pixels = NDArray[np.uint8]

TIFF = (".tif", ".tiff")
BLOCK_PX = 256


@dataclass(frozen=True)
class Raster:
    """An open image.

    size: (h, w).
    georeference: the arguments `crs` and `transform` of rasterio for a file of the same place.
    rows: from the first to before the last -> (n, rows, w), the bands of data.bands, or RGB.
    """

    size: tuple[int, int]
    georeference: Mapping[str, Any]
    rows: Callable[[int, int], Pixels]


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
    rasterio = rasterio_module()
    require_regular(path)
    if bands is not None and path.suffix.lower() == ARRAY:
        values = open_array(path, len(bands))  # (n, h, w), in the file
        require_bands(len(values), bands, str(path))
        yield Raster(
            values.shape[1:], {}, lambda start, end: as_bytes(values[:, start:end], value_range, path)
        )
        return
    if path.suffix.lower() not in TIFF and _fits_in_memory(path):
        pixels, _ = image_pixels(path, value_range, bands)  # (n, h, w)
        yield Raster(pixels.shape[1:], {}, lambda start, end: pixels[:, start:end])
        return
    with quiet_rasterio():
        try:
            file = rasterio.open(path)
        except rasterio.errors.RasterioError as error:
            raise UnreadableSample(f"{path} cannot be read as an image: {error}.") from error
        with file:
            if bands is not None and file.count == 1 < len(bands):  # perhaps a band a page
                pixels, _ = image_pixels(path, value_range, bands)
                yield Raster(pixels.shape[1:], {}, lambda start, end: pixels[:, start:end])
                return
            if bands is not None:
                require_bands(file.count, bands, str(path))
            georeference = {"crs": file.crs, "transform": file.transform} if file.crs else {}
            yield Raster(
                (file.height, file.width),
                georeference,
                lambda start, end: _rows(file, path, ((start, end), (0, file.width)), value_range, bands),
            )


def _fits_in_memory(path: Path) -> bool:
    try:
        image_header(path, None)
    except UnreadableSample:  # more pixels than Pillow's limit, or no image, which shows later
        return False
    return True


def _rows(file: Any, path: Path, window: Any, value_range: ValueRanges | None, bands: Bands) -> Pixels:
    from rasterio.errors import RasterioError

    chosen = None if bands is not None else (1, 2, 3) if file.count >= 3 else (1,)
    try:
        values = file.read(chosen, window=window)
    except RasterioError as error:
        raise UnreadableSample(f"{path} is damaged: {error}.") from error
    pixels = as_bytes(values, value_range, path)
    if bands is None and len(pixels) == 1:
        table = _colour_table(file)
        return np.repeat(pixels, 3, axis=0) if table is None else np.take(table, pixels[0], axis=1)
    return pixels


@contextmanager
def new_map(path: Path, raster: Raster, colours: Sequence[Sequence[int]] = ()) -> Iterator[Any]:
    """A new TIFF of one byte a pixel, of the size and place of `raster`, as an open file of rasterio.

    Args:
        colours: RGB by value, for image viewers.
    """
    h, w = raster.size
    layout = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX} if min(h, w) > BLOCK_PX else {}
    with (
        quiet_rasterio() as rasterio,
        rasterio.open(
            path, "w", driver="GTiff", height=h, width=w, count=1, dtype="uint8", compress="deflate",
            bigtiff="if_safer", **layout, **raster.georeference,
        ) as file,
    ):  # fmt: skip
        if colours:
            file.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(colours)})
        yield file


@contextmanager
def open_map(path: Path) -> Iterator[Any]:
    """A file of `new_map`, to be read."""
    with quiet_rasterio() as rasterio, rasterio.open(path) as file:
        yield file


def require_geo() -> None:
    """Raises DataError where rasterio or shapely is not installed."""
    rasterio_module()
    try:
        import shapely  # noqa: F401
    except ImportError as error:
        raise DataError(NOT_INSTALLED.format(error.name)) from error


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
