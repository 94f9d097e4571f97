"""Images without masks (`data.unlabelled`): opens them, and makes their views for each update.

The weak view has only the geometry of `augment`. The strong views are the same pixels with other colours, and
with a box of another image (UniMatch, arXiv 2208.09910). All are pure functions of the seed and of the
position of the image in the endless sequence of unlabelled images, so that a resume replays nothing.

Shapes: U unlabelled images of an update in one process, S the side of the crop.
"""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data import class_names_of, open_split
from engine.data.augment import Augment, recolour
from engine.data.bands import Bands, band_names, ranges_of
from engine.data.batches import Batch, TrainBatches, UnlabelledViews
from engine.data.formats.bands import image_header
from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.listing import IMAGE_ENDINGS, images_below
from engine.data.formats.masks import Labels, SameIds
from engine.data.formats.voc import voc_images
from engine.data.mixing import BoxLayer
from engine.data.order import SampleOrder
from engine.data.sample import DataError, Dataset, Skipped
from engine.wording import near_path

COLOURS = ("brightness", "contrast", "saturation", "hue", "grayscale", "blur")  # of the strong views
OFF_IN_WEAK = dict.fromkeys((*COLOURS, "noise", "jpeg"), 0.0) | {"category_max_ratio": 1.0, "crop_on": "none"}
OWN_STREAM = zlib.crc32(b"unlabelled")  # independent of the other random numbers


def open_unlabelled(section: Any) -> FileDataset:
    """The unlabelled images of a recipe's `data` section; each has a blank label map instead of a mask.

    Raises:
        DataError: the folder is missing or has no image; the split is missing, or has no image files.
    """
    files = (
        _files_below(section.unlabelled.root) if section.unlabelled.root else _files_of_named_split(section)
    )
    bands, void = band_names(section.bands), section.ignore_index
    pairs = [Pair(id, file, file) for id, file in files.items()]
    names = class_names_of(section)
    blank = partial(_blank, bands=bands, value=int(void == 0))
    dataset = FileDataset(pairs, names, (), void, SameIds(len(names), void), blank, _nothing)
    dataset.skipped = Skipped() if section.on_error == "skip" else None
    dataset.bands, dataset.value_range = bands, ranges_of(section)
    return dataset


def _files_below(root: str) -> dict[str, Path]:
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(
            f"data.unlabelled.root: no folder {folder}.{near_path(folder)} "
            "Type data.unlabelled.root=<its folder>."
        )
    try:
        paths = images_below(folder)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    if not paths:
        raise DataError(
            f"data.unlabelled.root: no image in {folder} ({', '.join(IMAGE_ENDINGS)}). Name another folder, "
            "or type data.unlabelled=null."
        )
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _files_of_named_split(section: Any) -> dict[str, Path]:
    try:
        return _files_of_split(section)
    except DataError as error:
        raise DataError(f"data.unlabelled.split={section.unlabelled.split}: {error}") from error


def _files_of_split(section: Any) -> dict[str, Path]:
    split = section.unlabelled.split
    if section.format == "voc" and section.root is not None:
        return voc_images(Path(section.root), split)
    dataset = open_split(section.model_copy(update={"also": []}), split)  # of the first set
    if not isinstance(dataset, FileDataset):
        raise DataError(
            f"Format {section.format} has no image files. Name a folder of images "
            "instead: data.unlabelled.split=null data.unlabelled.root=<its folder>."
        )
    return {id: dataset.image_path(index) for index, id in enumerate(dataset.ids)}


def _blank(pair: Pair, bands: Bands, value: int) -> Labels:
    """(h, w), the size of the displayed image, filled with a label that is not void."""
    return np.full(image_header(pair.image, bands)[0], value, np.uint8)


def _nothing(pair: Pair) -> bytes:
    return b""


