"""The batches of a training, from a recipe and its open data sets, and where the images are kept."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.data.augment import Augment
from engine.data.batches import TrainBatches
from engine.data.class_counts import ClassCounts
from engine.data.mixing import MIXING_KEYS, Mixing
from engine.data.order import SampleOrder
from engine.data.resident import Resident, choose_residence, label_maps
from engine.data.sample import Dataset
from engine.data.unlabelled import SemiSupervisedBatches, UnlabelledBatches, num_unlabelled
from engine.recipe import Recipe
from engine.training.distributed import Process
from engine.wording import quantity

Counter = Callable[[int, int], None]


def place(
    dataset: Dataset, data: Any, process: Process, counter: Callable[[str], Counter]
) -> tuple[Dataset, str]:
    """The data set on the disk, in RAM or on the GPU, and a note with its size and place."""
    masks = label_maps(data, dataset)
    where, num_bytes = choose_residence(dataset, data.resident, process.device, process.world_size, masks)
    note = f"{quantity(len(dataset), 'image')}, {num_bytes / 1e6:,.0f} MB decoded"
    if where == "disk":
        return dataset, f"{note}, read from disk at each use"
    device = process.device if where == "gpu" else torch.device("cpu")
    return Resident(dataset, device, counter("decoding")), f"{note}, in {where}"


def build_batches(
    recipe: Recipe,
    train: Dataset,
    unlabelled: Dataset | None,
    order: SampleOrder,
    process: Process,
    counts: ClassCounts | None,
    shares: NDArray[np.float64] | None,
) -> TrainBatches:
    """The batches of this process.

    Args:
        train, unlabelled: the data sets, from `place`.
        counts, shares: see `Mixing`.
    """
    section, seed, void = recipe.augment, recipe.seed, train.ignore_index
    augment, mixing = Augment(section, seed, void, train.bands), None
    if any(getattr(section, name) for name in MIXING_KEYS):
        mixing = Mixing(section, seed, len(train), void, counts, shares)
    share = process.device, process.rank, process.world_size, recipe.data.workers
    if unlabelled is None:
        return TrainBatches(train, order, augment, *share, mixing)
    options = recipe.data.unlabelled
    number = num_unlabelled(options, int(recipe.train.batch), process.world_size)
    views = UnlabelledBatches(unlabelled, options, section, seed, number, *share)
    return SemiSupervisedBatches(train, order, augment, *share, mixing, unlabelled=views)
