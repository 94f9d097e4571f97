"""Exports: weights for other libraries, results for a server, graphs that run without Trident.

Nothing is overwritten.
"""

import importlib

from engine.wording import not_installed


class ExportError(ValueError):
    """A request that cannot be exported; the text says what can."""

    exit_code = 2


def require_libraries(extra: str, *names: str) -> None:
    """Raises ExportError where a library of an extra of the distribution is not installed."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(not_installed(error.name, extra)) from error
