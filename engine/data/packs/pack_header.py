"""The header of a pack: what it holds, and where the bytes of each sample are.

A pack is one HDF5 file, or several (shards) that hold consecutive samples. In each file, n samples of C
classes in each split that it holds:

    attribute header         JSON: version, layout, class_names, palette, ignore_index, pack, shard,
                             num_shards, value_range (data.range, of images of more than 8 bits per
                             channel; the records hold 8), bands (of data.bands), labels (multi, of
                             classes that may overlap); by split:
                             fingerprint, num_samples (over all shards), and the SHA-256 of each table
    attribute sha256         of `header`, and so of everything: the tables hold the SHA-256 of each record
    <split>/ids              (n,) bytes, UTF-8
    <split>/sizes            (n, 2) h, w in px
    <split>/image_offsets    (n + 1,) image i is images[image_offsets[i] : image_offsets[i + 1]]
    <split>/label_offsets    (n + 1,) of `labels` likewise
    <split>/image_sha256     (n, 32)
    <split>/label_sha256     (n, 32)
    <split>/label_counts     (n, C) pixels of each class; the other pixels are unlabelled. Of classes that may
                             overlap (n, C + 1): the last column is that of pixels that are void in all masks
    <split>/images, labels   (bytes,) uint8, contiguous, so that they can be mapped into memory

`pack` is the same in all shards of one pack.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from engine.data.hdf5 import require_fixed_size, require_own_content
from engine.data.sample import DataError, Palette

Table = NDArray[Any]

VERSION = 1
TABLES = {  # name -> type; of `ids` the length depends on the longest
    "ids": None,
    "sizes": "<i4",
    "image_offsets": "<i8",
    "label_offsets": "<i8",
    "image_sha256": "u1",
    "label_sha256": "u1",
    "label_counts": "<i4",
}
ON_OPENING = tuple(name for name in TABLES if name != "label_counts")
PACK_AGAIN = "Pack it again: trident prepare pack <recipe> --out <file>"
# What h5py and the checks here raise for files that are damaged or are not packs.
BROKEN = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, MemoryError, OverflowError)


@dataclass(frozen=True)
class SplitEntry:
    """One split: `num_samples` over all shards; `tables` holds the SHA-256 of each table of this file."""

    fingerprint: str
    num_samples: int
    tables: dict[str, str]


@dataclass(frozen=True)
class Header:
    """The header of one file."""

    layout: str
    class_names: tuple[str, ...]
    palette: Palette
    ignore_index: int
    pack: str
    shard: int
    num_shards: int
    splits: dict[str, SplitEntry]
    value_range: Any = None  # as data.range, in tuples
    bands: tuple[str, ...] | None = None
    labels: str = "single"

    def to_json(self) -> bytes:
        values = {"version": VERSION, **asdict(self)}
        # So that earlier versions of Trident read the file.
        for name, usual in (("value_range", None), ("bands", None), ("labels", "single")):
            if values[name] == usual:
                del values[name]
        return json.dumps(values).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Header":
        """Raises ValueError for another version."""
        values = json.loads(text)
        version = values.pop("version", None)
        if version != VERSION:
            raise ValueError(f"it has version {version}, and this program reads version {VERSION}")
        splits = {name: SplitEntry(**entry) for name, entry in values.pop("splits").items()}
        names, palette = tuple(values.pop("class_names")), tuple(tuple(c) for c in values.pop("palette"))
        if (value_range := values.pop("value_range", None)) is not None:
            numbers = [tuple(map(float, x)) if isinstance(x, list) else float(x) for x in value_range]
            values["value_range"] = tuple(numbers)
        if (bands := values.pop("bands", None)) is not None:
            values["bands"] = tuple(map(str, bands))
        return cls(class_names=names, palette=palette, splits=splits, **values)


@dataclass(frozen=True)
class Shard:
    """One file after opening and checking: by split its tables, and where `images` and `labels` begin."""

    path: Path
    header: Header
    tables: dict[str, dict[str, Table]]
    starts: dict[str, tuple[int, int]]


def write_header(file: h5py.File, header: Header, tables: dict[str, dict[str, Table]]) -> None:
    """Write header and tables into a file, and the tables' digests into `header.splits`."""
    for split, own in tables.items():
        for name, table in own.items():
            typed = table.astype(TABLES[name] or table.dtype)
            file[f"{split}/{name}"] = typed
            header.splits[split].tables[name] = _sha256(typed)
    text = header.to_json()
    file.attrs["header"] = np.bytes_(text)
    file.attrs["sha256"] = np.bytes_(hashlib.sha256(text).hexdigest().encode())


