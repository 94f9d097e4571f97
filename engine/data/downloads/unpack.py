"""Tar and zip archives of strangers: listed and judged as a whole before a byte is written.

Only regular files are ever written, under names that stay inside the folder, and never over a file that is
there; links, devices and modes are not reproduced. So nothing is left to the filters of tarfile, which older
Pythons lack. Knows nothing of data sets.
"""

import gzip
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.data.downloads.download import Track, require_space
from engine.data.sample import DataError

MAX_EXPANSION = 20  # times the archive; images and masks hardly shrink, a bomb is 1000 and more
ALWAYS_ALLOWED_BYTES = 64 << 20
BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError,
    NotImplementedError,
)  # fmt: skip

DISTRUST = "Remove the archive, and do not trust the place that it comes from."

Place = Callable[[str], str | None]  # name in the archive -> path below the folder; None: leave it out


@dataclass(frozen=True)
class Member:
    """A regular file of an archive; `name` is relative and stays inside."""

    name: str
    size: int


def read_members(archive: Path, track: Track) -> list[Member]:
    """The regular files of an archive, in its order.

    Raises:
        DataError: no archive, a damaged one, or one with members that no honest archive has: absolute paths,
            `..`, links that lead outside, devices, more bytes than MAX_EXPANSION times its own.
    """
    allowed = max(MAX_EXPANSION * archive.stat().st_size, ALWAYS_ALLOWED_BYTES)
    members, links, hostile, total = [], set(), [], 0
    with (
        damage_named(archive),
        _opened(archive) as opened,
        track(f"list {archive.name}", "files") as progress,
    ):
        for count, (name, size, kind, link) in enumerate(_entries(opened), start=1):
            total += size
            if size < 0 or total > allowed:  # at once: to go on in a tar.gz is to decompress it
                raise DataError(
                    f"{archive} is hostile: up to {name!r} its members claim {total / 1e9:.1f} GB, more than "
                    f"{MAX_EXPANSION} times its own size. Nothing was unpacked. {DISTRUST}"
                )
            if reason := _hostility(name, kind, link):
                hostile.append(f"{name!r} ({reason})")
            elif kind == "file":
                members.append(Member(posixpath.normpath(name), size))
            elif kind == "link":
                links.add(posixpath.normpath(name))
            progress(count, None)
    hostile += [f"{m.name!r} (below a link)" for m in members if _parents(m.name) & links]
    if hostile:
        raise DataError(f"{archive} is hostile: {_first_few(hostile)}. Nothing was unpacked. {DISTRUST}")
    return members


def unpack(archive: Path, folder: Path, place: Place, track: Track) -> int:
    """Write the files that `place` wants below `folder`; those that are there with the same size stay.

    Each is written beside its place and renamed: what has its name is whole. Returns how many were written.

    Raises:
        DataError: as read_members; or a file of another size is in the way, two members have one name, no
            member is wanted, or the disk is too full.
    """
    wanted = [(m, folder / to) for m in read_members(archive, track) if (to := place(m.name)) is not None]
    if not wanted:
        raise DataError(f"{archive} holds none of the files that belong there. Remove it and try again.")
    _require_usual_names([member.name for member, _ in wanted], archive)
    _require_same(
        [target for m, target in wanted if target.exists() and target.stat().st_size != m.size], archive
    )
    missing = {m.name: target for m, target in wanted if not target.exists()}
    require_space(folder, sum(m.size for m, _ in wanted if m.name in missing), f"Unpacking {archive.name}")
    with damage_named(archive), track(f"unpack {archive.name}", "files") as progress:
        for done, (member, content) in enumerate(contents(archive, missing), start=1):
            write_beside(missing[member.name], content, member.size, archive)
            progress(done, len(missing))
    os.sync()  # once, as an fsync of each file takes minutes
    return len(missing)


