"""One file over HTTP: resumed if the server supports it, and checked before it gets its final name.

The bytes go to `<name>.part`, and the version of the file on the server (its ETag or date) to
`<name>.part.tag`, so that a resumed file is not a mixture of two versions.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from engine.data.sample import DataError

ATTEMPTS = 5  # in a row without a new byte
FIRST_WAIT_S = 1.0  # before the second attempt; doubles
TIMEOUT_S = 60.0  # without a byte
CHUNK_BYTES = 1 << 18
WORTH_A_RETRY = {408, 425, 429, 500, 502, 503, 504}

Progress = Callable[[int, int | None], None]  # (done, total); total None: unknown
Track = Callable[[str, str], AbstractContextManager[Progress]]  # (what, "bytes" or "files")


class DownloadError(RuntimeError):
    """The network or a server failed; the message says what to type, or which file to place by hand."""

    exit_code = 1


@dataclass(frozen=True)
class Remote:
    """A public file: its URL, and its published size and checksum (None: not published)."""

    url: str
    size: int | None = None
    checksum: str | None = None  # "md5:<hex>" or "sha256:<hex>"

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def download(remote: Remote, path: Path, track: Track, mirror: str | None = None) -> None:
    """Download `remote` to `path`; an existing file is checked, not downloaded.

    Args:
        mirror: a URL below which the file has its own name, used instead of `remote.url`.

    Raises:
        DataError: the file at `path` is not the published one, or the disk has too little space.
        DownloadError: it could not be downloaded, or is not the published one.
    """
    if path.exists():
        if wrong := _mismatch(remote, path, track):
            raise DataError(
                f"{path} is not the published {remote.name}: {wrong}. Move it away and try again."
            )
        return
    part = _Part(path)
    if remote.size is not None and part.size() > remote.size:
        part.discard()
    fetch = _Fetch(remote, f"{mirror.rstrip('/')}/{remote.name}" if mirror else remote.url, part)
    while True:
        resumed = part.size() > 0
        if part.size() != remote.size:
            with track(f"download {remote.name}", "bytes") as progress:
                fetch.run(progress)
        wrong = _mismatch(remote, part.path, track)
        if not wrong:
            part.finish()
            return
        part.discard()
        if not resumed:  # otherwise the old part may be wrong: once more from the start
            raise fetch.error(f"sent other bytes than the published ones: {wrong}")


def require_space(folder: Path, num_bytes: int, what: str) -> None:
    """Raises DataError where the disk of `folder`, which need not exist yet, has less free space."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < num_bytes:
        raise DataError(
            f"{what} needs {num_bytes / 1e9:.1f} GB on the disk of {folder}, where {free / 1e9:.1f} GB are "
            "free. Make room there, or name a folder on another disk with --root."
        )


