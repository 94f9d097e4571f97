"""rasterio, which reads TIFF of any kind and need not be installed."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.data.sample import DataError
from engine.wording import not_installed

CACHE_BYTES = 64_000_000  # of decoded blocks; GDAL takes 5 % of the machine's memory by default
_OPENING = threading.Lock()


class NotInstalled(DataError):
    """rasterio, which some files need, is not installed: no file is at fault."""


def rasterio_module() -> Any:
    """Raises NotInstalled."""
    try:
        import rasterio
        import rasterio.errors
    except ImportError as error:
        raise NotInstalled(not_installed(error.name, "geo")) from error
    return rasterio


@contextmanager
def small_cache() -> Iterator[Any]:
    """The module, with a small cache."""
    rasterio = rasterio_module()
    cache = {} if rasterio.env.hasenv() else {"GDAL_CACHEMAX": CACHE_BYTES}  # that of a block around stays
    with rasterio.Env(**cache):
        yield rasterio


def reason(error: Exception) -> str:
    """Why rasterio could not read a file: GDAL's words are those of the error behind, if there is one."""
    return str(error.__cause__ or error).rstrip(".")


def open_quietly(path: Path | str, mode: str = "r", **options: Any) -> Any:
    """A file of rasterio; one without a georeference is nothing to warn of.

    One thread at a time: `catch_warnings` changes the filters of all threads.
    """
    rasterio = rasterio_module()
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, mode, **options)