def contents(archive: Path, names: Collection[str]) -> Iterator[tuple[Member, IO[bytes]]]:
    """The named regular files with their bytes, in the order of an archive that `read_members` has judged."""
    with _opened(archive) as opened:
        if isinstance(opened, zipfile.ZipFile):
            for info in opened.infolist():
                name = posixpath.normpath(info.filename)
                if name in names and not info.is_dir():
                    with opened.open(info) as content:
                        yield Member(name, info.file_size), content
        else:
            for header in opened:
                name = posixpath.normpath(header.name)
                if name in names and header.isreg():
                    content = opened.extractfile(header)
                    assert content is not None  # as it is a regular file
                    with content:
                        yield Member(name, header.size), content


def write_beside(target: Path, content: IO[bytes], size: int, archive: Path) -> None:
    """`content` in a temporary file that takes the name `target` when it has its `size`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".part")
    try:
        with temporary.open("wb") as file:
            shutil.copyfileobj(content, file, 1 << 18)
        if temporary.stat().st_size != size:
            raise DataError(f"{archive} is damaged at {target.name}. Remove it and try again.")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def damage_named(archive: Path) -> Iterator[None]:
    """What tarfile and zipfile raise on damage becomes a DataError; around all that reads from an archive."""
    try:
        yield
    except BROKEN as error:
        raise DataError(
            f"{archive} is damaged, or no tar or zip archive: {error}. Remove it and try again."
        ) from error


def _opened(archive: Path) -> tarfile.TarFile | zipfile.ZipFile:
    with archive.open("rb") as file:  # not is_zipfile, which takes a tar that ends in a zip for a zip
        is_zip = file.read(2) == b"PK"
    return zipfile.ZipFile(archive) if is_zip else tarfile.open(archive)


def _entries(opened: tarfile.TarFile | zipfile.ZipFile) -> Iterator[tuple[str, int, str, str]]:
    """Name, size, kind (file, folder, link, other, encrypted) and where a link leads, of each member."""
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            yield info.filename, info.file_size, _kind_in_zip(info), ""
        return
    for header in opened:
        if header.issym():
            lead = posixpath.join(posixpath.dirname(header.name), header.linkname)
            yield header.name, header.size, "link", lead
        elif header.islnk():
            yield header.name, header.size, "link", header.linkname
        else:
            yield (
                header.name,
                header.size,
                ("file" if header.isreg() else "folder" if header.isdir() else "other"),
                "",
            )


def _kind_in_zip(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 0x1:
        return "encrypted"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "other"  # a link too: where it leads stands in its bytes, and no zip of images has one
    return "folder" if info.is_dir() else "file"


def _hostility(name: str, kind: str, link: str) -> str | None:
    """Why a member is none of an honest archive, or None."""
    if reason := _leaving(name):
        return reason
    if kind in ("encrypted", "other"):
        return "encrypted" if kind == "encrypted" else "a link or device"
    return f"a link to {link!r}" if link and _leaving(posixpath.normpath(link)) else None


def _leaving(name: str) -> str | None:
    if name.startswith("/") or "\\" in name or name[1:2] == ":":
        return "not a relative path"
    return "leaves the folder" if ".." in name.split("/") else None


def _parents(name: str) -> set[str]:
    parts = name.split("/")
    return {"/".join(parts[:length]) for length in range(1, len(parts))}


def _require_usual_names(names: list[str], archive: Path) -> None:
    """No two of one name, none that is a folder to another, none that would upset a terminal."""
    distinct = set(names)
    odd = [name for name in distinct if _parents(name) & distinct or not name.isprintable()]
    odd += [name for name, count in Counter(names).items() if count > 1]
    if odd:
        raise DataError(
            f"{archive} is hostile: {_first_few([repr(name) for name in sorted(odd)])}: twice there, or with "
            f"control characters. Nothing was unpacked. {DISTRUST}"
        )


def _require_same(differing: list[Path], archive: Path) -> None:
    if differing:
        raise DataError(
            f"{_first_few(differing)}: there already, with another size than in {archive.name}, and nothing "
            "is overwritten. Move them away, or name another folder with --root."
        )


def _first_few(items: list, count: int = 5) -> str:
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(str(item) for item in items[:count]) + more
