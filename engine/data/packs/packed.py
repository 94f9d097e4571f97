"""Reads a pack: its header once, then each sample from the memory-mapped file, without h5py.

Threads and forked processes share the memory map. Decoded samples are views of it (copy on write); encoded
ones are decoded when they are read. The bytes of a record are compared with its SHA-256 when a process first
reads them. `pack_header.py` describes the file, `pack.py` writes it.
"""

import glob
import hashlib
import io
import json
import mmap
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from engine.data.bands import RGB, Bands, band_names
from engine.data.formats.bands import decode_mask
from engine.data.formats.images import decode_image, naming_file, refuse_bomb
from engine.data.packs.pack_header import PACK_AGAIN, Shard, read_label_counts, read_shard
from engine.data.sample import DataError, Sample, Skipped, first_few
from engine.wording import did_you_mean, quantity

MOST_SHARDS = 99_999  # their names have five digits
# Linux reserves memory for a private map, as it may be written to, unless this flag is set.
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000) if sys.platform == "linux" else 0


class PackedDataset:
    """One split of a pack.

    Args:
        root: the file that `trident prepare pack` wrote; for shards, the name given to --out.
        split: a split of the recipe that was packed.
        class_names: those of the recipe; None takes those of the pack.
        ignore_index: likewise.
        range: data.range; a pack holds 8 bits per channel, made with its own.
        bands: data.bands, those of the pack.
        labels: data.labels; None takes that of the pack.

    Raises:
        DataError: no such pack or split; other classes; files truncated, altered or missing. Reading a
            sample raises it if its bytes are altered.
    """

    skipped: Skipped | None = None  # all samples could be read when the pack was written

    def __init__(
        self,
        root: str | Path,
        split: str,
        class_names: tuple[str, ...] | None = None,
        ignore_index: int | None = None,
        range: str | list[Any] = "auto",
        bands: int | list[str] | None = None,
        labels: str | None = None,
    ):
        self._arguments = (root, split, class_names, ignore_index, range, bands, labels)
        self._shards = read_shards(Path(root).expanduser())
        header = self._shards[0].header
        self.class_names, self.palette = header.class_names, header.palette
        self.ignore_index = header.ignore_index
        self.layout = header.layout
        self.split = split
        self.value_range, self.bands = header.value_range, header.bands
        self._masks = (len(self.class_names),) if header.labels == "multi" else ()  # shape before (h, w)
        if labels not in (None, header.labels):
            raise DataError(
                f"{root} was packed with labels: {header.labels}, and data.labels is {labels}. Type "
                f"data.labels={header.labels}"
            )
        self._require(root, class_names, ignore_index, range)
        self._require_bands(root, band_names(bands))
        self._shards = [shard for shard in self._shards if split in shard.header.splits]

        tables = [shard.tables[split] for shard in self._shards]
        self.ids = [id.decode() for table in tables for id in table["ids"].tolist()]
        self._sizes = [(h, w) for table in tables for h, w in table["sizes"].tolist()]
        self._shard_of = np.repeat(np.arange(len(tables)), [len(table["ids"]) for table in tables]).tolist()
        self._spans = {  # what -> (start in its file, number of bytes) of each sample
            what: [
                (shard.starts[split][number] + start, end - start)
                for shard, table in zip(self._shards, tables, strict=True)
                for start, end in pairwise(table[f"{what}_offsets"].tolist())
            ]
            for number, what in enumerate(("image", "label"))
        }
        self._sha256 = {
            what: np.concatenate([table[f"{what}_sha256"] for table in tables]) for what in self._spans
        }
        self._is_checked = {what: np.zeros(len(self.ids), bool) for what in self._spans}
        self._maps = [_mapped(shard.path) for shard in self._shards]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]  # raises IndexError; -1 is the last
        record = self._record("image", index)
        shape = (len(self.bands or RGB), *self._sizes[index])
        if self.layout == "decoded":
            return Sample(self.ids[index], record.view(shape), self.labels(index))
        content = record.numpy().data
        name = self._name("image", index)
        image = decoded_image(content, name) if self.bands is None else decoded_stack(content, shape, name)
        return Sample(self.ids[index], image, self.labels(index))

    def labels(self, index: int) -> Tensor:
        """(h, w) uint8 of one sample, without its image; of classes that may overlap (C, h, w)."""
        index = range(len(self))[index]
        record = self._record("label", index)
        h, w = self._sizes[index]
        if self.layout == "decoded":
            return record.view(*self._masks, h, w)
        content, name = record.numpy().data, self._name("label", index)
        if self._masks:
            return decoded_stack(content, (*self._masks, h, w), name)
        return decoded_labels(content, name)

    def label_counts(self) -> NDArray[np.integer]:
        """From the pack's table, see `CountedDataset`."""
        return np.concatenate([read_label_counts(shard, self.split) for shard in self._shards])

    def sizes(self) -> list[tuple[int, int]]:
        return list(self._sizes)

    def fingerprint(self) -> str:
        """That of the data set that was packed, so that a checkpoint can be scored on either."""
        return self._shards[0].header.splits[self.split].fingerprint

    def __reduce__(self) -> tuple[type["PackedDataset"], tuple[Any, ...]]:
        """A memory map cannot be pickled; the other process opens the pack again."""
        return PackedDataset, self._arguments

    def _record(self, what: str, index: int) -> Tensor:
        """The bytes of an image or of its labels, (n,) uint8, in the memory-mapped file."""
        start, num_bytes = self._spans[what][index]
        shard = self._shard_of[index]
        # A tensor with its own storage: with a view of the whole file a worker would send the whole file.
        record = torch.frombuffer(self._maps[shard], dtype=torch.uint8, count=num_bytes, offset=start)
        if not self._is_checked[what][index]:
            if hashlib.sha256(record.numpy().data).digest() != self._sha256[what][index].tobytes():
                name = self._name(what, index)
                raise DataError(f"{name} is altered: its SHA-256 is not the stored one. {PACK_AGAIN}")
            self._is_checked[what][index] = True
        return record

    def _name(self, what: str, index: int) -> str:
        """Of a record, for messages."""
        path = self._shards[self._shard_of[index]].path
        return f"{path}: the {what} of {self.ids[index]!r}, sample {index} of split {self.split!r},"

    def _require(
        self,
        root: str | Path,
        class_names: tuple[str, ...] | None,
        ignore_index: int | None,
        range: str | list[Any],
    ) -> None:
        there = [*dict.fromkeys(name for shard in self._shards for name in shard.header.splits)]
        if self.split not in there:
            hint = did_you_mean(self.split, there)
            raise DataError(f"{root} has no split {self.split!r}. Splits there: {', '.join(there)}.{hint}")
        if class_names is not None and tuple(class_names) != self.class_names:
            raise DataError(
                f"{root} holds {quantity(len(self.class_names), 'class', 'classes')} that are not those of "
                f"data.classes ({', '.join(class_names)}). Type the data.classes of the recipe that was "
                f"packed, or 'data.classes=[{', '.join(self.class_names)}]'"
            )
        if ignore_index is not None and ignore_index != self.ignore_index:
            raise DataError(
                f"{root} uses {self.ignore_index} for void; type data.ignore_index={self.ignore_index}."
            )
        given = "auto" if range == "auto" else tuple(tuple(x) if isinstance(x, list) else x for x in range)
        if given not in ("auto", self.value_range):
            own = json.dumps(self.value_range) if self.value_range else "auto"
            raise DataError(
                f"{root} was packed with data.range={own}, and has 8 bits per channel since. Type "
                "data.range=auto, or pack the data again."
            )

    def _require_bands(self, root: str | Path, bands: Bands) -> None:
        if bands != self.bands:
            own = f"'data.bands=[{', '.join(self.bands)}]'" if self.bands else "data.bands=null"
            raise DataError(
                f"{root} holds images of {', '.join(self.bands or RGB)}, and data.bands says "
                f"{', '.join(bands or RGB)}. Type {own}, or pack the data again."
            )


