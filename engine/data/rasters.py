"""Large images, read by rows, and maps of the same size and place; by rasterio, which need not be installed.

Shapes: an image of h x w pixels.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.formats.images import ValueRange, decode_image, read_header, scaled
from engine.data.sample import DataError, UnreadableSample, require_regular

Pixels = NDArray[np.uint8]

TIFF = (".tif", ".tiff")
BLOCK_PX = 256
NOT_INSTALLED = (
    "{} is not installed. Type pip install 'trident-seg[geo]', or in a checkout pip install -e '.[geo]'."
)
CACHE_MB = 64  # of decoded blocks; GDAL takes 5 % of the machine's memory by default


@dataclass(frozen=True)
class Raster:
    """An open image.

    size: (h, w).
    georeference: the arguments `crs` and `transform` of rasterio for a file of the same place.
    rows: from the first to before the last -> (3, rows, w) RGB.
    """

    size: tuple[int, int]
    georeference: Mapping[str, Any]
    rows: Callable[[int, int], Pixels]


@contextmanager
def open_raster(path: Path, value_range: ValueRange | None = None) -> Iterator[Raster]:
    """Open an image of any size that GDAL reads: TIFF, PNG, JPEG, ...

    What Pillow takes is decoded by Pillow, except TIFF: as for training, rotated by EXIF, and JPEG to the
    last bit, which GDAL decodes in another way.

    Args:
        value_range: of an image of more than 8 bits per channel.

    Raises:
        DataError: rasterio is not installed.
        UnreadableSample: not an image, damaged, or of pixels without a fixed range.
    """
    rasterio = _rasterio()
    require_regular(path)
    if path.suffix.lower() not in TIFF and _fits_in_memory(path):
        pixels = np.moveaxis(decode_image(path, value_range)[0], 2, 0)  # (3, h, w)
        yield Raster(pixels.shape[1:], {}, lambda start, end: pixels[:, start:end])
        return
    with _quiet(rasterio):
        try:
            file = rasterio.open(path)
        except rasterio.errors.RasterioError as error:
            raise UnreadableSample(f"{path} cannot be read as an image: {error}.") from error
        with file:
            georeference = {"crs": file.crs, "transform": file.transform} if file.crs else {}
            yield Raster(
                (file.height, file.width),
                georeference,
                lambda start, end: _rgb(file, path, ((start, end), (0, file.width)), value_range),
            )


def _fits_in_memory(path: Path) -> bool:
    try:
        read_header(path)
    except UnreadableSample:  # more pixels than Pillow's limit, or no image, which shows later
        return False
    return True


def _rgb(file: Any, path: Path, window: Any, value_range: ValueRange | None) -> Pixels:
    from rasterio.errors import RasterioError

    try:
        values = file.read((1, 2, 3) if file.count >= 3 else (1,), window=window)
    except RasterioError as error:
        raise UnreadableSample(f"{path} is damaged: {error}.") from error
    bands: Pixels | None = values if values.dtype == np.uint8 else scaled(values, value_range)
    if bands is None:
        raise UnreadableSample(
            f"{path} holds pixels whose value range is unknown. Save it with 8 or 16 bits per channel."
        )
    if len(bands) == 1:
        table = _colour_table(file)
        return np.repeat(bands, 3, axis=0) if table is None else np.take(table, bands[0], axis=1)
    return bands


@contextmanager
def new_map(path: Path, raster: Raster, colours: Sequence[Sequence[int]] = ()) -> Iterator[Any]:
    """A new TIFF of one byte a pixel, of the size and place of `raster`, as an open file of rasterio.

    Args:
        colours: RGB by value, for image viewers.
    """
    rasterio = _rasterio()
    h, w = raster.size
    layout = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX} if min(h, w) > BLOCK_PX else {}
    with (
        _quiet(rasterio),
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
    rasterio = _rasterio()
    with _quiet(rasterio), rasterio.open(path) as file:
        yield file


def require_geo() -> None:
    """Raises DataError where rasterio or shapely is not installed."""
    _rasterio()
    try:
        import shapely  # noqa: F401
    except ImportError as error:
        raise DataError(NOT_INSTALLED.format(error.name)) from error


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.errors
    except ImportError as error:
        raise DataError(NOT_INSTALLED.format(error.name)) from error
    return rasterio


@contextmanager
def _quiet(rasterio: Any) -> Iterator[None]:
    """An image without georeference is nothing to warn of."""
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


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
