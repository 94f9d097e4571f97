"""Files of runs: read with errors that a user can act on, and replaced as a whole.

Every file is written under a temporary name and renamed, so a crash leaves the old one intact.
"""

import errno
import hashlib
import json
import math
import operator
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LogRow = dict[str, Any]  # one line of log.jsonl: step, split and metrics


class RunFolderError(ValueError):
    """A run folder exists already, does not exist, or lacks a file or part of one."""

    exit_code = 2


ALLOW = "Allow this user to write there (chmod u+w, or chown by an administrator)."
REMEDIES = {
    errno.ENOSPC: "Free some space on that disk.",
    errno.EDQUOT: "Delete some files, or ask the administrator for a larger quota.",
    errno.EFBIG: "Raise the limit on the size of a file (ulimit -f unlimited), or use a file system that "
    "allows larger files.",
    errno.EIO: "The disk or its connection fails: the system log (dmesg) says more. Repair or replace it.",
    errno.ESTALE: "The server of this network file system has lost it: mount it again.",
    errno.EROFS: "Mount that file system for writing (mount -o remount,rw, by an administrator).",
    errno.EACCES: ALLOW,
    errno.EPERM: ALLOW,
}


class DiskError(OSError):
    """The disk refuses a file. The message has the file, the reason in words, a remedy, and what to do then.

    `exit_code` is 2 where permissions have to change before a repetition can succeed, else 1.
    """

    def __init__(self, path: Path | str, number: int, then: str = ""):
        super().__init__(number, os.strerror(number), str(path))
        self.exit_code = 2 if number in (errno.EACCES, errno.EPERM, errno.EROFS) else 1
        self.then = then

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}. {REMEDIES[self.errno or 0]} {self.then}".rstrip()


@contextmanager
def naming_disk_errors(path: Path, then: str = "") -> Iterator[None]:
    """A block that writes `path`; an error of the disk becomes a DiskError.

    Args:
        path: the file that is named where the error does not name another one.
        then: what the user does after the remedy.

    Raises:
        DiskError: for the errors in REMEDIES; other errors pass.
    """
    try:
        yield
    except DiskError as error:
        error.then = error.then or then
        raise
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        # A copy and a renaming have two names, of which the second is the one that is written.
        raise DiskError(error.filename2 or error.filename or path, error.errno, then) from error


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; raises ValueError where it is none, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_log(path: Path) -> list[LogRow]:
    """The rows of a log.jsonl, if there is one; an incomplete last line, as a crash leaves it, is left out.

    Raises:
        RunFolderError: another line is not a JSON object with step and split.
    """
    rows = []
    for number, line in enumerate(_whole_lines(path), 1):
        try:
            rows.append(_log_row(line))
        except ValueError:
            raise RunFolderError(
                f"{path} is damaged at line {number}, which is not a JSON object with step and split. "
                "Remove that line: the others can be read without it."
            ) from None
    return rows


def read_damaged_log(path: Path) -> tuple[list[LogRow], int]:
    """The rows of a log.jsonl that can be read, and how many whole lines cannot."""
    rows, num_damaged = [], 0
    for line in _whole_lines(path):
        try:
            rows.append(_log_row(line))
        except ValueError:
            num_damaged += 1
    return rows, num_damaged


def _whole_lines(path: Path) -> list[bytes]:
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith(b"\n")]


def _log_row(line: bytes) -> LogRow:
    """Raises ValueError where it is not a JSON object with step and split."""
    try:
        row = parse_json(line)
        return {"step": operator.index(row.pop("step")), "split": row.pop("split"), **row}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None


def read_json(path: Path, keys: Sequence[str] = ()) -> Any:
    """The content of a JSON file, None where there is no file.

    Raises:
        RunFolderError: it is damaged, or lacks one of these keys.
    """
    if not path.exists():
        return None
    require_regular(path)
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        lacking = [key for key in keys if key not in content]
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}). Move it away and create it again.") from None
    if lacking:
        raise RunFolderError(f"{path} lacks {', '.join(lacking)}. Move it away and create it again.")
    return content


def require_regular(path: Path) -> None:
    """Raises RunFolderError where `path` is a folder, a pipe or a device, which can be endless."""
    if path.exists() and not path.is_file():
        raise RunFolderError(f"{path} is a folder, a pipe or a device. Move it away and put the file back.")


def require_intact(path: Path, sha256: str) -> None:
    """Raises RunFolderError where a file is missing, or its SHA-256 is not the one that its manifest has."""
    remedy = "Put the intact file back, or name a run or checkpoint without it."
    if not path.is_file():
        raise RunFolderError(f"{path} is missing, although its manifest lists it. {remedy}")
    if sha256_of(path) != sha256:
        raise RunFolderError(
            f"{path} was altered or truncated: its SHA-256 is not that of the manifest. {remedy}"
        )


@contextmanager
def written_in_place(path: Path) -> Iterator[Path]:
    """A temporary path; it replaces `path` when the block succeeds, and is removed when it fails.

    Raises:
        DiskError: the disk refuses the file; the old one is intact.
    """
    temporary = path.with_name(path.name + ".part")
    with naming_disk_errors(path):
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):  # on a failing disk it may stay; it must not hide the error
                temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write a file of safetensors; raises OSError for an error of the disk, of which it has the text only."""
    from safetensors import SafetensorError  # with torch, which the rest of this package does without
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if not number:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole; names of files that are no UTF-8 keep their bytes."""
    with written_in_place(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_json(path: Path, content: object) -> None:
    """Replace a JSON file as a whole; `without_nan`."""
    write_text(path, json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n")


def without_nan(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
