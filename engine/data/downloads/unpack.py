"""Untrusted tar and zip archives: all members are listed and checked before a byte is written.

Only regular files are written, under names that stay inside the folder, and existing files are never
overwritten; links, devices and modes are ignored. Not tarfile's data filter (PEP 706): it checks each member
as it is written, so a bad one leaves the earlier ones behind, and there is none for zip.
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
from engine.data.sample import DataError, first_few

MAX_EXPANSION = 20  # times the archive size; images and masks hardly compress, a bomb has 1000 and more
ALWAYS_ALLOWED_BYTES = 64 << 20
MOST_NAME_BYTES, MOST_PATH_BYTES = 255, 4095  # of the file systems of Linux and macOS
PART = ".part"  # at the end of the name while a file is written
BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError,
    NotImplementedError,
)  # fmt: skip

DISTRUST = "Remove the archive, and do not trust its source."

Place = Callable[[str], str | None]  # name in the archive -> path below the folder; None: not written


@dataclass(frozen=True)
class Member:
    """A regular file of an archive; `name` is relative and stays inside the folder."""

    name: str
    size: int


def read_members(archive: Path, track: Track) -> list[Member]:
    """The regular files of an archive, in its order.

    Raises:
        DataError: not an archive, a damaged one, or one with malicious members: absolute paths, `..`, links
            to the outside, devices, more bytes than MAX_EXPANSION times its size.
    """
    allowed = max(MAX_EXPANSION * archive.stat().st_size, ALWAYS_ALLOWED_BYTES)
    members, links, malicious, total = [], set(), [], 0
    with (
        damage_named(archive),
        _opened(archive) as opened,
        track(f"list {archive.name}", "files") as progress,
    ):
        for count, (name, size, kind, link) in enumerate(_entries(opened), start=1):
            total += size
            if size < 0 or total > allowed:  # at once: listing the rest of a tar.gz would decompress it
                raise DataError(
                    f"{archive} is malicious: up to {name!r} its members claim {total / 1e9:.1f} GB, more "
                    f"than {MAX_EXPANSION} times its own size. Nothing was unpacked. {DISTRUST}"
                )
            if reason := _reason_to_refuse(name, kind, link):
                malicious.append(f"{name!r} ({reason})")
            elif kind == "file":
                members.append(Member(posixpath.normpath(name), size))
            elif kind == "link":
                links.add(posixpath.normpath(name))
            progress(count, None)
    malicious += [f"{m.name!r} (below a link)" for m in members if _parents(m.name) & links]
    if malicious:
        raise DataError(f"{archive} is malicious: {first_few(malicious)}. Nothing was unpacked. {DISTRUST}")
    return members


def unpack(archive: Path, folder: Path, place: Place, track: Track) -> int:
    """Write the files that `place` selects below `folder`; existing ones of the same size are kept.

    Each is written under a temporary name and renamed when complete. Returns how many were written.

    Raises:
        DataError: as read_members; or a file of another size exists, two members have the same name, no
            member is selected, or the disk has too little space.
    """
    wanted = [(m, folder / to) for m in read_members(archive, track) if (to := place(m.name)) is not None]
    if not wanted:
        raise DataError(f"{archive} holds none of the expected files. Remove it and try again.")
    _require_usual_names([member.name for member, _ in wanted], archive)
    _require_short_names([target for _, target in wanted], archive)
    _require_same(
        [target for m, target in wanted if target.exists() and target.stat().st_size != m.size], archive
    )
    missing = {m.name: target for m, target in wanted if not target.exists()}
    require_space(folder, sum(m.size for m, _ in wanted if m.name in missing), f"Unpacking {archive.name}")
    with damage_named(archive), track(f"unpack {archive.name}", "files") as progress:
        for done, (member, content) in enumerate(contents(archive, missing), start=1):
            write_beside(missing[member.name], content, member.size, archive)
            progress(done, len(missing))
    os.sync()  # once: an fsync of each file takes minutes
    return len(missing)


def contents(archive: Path, names: Collection[str]) -> Iterator[tuple[Member, IO[bytes]]]:
    """The named regular files with their bytes, in order, of an archive that `read_members` has checked."""
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
                    extracted = opened.extractfile(header)
                    assert extracted is not None  # as it is a regular file
                    with extracted:
                        yield Member(name, header.size), extracted


def write_beside(target: Path, content: IO[bytes], size: int, archive: Path) -> None:
    """Write `content` to a temporary file, and rename it to `target` if it has `size` bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + PART)
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
    """Turns what tarfile and zipfile raise for damaged archives into a DataError."""
    try:
        yield
    except BROKEN as error:
        raise DataError(
            f"{archive} is damaged, or not a tar or zip archive: {error}. Remove it and try again."
        ) from error


def _opened(archive: Path) -> tarfile.TarFile | zipfile.ZipFile:
    with archive.open("rb") as file:  # not is_zipfile: a tar that ends with a zip passes it
        is_zip = file.read(2) == b"PK"
    return zipfile.ZipFile(archive) if is_zip else tarfile.open(archive)


def _entries(opened: tarfile.TarFile | zipfile.ZipFile) -> Iterator[tuple[str, int, str, str]]:
    """Name, size, kind (file, folder, link, other, encrypted) and link target of each member."""
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            yield info.filename, info.file_size, _kind_in_zip(info), ""
        return
    for header in opened:
        if header.issym():
            target = posixpath.join(posixpath.dirname(header.name), header.linkname)
            yield header.name, header.size, "link", target
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
        return "other"  # links too: their target is in their bytes, and no zip of images has one
    return "folder" if info.is_dir() else "file"


def _reason_to_refuse(name: str, kind: str, link: str) -> str | None:
    """Why a member makes the archive malicious, or None."""
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
    """Refuses duplicate names, files that are the folder of others, and control characters."""
    distinct = set(names)
    odd = [name for name in distinct if _parents(name) & distinct or not name.isprintable()]
    odd += [name for name, count in Counter(names).items() if count > 1]
    if odd:
        raise DataError(
            f"{archive} is malicious: {first_few([repr(name) for name in sorted(odd)])}: duplicates, or with "
            f"control characters. Nothing was unpacked. {DISTRUST}"
        )


def _require_short_names(targets: list[Path], archive: Path) -> None:
    """Refuses names that no file can have, also while it is written."""
    for target in targets:
        parts = [os.fsencode(part) for part in (*target.parts[:-1], target.name + PART)]
        if max(map(len, parts)) > MOST_NAME_BYTES or len(os.fsencode(target)) + len(PART) > MOST_PATH_BYTES:
            raise DataError(
                f"{archive} holds a file whose name is too long: {target.name[:40]!r}, in a path of "
                f"{len(os.fsencode(target)):,} bytes. A name may have {MOST_NAME_BYTES - len(PART)} bytes, a "
                f"path {MOST_PATH_BYTES - len(PART):,}. Nothing was unpacked. Make the archive again with "
                "shorter names, or unpack it into a folder with a shorter path."
            )


def _require_same(differing: list[Path], archive: Path) -> None:
    if differing:
        raise DataError(
            f"Files exist with another size than in {archive.name}, and nothing is overwritten: "
            f"{first_few(differing)}. Move them away, or name another folder with --root."
        )
