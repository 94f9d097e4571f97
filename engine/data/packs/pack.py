"""Writes a pack: all splits of a recipe in one HDF5 file or in shards, in the layout of `pack_header.py`.

Everything is planned first, so that free disk space can be checked and each HDF5 dataset has its final size.
The files are written under temporary names and renamed when all are complete; memory use does not grow with
the data set. `pack_records.py` defines the bytes of a sample.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from engine.data.packs.pack_header import Header, SplitEntry, write_header
from engine.data.packs.pack_records import (
    LAYOUTS,
    Decoded,
    Encoded,
    Record,
    SamplePlan,
    has_masks_of_classes,
)
from engine.data.packs.packed import shard_names, shard_paths
from engine.data.sample import DataError, Dataset

Counter = Callable[[int, int], None]
Part = dict[str, list[SamplePlan]]  # the samples of one file, by split
AHEAD = 32  # samples in memory at a time
FILE_BYTES = 1 << 20  # for everything in a file that is neither record nor table
ROW_BYTES = 512  # for the tables of a sample, without its class counts
Item = TypeVar("Item")
Result = TypeVar("Result")


def write_pack(
    splits: Mapping[str, Dataset],
    path: Path,
    layout: str = "encoded",
    shard_bytes: int | None = None,
    overwrite: bool = False,
    counter: Callable[[str], Counter] = lambda what: lambda done, total: None,
) -> list[Path]:
    """Pack the splits of one data set as `path`.

    Args:
        splits: by name.
        path: the file; if it takes several, they are named <stem>-00000-of-00003<suffix>.
        layout: "encoded" or "decoded".
        shard_bytes: maximum size of the records of a shard, if it has several; None writes one file.
        overwrite: replace a pack of this name once the new one is complete.
        counter: makes a progress callback `(done, total)` for a task of the given name.

    Returns:
        The files, in order.

    Raises:
        DataError: the file exists, the disk has too little space, or samples cannot be read.
    """
    require_unused(path, overwrite)
    old = shard_paths(path)
    layouts = {name: LAYOUTS[layout](dataset) for name, dataset in splits.items()}
    plans = {name: _plan(layouts[name], len(splits[name]), counter(f"checking {name}")) for name in splits}
    parts = _divided(plans, shard_bytes)
    _require_room(path, plans, len(parts), len(next(iter(splits.values())).class_names))

    paths = [path] if len(parts) == 1 else shard_names(path, len(parts))
    progress, done, total = counter("packing"), 0, sum(len(own) for own in plans.values())

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    with _written_together(paths) as temporaries:
        for header, part, temporary in zip(_headers(splits, layout, parts), parts, temporaries, strict=True):
            with h5py.File(temporary, "w", libver="latest") as file:  # "latest" has checksums of metadata
                tables = {
                    name: _write_split(
                        file, name, splits[name], own, _in_order(layouts[name].record, own), tick
                    )
                    for name, own in part.items()
                }
                write_header(file, header, tables)
    for replaced in set(old) - set(paths):
        replaced.unlink()
    return paths


def require_unused(path: Path, overwrite: bool) -> None:
    """Raises DataError where the pack already exists, or its folder does not."""
    if path.is_dir():
        raise DataError(f"--out {path} is a folder; name a file, such as {path / 'pack.h5'}")
    if not path.parent.is_dir():
        raise DataError(f"--out {path}: there is no folder {path.parent}; make it, or name another place.")
    there = shard_paths(path)
    if there and not overwrite:
        raise DataError(f"{there[0]} exists already. Name another --out, or type --overwrite to replace it.")


def _plan(layout: Encoded | Decoded, num_samples: int, progress: Counter) -> list[SamplePlan]:
    plans = []
    for plan in _in_order(layout.plan, range(num_samples)):
        plans.append(plan)
        progress(len(plans), num_samples)
    return plans


def _divided(plans: Mapping[str, list[SamplePlan]], shard_bytes: int | None) -> list[Part]:
    """Consecutive samples by file; a file ends where the next sample would exceed `shard_bytes`."""
    parts: list[Part] = [{}]
    num_bytes = 0
    for name, own in plans.items():
        for plan in own:
            if shard_bytes is not None and num_bytes and num_bytes + plan.num_bytes > shard_bytes:
                parts.append({})
                num_bytes = 0
            parts[-1].setdefault(name, []).append(plan)
            num_bytes += plan.num_bytes
    return parts


def _require_room(
    path: Path, plans: Mapping[str, list[SamplePlan]], num_files: int, num_classes: int
) -> None:
    every = [plan for own in plans.values() for plan in own]
    needed = sum(plan.num_bytes + ROW_BYTES + 4 * num_classes for plan in every) + num_files * FILE_BYTES
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DataError(
            f"{path.parent} has {free / 1e9:,.1f} GB free, but the pack takes {needed / 1e9:,.1f} GB. Make "
            "room, name an --out on another disk, or type --layout encoded, which is as small as the files."
        )


def _headers(splits: Mapping[str, Dataset], layout: str, parts: list[Part]) -> list[Header]:
    """One per file; the digests of the tables are added later."""
    fingerprints = {name: dataset.fingerprint() for name, dataset in splits.items()}
    lengths = [{name: [plan.num_bytes for plan in own] for name, own in part.items()} for part in parts]
    pack = hashlib.sha256(json.dumps([layout, fingerprints, lengths]).encode()).hexdigest()
    first = next(iter(splits.values()))
    return [
        Header(
            layout=layout,
            class_names=tuple(first.class_names),
            palette=tuple(first.palette),
            ignore_index=first.ignore_index,
            pack=pack,
            shard=number,
            num_shards=len(parts),
            value_range=getattr(first, "value_range", None),
            bands=first.bands,
            labels="multi" if has_masks_of_classes(first) else "single",
            splits={name: SplitEntry(fingerprints[name], len(splits[name]), {}) for name in part},
        )
        for number, part in enumerate(parts)
    ]


def _write_split(
    file: h5py.File,
    name: str,
    dataset: Dataset,
    plans: list[SamplePlan],
    records: Iterable[Record],
    tick: Callable[[], None],
) -> dict[str, NDArray[Any]]:
    """Write the bytes of the samples and return their tables."""
    num, num_counts = len(plans), len(dataset.class_names) + has_masks_of_classes(dataset)
    tables = {
        "ids": np.array([dataset.ids[plan.index].encode() for plan in plans]),
        "sizes": np.empty((num, 2), int),
        "image_offsets": np.cumsum([0, *(plan.num_image_bytes for plan in plans)]),
        "label_offsets": np.cumsum([0, *(plan.num_label_bytes for plan in plans)]),
        "image_sha256": np.empty((num, 32), np.uint8),
        "label_sha256": np.empty((num, 32), np.uint8),
        "label_counts": np.empty((num, num_counts), int),
    }
    images = file.create_dataset(f"{name}/images", (tables["image_offsets"][-1],), np.uint8)
    labels = file.create_dataset(f"{name}/labels", (tables["label_offsets"][-1],), np.uint8)
    for row, record in enumerate(records):
        for what, content, bytes_of_all in (
            ("image", record.image, images),
            ("label", record.labels, labels),
        ):
            start, end = tables[f"{what}_offsets"][row : row + 2]
            bytes_of_all[start:end] = np.frombuffer(content, np.uint8)
            tables[f"{what}_sha256"][row] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        tables["sizes"][row] = record.size
        tables["label_counts"][row] = record.counts
        tick()
    return tables


def _in_order(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Results in order, some computed ahead in threads: decoding releases the interpreter lock."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), AHEAD):
            yield from pool.map(function, items[start : start + AHEAD])


@contextmanager
def _written_together(paths: list[Path]) -> Iterator[list[Path]]:
    """Temporary paths next to `paths`: renamed to them if the block succeeds, otherwise deleted."""
    temporaries = [path.with_name(path.name + ".part") for path in paths]
    try:
        yield temporaries
        for temporary in temporaries:
            _sync(temporary)
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
        _sync(paths[0].parent)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """fsync a file, or the entries of a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