class _Named(io.BytesIO):
    """Bytes that messages call by a name."""

    def __init__(self, content: bytes | memoryview, name: str):
        super().__init__(content)
        self._name = name

    def __str__(self) -> str:
        return self._name


def decoded_image(content: bytes | memoryview, name: str = "The image") -> Tensor:
    """(3, h, w) uint8 of an encoded image; `name` is for messages."""
    image, _ = decode_image(_Named(content, name))  # (h, w, 3)
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()  # (3, h, w)


def decoded_labels(content: bytes | memoryview, name: str = "The mask") -> Tensor:
    """(h, w) uint8 of an encoded mask of label ids; other types or shapes for other masks."""
    return torch.from_numpy(decode_mask(_Named(content, name)))


def decoded_stack(content: bytes | memoryview, shape: tuple[int, ...], name: str = "The PNG") -> Tensor:
    """(n, h, w) uint8 of an encoded PNG of n bands or masks, one below the other.

    The limit of pixels applies to one of them, as to an image file; all n together may have more.

    Args:
        shape: n, h, w. Nothing is decoded where the PNG has another size.
    """
    n, h, w = shape
    file = _Named(content, name)
    refuse_bomb(file, h, w)
    with naming_file(file):
        image = PngImageFile(file)  # unlike Image.open, has no limit
        if (image.mode, image.width, image.height) != ("L", w, n * h):
            raise ValueError(f"it is {image.mode}, {image.width} x {image.height} px, not {n} x {h} x {w}")
        return torch.from_numpy(np.array(image).reshape(shape))