class _Part:
    """The unfinished file and its tag."""

    def __init__(self, final: Path):
        self.final = final
        self.path = final.with_name(final.name + ".part")
        self._tag = final.with_name(final.name + ".part.tag")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def tag(self) -> str | None:
        return self._tag.read_text(encoding="latin-1") if self._tag.exists() else None

    def begin(self, tag: str | None) -> None:
        """Start an empty file for the version `tag`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.discard()
        if tag is not None:
            self._tag.write_text(tag, encoding="latin-1")
        self.path.touch()

    def finish(self) -> None:
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.final)
        self._tag.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)


class _Retry(Exception):
    """This attempt failed, but the next may succeed."""


class _Fetch:
    """Requests for one file, until it is complete."""

    def __init__(self, remote: Remote, url: str, part: _Part):
        self.remote, self.url, self.part = remote, url, part

    def error(self, what: str) -> DownloadError:
        return DownloadError(
            f"{self.url} {what}. Type the same command again later, or name another server with "
            f"--mirror URL, or place {self.remote.name} by hand at {self.part.final}."
        )

    def run(self, progress: Progress) -> None:
        """Raises DownloadError after ATTEMPTS requests in a row without new bytes."""
        failures, furthest = 0, self.part.size()
        while True:
            try:
                total = self._request(progress)
                done = self.part.size()
                if done == total or total is None:
                    return
                problem = f"ended after {done:,} of {total:,} bytes"
                if done > total:
                    self.part.discard()
            except _Retry as error:
                problem = f"failed: {error}"
            done = self.part.size()
            failures = 1 if done > furthest else failures + 1
            furthest = max(furthest, done)
            if failures == ATTEMPTS:
                kept = f" ({done:,} bytes are kept, and the next attempt resumes there)" if done else ""
                raise self.error(f"{problem}, {ATTEMPTS} times in a row{kept}")
            time.sleep(FIRST_WAIT_S * 2 ** (failures - 1))

    def _request(self, progress: Progress) -> int | None:
        """One request, whose bytes are appended to the part. Returns the size of the whole file, if known."""
        have, tag = self.part.size(), self.part.tag()
        headers = {"User-Agent": "trident-seg", "Accept-Encoding": "identity"}
        if have and (tag or self.remote.checksum):
            headers["Range"] = f"bytes={have}-"
            if tag:
                headers["If-Range"] = tag
        try:
            response = urlopen(Request(self.url, headers=headers), timeout=TIMEOUT_S)
        except HTTPError as error:
            with error:
                return self._refused(error, have)
        except (OSError, HTTPException) as error:
            raise _Retry(getattr(error, "reason", None) or error or type(error).__name__) from error
        with response:
            start, total = _extent(response)
            if total is not None and self.remote.size not in (None, total):
                raise self.error(
                    f"offers a file of {total:,} bytes, but the published one has {self.remote.size:,}"
                )
            if start not in (0, have):
                self.part.discard()
                raise _Retry(f"asked for the bytes from {have:,}, it sent those from {start:,}")
            if start == 0:
                self.part.begin(_version_tag(response))
            if total is not None:
                require_space(self.part.final.parent, total - start, f"The rest of {self.remote.name}")
            total = self.remote.size if total is None else total
            self._append(response, start, total, progress)
            return total

    def _append(self, response: HTTPResponse, done: int, total: int | None, progress: Progress) -> None:
        with self.part.path.open("ab") as file:
            progress(done, total)
            while chunk := _read(response):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)

    def _refused(self, error: HTTPError, have: int) -> int:
        """The size of the file if the HTTP error means that it is complete; raises otherwise."""
        if error.code == 416:  # nothing beyond `have`
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return have
            self.part.discard()
            raise _Retry("the local part does not fit the file on the server")
        if error.code in WORTH_A_RETRY:
            raise _Retry(f"HTTP {error.code} {error.reason}")
        raise self.error(f"answers HTTP {error.code} {error.reason}")


def _read(response: HTTPResponse) -> bytes:
    """Up to CHUNK_BYTES of what has arrived; empty at the end, also at a premature one."""
    try:
        return response.read1(CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise _Retry(str(error) or type(error).__name__) from error


def _extent(response: HTTPResponse) -> tuple[int, int | None]:
    """The position of the first byte of the body, and the size of the whole file if the server sends it."""
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    extent, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    start = extent.partition("-")[0]
    if not start.isdigit():
        raise _Retry("it sent a part of the file without its position")
    return int(start), int(total) if total.isdigit() else None


def _version_tag(response: HTTPResponse) -> str | None:
    """The value for If-Range: a strong ETag, else the date."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _mismatch(remote: Remote, path: Path, track: Track) -> str | None:
    """What is wrong with the bytes of `path`, or None."""
    size = path.stat().st_size
    if remote.size not in (None, size):
        return f"{size:,} bytes, not {remote.size:,}"
    if remote.checksum is None:
        return None
    kind, _, expected = remote.checksum.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    with track(f"check {remote.name}", "bytes") as progress, path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            progress(file.tell(), size)
    found = digest.hexdigest()
    return None if found == expected else f"{kind.upper()} {found}, not {expected}"
