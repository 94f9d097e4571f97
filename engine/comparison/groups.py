"""Groups of images that belong together, such as the frames of a sequence or the images of a patient.

Images of one group are alike, so intervals draw whole groups. Drawn one by one, their images would count as
independent, and the intervals would be too narrow.

Shapes: N images, G groups, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data.folds import group_pattern
from engine.data.sequences import group_name
from engine.recipe import Recipe
from engine.scoring.statistics import Overlaps

GROUP_FILE = "group.txt"  # next to the lists of folds: the pattern of --group


@dataclass(frozen=True)
class Groups:
    """of_image: (N,) the group of each image. pattern: of the part of an id that the images of one share."""

    of_image: NDArray[np.int64]
    pattern: str | None

    @property
    def number(self) -> int:
        return len(np.unique(self.of_image))

    @property
    def unit(self) -> str:
        """What intervals draw."""
        return "image" if self.number == len(self.of_image) else "group"

    def summed(self, found: Overlaps) -> Overlaps:
        """(G, 2, C) of the groups, from (N, 2, C) of the images."""
        total = np.zeros((self.number, *found.shape[1:]), found.dtype)
        np.add.at(total, self.of_image, found)
        return total


def groups_of(recipe: Recipe, ids: Sequence[str]) -> Groups:
    """By the pattern that folds were made with, else that of the recipe, else by the names of sequences."""
    kept = Path(recipe.data.fold).with_name(GROUP_FILE) if recipe.data.fold else None
    pattern = kept.read_text(encoding="utf-8").strip() if kept and kept.is_file() else None
    pattern = pattern or recipe_pattern(recipe) or group_pattern(ids)
    names = [group_name(id, pattern) for id in ids]
    return Groups(np.unique(names, return_inverse=True)[1], pattern)


def recipe_pattern(recipe: Recipe) -> str | None:
    """The pattern of groups in the recipe."""
    sections = (recipe.data.folder, recipe.data.polygons)
    return next((section.group for section in sections if section and section.group), None)