def shard_paths(root: Path) -> list[Path]:
    """The files of the pack that was written as `root`: itself, or its shards in order."""
    pattern = f"{glob.escape(root.stem)}-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]{root.suffix}"
    return [root] if root.is_file() else sorted(root.parent.glob(pattern))


def shard_names(root: Path, num_shards: int) -> list[Path]:
    """The file names of a pack that is written as `root` in shards."""
    return [root.with_stem(f"{root.stem}-{n:05d}-of-{num_shards:05d}") for n in range(num_shards)]


def read_shards(root: Path) -> list[Shard]:
    """Every file of a pack, in order.

    Raises:
        DataError: no pack with this name; files missing, or of different packs.
    """
    paths = shard_paths(root)
    if not paths:
        beside = sorted(path.name for path in (root if root.is_dir() else root.parent).glob("*.h5"))
        hint = f" Packs there: {', '.join(beside[:5])}." if beside else f" {PACK_AGAIN.replace(' again', '')}"
        raise DataError(f"data.root: no pack {root}.{hint}")
    shards = [read_shard(path) for path in paths]
    first = shards[0].header
    others = [shard.path.name for shard in shards if shard.header.pack != first.pack]
    if others:
        raise DataError(
            f"{paths[0].name} and {', '.join(others)} in {root.parent} belong to different packs. "
            "Keep the files of one pack."
        )
    require_whole(root, shards)
    return shards


def require_whole(root: Path, shards: list[Shard]) -> None:
    """Raises DataError where files of a pack are missing, renamed, or claim an impossible number."""
    num_shards = shards[0].header.num_shards
    if num_shards == 1 and len(shards) == 1:
        return  # one file may have any name
    if not (isinstance(num_shards, int) and 1 <= num_shards <= MOST_SHARDS):
        raise DataError(f"{shards[0].path} is damaged: it says that its pack has {num_shards} files.")
    pack = root.with_stem(re.sub(r"-\d{5}-of-\d{5}$", "", root.stem))
    if pack != root:
        raise DataError(f"data.root: {root} is one of {num_shards} files of a pack; type data.root={pack}")
    wanted = [path.name for path in shard_names(root, num_shards)]
    there = [shard.path.name for shard in shards]
    missing = [name for name in wanted if name not in there]
    if missing:
        raise DataError(f"data.root: of the {num_shards} files of {root} are missing: {first_few(missing)}.")
    numbers = [shard.header.shard for shard in shards]
    if there != wanted or numbers != [*range(num_shards)]:
        raise DataError(
            f"data.root: the files {', '.join(there)} of {root} hold parts {numbers} of {num_shards}, so "
            "some are renamed. Give them the names that they were written with."
        )


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(
            file.fileno(), 0, flags=mmap.MAP_PRIVATE | NO_RESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
