"""How many pixels of each class each image has: one scan of the labels, cached next to the data.

Shapes: N images, C classes.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from engine.data.sample import Dataset, UnreadableSample, note_or_raise, read_all

NUM_IDS = 256  # labels are uint8
ANY_MAY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class ClassCounts:
    """pixels: (N, C) int64, by class. void: (N,) int64, unlabelled pixels."""

    pixels: NDArray[np.int64]
    void: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """(C,): the share of each class in all labelled pixels; 0 where a class is absent."""
        total = self.pixels.sum(axis=0)
        shares: NDArray[np.float64] = total / max(1, total.sum())
        return shares


@runtime_checkable
class CountedDataset(Dataset, Protocol):
    """A data set that knows the counts of its labels without reading them, as a pack does."""

    def label_counts(self) -> NDArray[np.integer]:
        """(N, C) pixels of each class in each sample, `ignore_index` included if it is below C.

        Where classes may overlap, (N, C + 1): the last column counts pixels that are void in all masks.
        """
        ...


def count_classes(
    dataset: Dataset, progress: Callable[[int, int], None], rank: int = 0, world_size: int = 1
) -> ClassCounts:
    """The counts that the data set stores, or those of a scan that reads every label map once, and no image.

    A sample that is skipped as unreadable has no pixels.

    Args:
        dataset: a split.
        progress: called with (done, total).
        rank, world_size: this process reads its share of the samples; the rows of the others are 0, so that
            the sum over all processes is complete.

    Raises:
        DataError: label maps that cannot be read; all are tried, the first few named.
    """
    if isinstance(dataset, CountedDataset):
        return _stored_counts(dataset, rank, world_size)
    share = range(rank, len(dataset), world_size)

    def histogram(index: int) -> NDArray[np.int64]:
        try:
            labels = dataset.labels(index)
        except UnreadableSample as error:
            note_or_raise(dataset, index, error)
            return np.zeros(NUM_IDS, np.int64)
        return counts_of(labels, dataset.ignore_index)

    by_id = np.zeros((len(dataset), NUM_IDS), np.int64)
    if share:
        by_id[rank::world_size] = np.stack(read_all(histogram, share, progress))
    void = by_id[:, dataset.ignore_index].copy()  # an id that is also a class counts as unlabelled
    by_id[:, dataset.ignore_index] = 0
    return ClassCounts(by_id[:, : len(dataset.class_names)].copy(), void)


def counts_of(labels: torch.Tensor, ignore_index: int) -> NDArray[np.int64]:
    """(NUM_IDS,) pixels by label id, from (h, w).

    From masks (C, h, w): the pixels of each class and, as void, those known of no class.
    """
    counts: NDArray[np.int64]
    if labels.dim() == 2:
        counts = torch.bincount(labels.flatten().cpu(), minlength=NUM_IDS).numpy()
        return counts
    counts = np.zeros(NUM_IDS, np.int64)
    counts[: len(labels)] = (labels == 1).sum((1, 2)).cpu()
    counts[ignore_index] = (labels == ignore_index).all(0).sum()
    return counts


def _stored_counts(dataset: CountedDataset, rank: int, world_size: int) -> ClassCounts:
    pixels, num_classes = dataset.label_counts().astype(np.int64), len(dataset.class_names)
    if pixels.shape[1] > num_classes:  # of classes that may overlap
        pixels, void = pixels[:, :num_classes], pixels[:, num_classes]
    else:
        void = np.array(dataset.sizes()).prod(axis=1) - pixels.sum(axis=1)
    if dataset.ignore_index < num_classes:
        void += pixels[:, dataset.ignore_index]
        pixels[:, dataset.ignore_index] = 0
    of_others = np.arange(len(dataset)) % world_size != rank
    pixels[of_others], void[of_others] = 0, 0
    return ClassCounts(pixels, void)


class CountsFile:
    """The cache of the counts of one split. Its name depends on the labels, so it is never out of date.

    Args:
        root: of the data: a folder, or a file in one.
        dataset: the split; its fingerprint is taken.
    """

    def __init__(self, root: Path, dataset: Dataset):
        folder = root if root.is_dir() else root.parent
        name = f"class_counts-{dataset.fingerprint()[:16]}-void{dataset.ignore_index}.npz"
        self.path = folder / ".trident" / name
        self.shape = (len(dataset), len(dataset.class_names))

    def read(self) -> ClassCounts | None:
        """The counts; None where there is no readable file."""
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                counts = ClassCounts(arrays["pixels"], arrays["void"])
        except Exception:  # a damaged zip file raises zlib.error, RuntimeError and others
            return None
        return counts if counts.pixels.shape == self.shape and len(counts.void) == self.shape[0] else None

    def write(self, counts: ClassCounts) -> None:
        """Atomically. Raises OSError where the folder cannot be written or is marked read-only."""
        # root may write there all the same, but should not
        if not self.path.parents[1].stat().st_mode & ANY_MAY_WRITE:
            raise PermissionError(errno.EACCES, "it is read-only", str(self.path.parents[1]))
        self.path.parent.mkdir(exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.part")  # other runs may write the same file
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(file, pixels=counts.pixels, void=counts.void)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