def num_unlabelled(section: Any, batch: int, world_size: int) -> int:
    """The number of unlabelled images in an update with `batch` labelled ones, over all processes.

    Raises:
        DataError: they cannot be paired within each process, which CutMix needs.
    """
    number, pairs = round(section.ratio * batch, 2), 2 * world_size  # a ratio of 1.33333 is four thirds
    if number % pairs or not number:
        nearest = max(1, round(number / pairs)) * pairs / batch
        raise DataError(
            f"data.unlabelled.ratio={section.ratio:g} of train.batch={batch} is {number:g} unlabelled images "
            f"per update, but it has to be a positive multiple of {pairs}, as each process pairs its images. "
            f"Type data.unlabelled.ratio={nearest:g}"
        )
    return int(number)


class UnlabelledBatches:
    """The endless sequence of the unlabelled images of one process, in views.

    Args:
        dataset: from `open_unlabelled`, on the disk or in memory.
        section: `data.unlabelled`.
        augment: the recipe's section, whose geometry all views have.
        seed: of the run.
        number: of images in an update, from `num_unlabelled`.
        device: of the views.
        rank, world_size, workers: see `TrainBatches`.
    """

    def __init__(
        self,
        dataset: Dataset,
        section: Any,
        augment: Any,
        seed: int,
        number: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        workers: int | str = "auto",
    ):
        self.section, self.seed, self.number = section, seed, number
        self.rank, self.world_size = rank, world_size
        weak = augment.model_copy(update=OFF_IN_WEAK)
        strong = weak.model_copy(update={name: getattr(section, name) for name in COLOURS})
        void = dataset.ignore_index
        self.strong = Augment(strong, seed, void, dataset.bands)
        order, of_weak = SampleOrder(len(dataset), number, seed), Augment(weak, seed, void, dataset.bands)
        self.weak = TrainBatches(dataset, order, of_weak, device, rank, world_size, workers)

    def starting_at(self, step: int) -> Iterator[UnlabelledViews]:
        """The views of the updates `step`, `step` + 1, ..., without replaying the earlier ones."""
        for update, batch in zip(count(step), self.weak.starting_at(step), strict=False):
            first, end = update * self.number + self.rank, (update + 1) * self.number
            places = range(first, end, self.world_size)
            augment = self.strong.at(update)
            strong = [self._strong(batch.images, places, view, augment) for view in range(self.section.views)]
            yield UnlabelledViews(batch.images, batch.labels != augment.ignore_index, strong)

    def _strong(self, weak: Tensor, places: range, view: int, augment: Augment) -> tuple[Tensor, Tensor]:
        """One strong view (U, n, S, S), and (U, S, S): which of its pixels are from the partner.

        The partner is the image half of the update further on, whatever the number of processes.
        """
        parameters = [augment.parameters(f"strong view {view}", place) for place in places]
        images = recolour(weak.clone(), parameters, augment.section, augment.colours)
        pasted = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool)
        for own, place in zip(pasted, places, strict=True):
            rng = np.random.default_rng([self.seed, place, view, OWN_STREAM])
            if rng.uniform() < self.section.cutmix:
                own[BoxLayer.of_cutmix(rng).within(own.shape[-1])] = True
        pasted = pasted.to(images.device, non_blocking=True)
        return with_partners(images, pasted[:, None]), pasted


def with_partners(values: Tensor, pasted: Tensor) -> Tensor:
    """(U, ...) values, taken from the partner where `pasted` is true; for shapes see UnlabelledViews."""
    return torch.where(pasted, values.roll(-(len(values) // 2), 0), values)


class SemiSupervisedBatches(TrainBatches):
    """Labelled batches, each with the unlabelled images of its update."""

    def __init__(self, *args: Any, unlabelled: UnlabelledBatches, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.unlabelled = unlabelled

    def starting_at(self, step: int) -> Iterator[Batch]:
        pairs = zip(super().starting_at(step), self.unlabelled.starting_at(step), strict=False)
        for batch, views in pairs:
            yield replace(batch, unlabelled=views)
