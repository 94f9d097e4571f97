"""A trained model as a server: an image in, its label map, overlay or contents out."""

import importlib
from dataclasses import dataclass

from engine.wording import not_installed

LIBRARIES = ("fastapi", "uvicorn", "python_multipart", "rasterio", "shapely")


class ServeError(ValueError):
    """A server that cannot be started as it was asked for; the text says what to type instead."""

    exit_code = 2


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    max_bytes, max_pixels: of one image. rate: images a minute of one address. queue: images at a time, of
    which one is predicted and the others wait.
    """

    max_bytes: int
    max_pixels: int
    rate: int
    queue: int


def require_libraries() -> None:
    """Raises ServeError where a part of the extra `serve` is not installed."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ServeError(not_installed(error.name, "serve")) from error
