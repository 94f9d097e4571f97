"""Whether a command can write where it was told to, asked before any work."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.run_folder.files import REMEDIES, DiskError, RunFolderError

NOTHING = "which is not there"  # what a link points to


def require_reachable(path: Path, option: str | None = None) -> None:
    """Raises an error where nothing can be written at `path`; the folders around it need not exist yet.

    Args:
        option: what is typed to write to another folder, if there is something.

    Raises:
        RunFolderError: a parent is a file, or a link to nothing; its file system takes no files.
        DiskError: the disk refuses a file there.
    """
    path = path.absolute()
    nearest = next(place for place in (*path.parents, path) if os.path.lexists(place))  # "/" has no parents
    if not nearest.is_dir():
        what = "a file, not a folder" if nearest.exists() else f"a link to {os.readlink(nearest)}, {NOTHING}"
        raise RunFolderError(f"{path} cannot be written: {nearest} is {what}.")
    _require_takes_files(path if path.is_dir() else nearest, path, option)


def _require_takes_files(folder: Path, path: Path, option: str | None) -> None:
    """Tries to write a file without a name; permissions alone allow root to write into /proc."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        other = f"ame another folder with {option}." if option else ""
        if error.errno in REMEDIES:
            raise DiskError(path, error.errno or 0, f"Or n{other}" if other else "") from error
        reason = os.strerror(error.errno or errno.ENOENT)
        raise RunFolderError(
            f"{path} cannot be written: the file system of {folder} takes no files ({reason})."
            + (f" N{other}" if other else "")
        ) from error


def require_folder(path: Path, option: str) -> None:
    """Raises RunFolderError where `path` is not a folder and cannot become one; `require_reachable`."""
    require_reachable(path, option)
    if os.path.lexists(path) and not path.is_dir():
        what = "file" if path.exists() else f"link to {os.readlink(path)}, {NOTHING}"
        raise RunFolderError(f"{path} is a {what}. Name a folder.")


def require_new_file(path: Path) -> None:
    """Raises RunFolderError where `path` exists, or no file can be written there; `require_reachable`."""
    if os.path.lexists(path):
        raise RunFolderError(f"{path} exists already, and nothing is overwritten. Type --out=<a new file>.")
    require_reachable(path, "--out")


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """A folder that is made, and removed where the block fails, so that the command can be repeated."""
    path.mkdir(parents=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
