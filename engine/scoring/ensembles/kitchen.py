"""Soups of finished members, made when they are asked for, with BatchNorm seen to on training images.

Knows nothing of how a soup is judged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

import engine.data
from engine.data.augment import Augment
from engine.data.batches import TrainBatches
from engine.data.order import SampleOrder
from engine.recipe import Recipe
from engine.scoring.ensembles.soup import CALIBRATION_IMAGES, architecture, mean_weights, recalibrate


@dataclass(frozen=True)
class Kitchen:
    """recipes and models: of each member; device: where the models are."""

    recipes: Sequence[Recipe]
    models: Sequence[nn.Module]
    device: torch.device

    def ingredients(self) -> tuple[int, ...]:
        """Members of one architecture: the largest such group, the one of the first member among equals."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for number, recipe in enumerate(self.recipes):
            groups.setdefault(architecture(recipe), []).append(number)
        largest = max(groups.values(), key=len)
        return tuple(largest)

    def cook(self, soup: Sequence[int]) -> nn.Module:
        """The mean of these members' weights, in eval mode; the same each time.

        Raises:
            DataError: the training images of the first of them are not there.
        """
        model = mean_weights([self.models[member] for member in soup])
        recalibrate(model, self._training_images(self.recipes[soup[0]]))
        return model

    def _training_images(self, recipe: Recipe) -> Iterator[Tensor]:
        """(B, 3, crop, crop), as that member was trained on, without what other samples lay over them."""
        train = engine.data.open_split(recipe.data, recipe.data.train)
        batch = min(recipe.train.batch, CALIBRATION_IMAGES)
        order = SampleOrder(len(train), batch, recipe.seed)
        augment = Augment(recipe.augment, recipe.seed, train.ignore_index)
        batches = TrainBatches(train, order, augment, self.device, workers=0)
        for loaded in islice(batches.starting_at(0), CALIBRATION_IMAGES // batch):
            yield loaded.images
