"""The samples that the doctor checks: those of every split of the recipe, each once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.bands import Bands, band_names, ranges_of
from engine.data.formats.files import FileDataset
from engine.data.formats.listing import IMAGE_ENDINGS
from engine.data.formats.masks import MaskEncoding, SameIds
from engine.data.formats.value_range import ValueRange
from engine.data.sample import DataError, Dataset, Palette
from engine.data.unlabelled import open_unlabelled

Opener = Callable[[str], Dataset]


@dataclass(frozen=True)
class Listed:
    """One sample; without files it is read from its data set."""

    id: str
    image: Path | None
    mask: Path | None
    dataset: Dataset
    index: int

    @property
    def mask_files(self) -> Sequence[Path]:
        """All of its masks: where classes may overlap, each can have a file."""
        if isinstance(self.dataset, FileDataset):
            return self.dataset.mask_files(self.index)
        return []

    @property
    def name(self) -> str:
        if self.mask is not None and self.mask.suffix.lower() in IMAGE_ENDINGS:
            return str(self.mask)
        return str(self.image or self.id)  # a single file holds all masks, or there are no mask files


@dataclass(frozen=True)
class Listing:
    """All samples of a recipe.

    splits: name -> (n,) indices into `samples`. refused: split -> why it cannot be opened. train, scored: the
    splits by their use; train is empty for a set that is only scored. has_known_colours: `palette` belongs to
    the data, and is not a default of Trident.
    may_skip: an unreadable file does not end a run. takes_ids: the recipe may have data.ids. value_range:
    data.range of RGB images, or None for auto. bands: of data.bands. notes: on annotations that could not be
    used. section: the recipe's `data`. opened: the splits that could be. unlabelled: of data.unlabelled.
    """

    samples: list[Listed]
    splits: dict[str, NDArray[np.int64]]
    refused: dict[str, str]
    train: str
    scored: tuple[str, ...]
    class_names: tuple[str, ...]
    palette: Palette
    ignore_index: int
    encoding: MaskEncoding
    has_known_colours: bool
    may_skip: bool
    takes_ids: bool
    value_range: ValueRange | None
    bands: Bands
    notes: list[str]
    section: Any
    opened: dict[str, Dataset]
    unlabelled: FileDataset | None

    def names(self, rows: Iterable[int]) -> list[str]:
        """What messages call these samples: their masks."""
        return [self.samples[row].name for row in rows]

    def images(self, rows: Iterable[int]) -> list[str]:
        return [str(self.samples[row].image or self.samples[row].id) for row in rows]

    @property
    def has_files(self) -> bool:
        return bool(self.samples) and self.samples[0].image is not None

    @cached_property
    def has_a_mask_file_each(self) -> bool:
        """Whether each image has a mask file of its own, so that a repaired copy can be written."""
        masks = [sample.mask for sample in self.samples if sample.mask is not None]
        are_images = all(mask.suffix.lower() in IMAGE_ENDINGS for mask in masks)
        return self.has_files and are_images and len({*masks}) >= len({s.image for s in self.samples})


def list_samples(section: Any, open_split: Opener, class_names: tuple[str, ...]) -> Listing:
    """The samples of a recipe's `data` section.

    Args:
        section: format, train, val, select, classes, ignore_index, on_error, range, bands are read.
        open_split: opens a split by its name; may raise DataError.
        class_names: by label id, used if no split can be opened.
    """
    scored = tuple(dict.fromkeys(split for split in (section.val, section.select) if split))
    datasets: dict[str, Dataset] = {}
    refused: dict[str, str] = {}
    for split in dict.fromkeys(split for split in (section.train, *scored) if split is not None):
        try:
            datasets[split] = open_split(split)
        except DataError as error:
            refused[split] = str(error)
    unlabelled = None
    if section.unlabelled:
        try:
            unlabelled = open_unlabelled(section)
        except DataError as error:
            refused["data.unlabelled"] = str(error)
    samples, splits = _distinct_samples(datasets)
    files = [dataset for dataset in datasets.values() if isinstance(dataset, FileDataset)]
    opened = next(iter(datasets.values()), None)
    ignore_index = opened.ignore_index if opened else section.ignore_index
    same_ids = SameIds(len(class_names), ignore_index)
    return Listing(
        samples=samples,
        splits=splits,
        refused=refused,
        train=section.train or "",
        scored=scored,
        class_names=opened.class_names if opened else class_names,
        palette=opened.palette if opened else (),
        ignore_index=ignore_index,
        encoding=opened.encoding if isinstance(opened, FileDataset) else same_ids,
        has_known_colours=isinstance(section.classes, str) or not isinstance(section.classes[0], str),
        may_skip=section.on_error == "skip",
        takes_ids=section.format in ("voc", "folder"),
        value_range=ranges_of(section) if section.bands is None else None,
        bands=band_names(section.bands),
        notes=[*dict.fromkeys(dataset.note for dataset in files if dataset.note)],
        section=section,
        opened=datasets,
        unlabelled=unlabelled,
    )


def _distinct_samples(datasets: Mapping[str, Dataset]) -> tuple[list[Listed], dict[str, NDArray[np.int64]]]:
    """The samples of all splits, each once, and for each split the indices of its samples."""
    samples: list[Listed] = []
    place: dict[object, int] = {}
    splits: dict[str, NDArray[np.int64]] = {}
    for split, dataset in datasets.items():
        indices = []
        for index, id in enumerate(dataset.ids):
            sample, key = _listed(dataset, id, index, split)
            if key not in place:
                place[key] = len(samples)
                samples.append(sample)
            indices.append(place[key])
        splits[split] = np.array(indices, np.int64)
    return samples, splits


def _listed(dataset: Dataset, id: str, index: int, split: str) -> tuple[Listed, object]:
    """A sample, and a key that is equal if two splits have the same sample."""
    if isinstance(dataset, FileDataset):
        image, mask = dataset.image_path(index), dataset.mask_path(index)
        return Listed(id, image, mask, dataset, index), (image, mask, id)
    return Listed(id, None, None, dataset, index), (split, id)
