"""Exports: weights for other libraries, results for a server, graphs that run without Trident.

Nothing is overwritten.
"""

import importlib
from pathlib import Path

from engine.run_folder import require_reachable
from engine.wording import not_installed


class ExportError(ValueError):
    """A request that cannot be exported; the text says what can."""

    exit_code = 2


def require_new_file(out: Path) -> None:
    """Raises ExportError where the file exists already, RunFolderError where no file can be written."""
    if out.exists():
        raise ExportError(f"--out {out} exists already, and nothing is overwritten. Name a new file.")
    require_reachable(out, "--out")


def require_libraries(extra: str, *names: str) -> None:
    """Raises ExportError where a library of an extra of the distribution is not installed."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(not_installed(error.name, extra)) from error
