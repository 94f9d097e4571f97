"""A trained teacher for the model (`distill`): a run, or a saved ensemble, of any architecture.

The teacher sees the same augmented images as the student. As each crop occurs only once, its predictions are
not cached.

Shapes: B samples, C classes, S the side of the crop, h and w of the student's logits.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.bands import RGB, band_names, ranges_of
from engine.data.sample import Dataset
from engine.recipe import Recipe, RecipeError
from engine.recipe.sections import Distill
from engine.run_folder import RunFolderError
from engine.scoring.trained import Trained, open_trained
from losses.distillation import distillation_loss, softened
from losses.statistics import Reduce, identity


class Distillation:
    """The loss of the teacher.

    Args:
        teacher: its models are in eval mode, on the device of the training.
        section: `distill`.
        autocast: context of the teacher's forward pass.
        reduce: sums over all processes.
    """

    def __init__(
        self,
        teacher: Trained,
        section: Distill,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        reduce: Reduce = identity,
    ):
        self.teacher, self.autocast, self.reduce = teacher, autocast, reduce
        self.weight, self.temperature = section.weight, section.temperature

    def __call__(self, images: Tensor, logits: Tensor, valid: Tensor) -> Tensor:
        """`distillation_loss` of the student, not multiplied by `weight`.

        Args:
            images: (B, n, S, S) in 0..255, the images of the student.
            logits: of the student, (B, C, h, w).
            valid: (B, h, w) bool.
        """
        targets = self.targets(images, logits)
        with torch.autocast(logits.device.type, enabled=False):
            return distillation_loss(logits, targets, self.temperature, valid, self.reduce)

    @torch.no_grad()
    def targets(self, images: Tensor, like: Tensor) -> Tensor:
        """(B, C, h, w): probabilities of the teacher at the temperature, at the resolution of `like`."""
        of_members = []
        for member in self.teacher.members.values():
            with self.autocast():
                logits = member(images)
            if logits.shape[-2:] != like.shape[-2:]:
                size = like.shape[-2:]
                logits = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
            of_members.append(softened(logits, self.temperature))
        return self.teacher.combination(of_members)


def open_teacher(section: Distill, train: Dataset, device: torch.device) -> Trained:
    """The teacher of a recipe.

    Raises:
        RecipeError: there is no run or ensemble, its files are damaged, its classes or bands differ from the
            training data, or its classes overlap.
    """
    try:
        teacher = open_trained(Path(section.teacher), device)
    except RunFolderError as error:
        raise RecipeError(
            f"distill.teacher: {error} A teacher is a run, a file of its top/ or a saved ensemble."
        ) from error
    require_same_inputs(section, train, teacher.recipe, teacher.class_names)
    return teacher


def require_same_inputs(section: Distill, train: Dataset, recipe: Recipe, class_names: Sequence[str]) -> None:
    """Raises RecipeError if the classes, bands or data.range of a teacher differ from the training data.

    Args:
        recipe, class_names: of the teacher.
    """
    own, theirs = list(train.class_names), list(class_names)
    if own != theirs:
        lacking, further = ([n for n in a if n not in b] for a, b in ((own, theirs), (theirs, own)))
        what = [f"it lacks {', '.join(lacking)}"] * bool(lacking)
        what += [f"it has {', '.join(further)}, which the data does not have"] * bool(further)
        raise RecipeError(
            f"distill.teacher: the classes of {section.teacher} differ from the data: "
            f"{'; '.join(what) or 'they are in another order'}. Name a teacher with the same classes in the "
            "same order, or type distill=null"
        )
    of_both = [", ".join(names or RGB) for names in (band_names(recipe.data.bands), train.bands)]
    if of_both[0] != of_both[1]:
        raise RecipeError(
            f"distill.teacher: {section.teacher} was trained on the bands {of_both[0]}, and data.bands has "
            f"{of_both[1]}. Name a teacher of the same bands, or type distill=null"
        )
    own_range, their_range = getattr(train, "value_range", None), ranges_of(recipe.data)
    if own_range and their_range and own_range != their_range:
        typed = f"'data.range={json.dumps(recipe.data.range)}'"
        raise RecipeError(
            f"distill.teacher: {section.teacher} was trained with data.range={recipe.data.range}, and the "
            f"images of this training are read with {own_range}, so it would see other pixels. Type {typed}, "
            "or distill=null"
        )
    if recipe.data.labels == "multi":
        raise RecipeError(
            f"distill.teacher: the classes of {section.teacher} overlap (data.labels: multi), and a teacher "
            "has one class a pixel. Name another one, or type distill=null"
        )
