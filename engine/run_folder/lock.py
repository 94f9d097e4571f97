"""A lock on a run folder, so that two processes never train one run."""

import errno
import fcntl
import os
import platform
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from engine.run_folder.files import RunFolderError, naming_disk_errors

HELD = (errno.EACCES, errno.EAGAIN)
HOLDER = re.compile(r"process \d+ on (.*), since ")  # what `locked` writes
# The C structure `flock`, padded to its size.
RECORD, RECORD_FIELDS = (
    ("qqihh", ("l_start", "l_len", "l_pid", "l_type", "l_whence"))
    if sys.platform == "darwin"
    else ("hhqqi0q", ("l_type", "l_whence", "l_start", "l_len", "l_pid"))
)
WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # of some network file systems


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if there is none, for the time of the block.

    The system ends the lock with the process, whatever ends that. It is a record lock, as workers would
    inherit another kind and outlive a killed process. Where the file system has no locks, there is none.

    Raises:
        RunFolderError: another process holds the folder; the error says which.
        DiskError: the lock file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder) as file:
        if _is_taken(file, folder):
            file.truncate(0)
            now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            file.write(f"process {os.getpid()} on {platform.node()}, since {now}\n")
            file.flush()
        yield


def require_unused(folder: Path) -> None:
    """Raises RunFolderError where another process holds the folder, DiskError where it cannot be written."""
    if _lock_file(folder).is_file():
        with _opened(folder) as file:
            _is_taken(file, folder)


def is_in_use(folder: Path) -> bool | None:
    """Whether a process of this machine holds the folder; None where that cannot be known. Takes no lock.

    It cannot be known of a run that was started on another machine, or where the file system has no locks.
    """
    try:
        with _lock_file(folder).open(encoding="utf-8") as file:
            holder = HOLDER.match(file.read())
            if holder and holder[1] != platform.node():
                return None
            asked = {"l_type": fcntl.F_WRLCK, "l_whence": os.SEEK_SET}
            record = struct.pack(RECORD, *(asked.get(name, 0) for name in RECORD_FIELDS))
            answer = struct.unpack(RECORD, fcntl.fcntl(file, fcntl.F_GETLK, record))
            return bool(answer[RECORD_FIELDS.index("l_type")] != fcntl.F_UNLCK)
    except (OSError, ValueError):
        return None


def _lock_file(folder: Path) -> Path:
    return folder / ".lock"


def _opened(folder: Path) -> TextIO:
    with naming_disk_errors(_lock_file(folder)):
        return _lock_file(folder).open("a+", encoding="utf-8")


def _is_taken(file: TextIO, folder: Path) -> bool:
    """Lock the file; False where its file system has no locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            file.seek(0)
            raise RunFolderError(
                f"{folder} is in use by {file.read().strip() or 'another process'}. Wait for its end, or "
                "stop it and type the same command with --resume. Another run needs name=<another name>."
            ) from None
        if error.errno not in WITHOUT_LOCKS:
            raise
        return False
    return True