def read_shard(path: Path) -> Shard:
    """Open a file, check its length and its digests, and close it.

    Raises:
        DataError: it is truncated, altered, or not a pack.
    """
    with _opened(path) as file:
        text = bytes(file.attrs["header"])
        if hashlib.sha256(text).hexdigest() != bytes(file.attrs["sha256"]).decode():
            raise ValueError("its header is altered")
        header = Header.from_json(text)
        tables, starts = {}, {}
        for split, entry in header.splits.items():
            tables[split] = {name: _read_table(file, split, name, entry) for name in ON_OPENING}
            ends = [int(tables[split][f"{what}_offsets"][-1]) for what in ("image", "label")]
            starts[split] = (
                _start_of(file, f"{split}/images", ends[0]),
                _start_of(file, f"{split}/labels", ends[1]),
            )
        return Shard(path, header, tables, starts)


def read_label_counts(shard: Shard, split: str) -> Table:
    """(n, C) pixels of each class in each sample of one file; (n, C + 1) of classes that may overlap."""
    with _opened(shard.path) as file:
        return _read_table(file, split, "label_counts", shard.header.splits[split])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open for the block only: a handle must not be inherited by a forked process."""
    try:
        with h5py.File(
            path, "r", locking=False
        ) as file:  # read-only places cannot lock; a pack never changes
            require_own_content(file)
            for name in ("header", "sha256"):
                require_fixed_size(file.attrs.get_id(name), name)
            yield file
    except DataError:
        raise
    except BROKEN as error:
        text = str(error.args[0]) if error.args else repr(error)  # str() of a KeyError has quotes
        raise DataError(f"{path} {_what_is_wrong(path, text)}. {PACK_AGAIN}") from error


def _what_is_wrong(path: Path, error: str) -> str:
    cut = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", error)
    if cut:
        return f"is truncated: {int(cut[1]):,} of its {int(cut[2]):,} bytes are there"
    if not path.stat().st_size:
        return "is empty"
    return f"is not a pack, or is damaged: {error.strip().rstrip('.')}"


def _read_table(file: h5py.File, split: str, name: str, entry: SplitEntry) -> Table:
    require_fixed_size(file[f"{split}/{name}"], f"table {split}/{name}")
    table: Table = file[f"{split}/{name}"][()]
    if _sha256(table) != entry.tables[name]:
        raise ValueError(f"its table {split}/{name} is altered")
    return table


def _start_of(file: h5py.File, name: str, num_bytes: int) -> int:
    """Where the bytes of a contiguous dataset begin in the file."""
    dataset = file[name]
    start = dataset.id.get_offset()
    if start is None or dataset.shape != (num_bytes,) or dataset.dtype != np.uint8:
        raise ValueError(f"its {name} are not {num_bytes:,} contiguous bytes")
    size = file.id.get_filesize()
    if start + num_bytes > size:
        raise ValueError(f"its {name} end at byte {start + num_bytes:,}, beyond its end at {size:,}")
    return int(start)


def _sha256(table: Table) -> str:
    """Hash of type, shape and values."""
    what = f"{table.dtype.str} {table.shape} ".encode()
    return hashlib.sha256(what + np.ascontiguousarray(table).tobytes()).hexdigest()
