"""A part of a split: the images that a list names, or all others (`data.fold`)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from engine.data.formats.files import FileDataset
from engine.data.formats.folder import name_among, rows_of
from engine.data.sample import DataError, Dataset, Sample, first_few


def listed_ids(path: Path, ids: Sequence[str], split: str) -> list[str]:
    """The ids of the images that a list names, which may also be given as paths.

    Args:
        ids: of the whole split.

    Raises:
        DataError: the list cannot be read, is empty, or names images that the split does not have.
    """
    there, entries = set(ids), [row[0] for row in rows_of(path, ids)]
    found = [name_among(entry, there) for entry in entries]
    missing = [entry for entry, name in zip(entries, found, strict=True) if name is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(entries)} images of {path} are not in split {split!r}: "
            f"{first_few(missing)}."
        )
    return [name for name in found if name is not None]


def fold_of(dataset: Dataset, path: Path, split: str, is_held_out: bool) -> Dataset:
    """The images of a split that a list names (`is_held_out`), or all others.

    Raises:
        DataError: see `listed_ids`; or no image is left.
    """
    listed = set(listed_ids(path, dataset.ids, split))
    indices = [index for index, id in enumerate(dataset.ids) if (id in listed) == is_held_out]
    if not indices:
        raise DataError(
            f"data.fold: {path} names all images of split {split!r}, so none is left to train on. Remove the "
            "lines of those that should be trained on."
        )
    return dataset.subset(indices) if isinstance(dataset, FileDataset) else Subset(dataset, indices)


class Subset:
    """Some images of a data set that has no files of its own, such as a pack; a `Dataset`."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]):
        self._dataset, self._indices = dataset, list(indices)
        self.ids = [dataset.ids[index] for index in indices]
        self.class_names, self.palette = dataset.class_names, dataset.palette
        self.ignore_index, self.bands = dataset.ignore_index, dataset.bands
        self.skipped = dataset.skipped
        self.value_range = getattr(dataset, "value_range", None)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    def labels(self, index: int) -> Tensor:
        return self._dataset.labels(self._indices[index])

    def sizes(self) -> list[tuple[int, int]]:
        sizes = self._dataset.sizes()
        return [sizes[index] for index in self._indices]

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self._dataset.fingerprint(), self.ids)).encode()).hexdigest()
