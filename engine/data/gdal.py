"""rasterio, which reads TIFF of any kind and need not be installed."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.data.sample import DataError

NOT_INSTALLED = (
    "{} is not installed. Type pip install 'trident-seg[geo]', or in a checkout pip install -e '.[geo]'."
)
CACHE_BYTES = 64_000_000  # of decoded blocks; GDAL takes 5 % of the machine's memory by default


def rasterio_module() -> Any:
    """Raises DataError where rasterio is not installed."""
    try:
        import rasterio
        import rasterio.errors
    except ImportError as error:
        raise DataError(NOT_INSTALLED.format(error.name)) from error
    return rasterio


@contextmanager
def quiet_rasterio() -> Iterator[Any]:
    """The module, with a small cache; an image without georeference is nothing to warn of."""
    rasterio = rasterio_module()
    cache = {} if rasterio.env.hasenv() else {"GDAL_CACHEMAX": CACHE_BYTES}  # that of a block around stays
    with warnings.catch_warnings(), rasterio.Env(**cache):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield rasterio
