"""The runs of a comparison: their counts on val, the methods they belong to, and which can be compared.

The score of a run is that of its best checkpoint: the one that it would be used with.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.comparison.grid import CompareError
from engine.data import open_split
from engine.data.ranges import with_range
from engine.data.sample import DataError, Dataset, first_few
from engine.recipe import Recipe
from engine.recipe.differences import MADE_FROM_IMAGES, changes
from engine.run_folder import Manifest
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.run import Run
from engine.wording import quantity

# Keys of `data` that change neither the images nor the labels of data.val.
WITHOUT_EFFECT_ON_VAL = (
    *("name", "weight", "also", "select", "unlabelled", "sampler", "normalisation"),
    *("resident", "workers", "doctor", "on_error"),
)


@dataclass(frozen=True)
class ScoredRun:
    """A finished run, or the runs of all folds as one, of which `run` and `recipe` are of the first.

    overlaps: (N, 2, C) of its best checkpoint on each val image in `ids`; of folds, on the images of each.
    """

    run: Run
    recipe: Recipe
    ids: list[str]
    overlaps: NDArray[np.int64]
    folds: tuple["ScoredRun", ...] = ()

    @classmethod
    def of(cls, run: Run) -> "ScoredRun":
        """Raises CompareError or RunFolderError where the run has not finished, or lacks a file."""
        if not run.manifest.finished or run.scores is None:
            raise CompareError(
                f"{run.path} has not finished, so it has no scores of each val image. Add --resume to the "
                "command that trains it, or leave it out."
            )
        if run.recipe is None:
            raise CompareError(f"{run.path} has no recipe.yaml. Leave it out.")
        if run.best.name not in run.scores.overlaps:
            raise CompareError(
                f"{run.folder.scores} has no counts of {run.best.name}, the best checkpoint of the run."
            )
        return cls(run, run.recipe, run.scores.ids, run.scores.overlaps[run.best.name])

    @classmethod
    def pooled(cls, folds: Sequence["ScoredRun"]) -> "ScoredRun":
        """The runs of folds as one, which scores each image by the model that was not trained on it.

        Raises:
            CompareError: the runs were not scored alike, or two of them on the same image.
        """
        first = folds[0]
        for place, fold in enumerate(folds):
            if reason := _scored_otherwise(first, fold):
                raise CompareError(f"{fold.path} cannot be pooled with {first.path}: {reason}")
            for other in folds[:place]:
                if twice := sorted(set(fold.ids) & set(other.ids)):
                    raise CompareError(
                        f"{fold.path} and {other.path} are folds of one method with one seed, {fold.seed}, "
                        f"but both were scored on {first_few(twice)}. Leave one out."
                    )
        ids = [id for fold in folds for id in fold.ids]
        order = sorted(range(len(ids)), key=ids.__getitem__)  # the same whatever the folds are
        counts = np.concatenate([fold.overlaps for fold in folds])[order]
        return cls(first.run, first.recipe, [ids[place] for place in order], counts, tuple(folds))

    @property
    def parts(self) -> list[Run]:
        """The runs: one, or that of each fold."""
        return [fold.run for fold in self.folds] or [self.run]

    @property
    def val_fingerprint(self) -> str:
        """Of the images that it was scored on; of folds also which image is in which."""
        prints = sorted(run.manifest.data.val_fingerprint for run in self.parts)
        return prints[0] if len(prints) == 1 else hashlib.sha256(repr(prints).encode()).hexdigest()

    @property
    def path(self) -> Path:
        return self.run.path

    @property
    def manifest(self) -> Manifest:
        return self.run.manifest

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def protocol(self) -> dict[str, object]:
        """How its images were scored."""
        return EvaluationProtocol.of(self.recipe.eval).card()


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seed alone; the runs of folds are one."""

    name: str
    runs: list[ScoredRun]


def group_by_recipe(runs: Iterable[ScoredRun]) -> list[Method]:
    """Runs whose recipes differ in name and seed alone are one method, named as its first run less the seed.

    Runs of one seed are folds where each was trained on the images that the others were scored on.

    Raises:
        CompareError: two runs are the same training, or cannot be pooled.
    """
    groups: list[list[ScoredRun]] = []
    for run in runs:
        group = next((group for group in groups if _is_same_method(group[0], run)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    methods = [_by_seed(group) for group in groups]
    return [Method(name, group) for name, group in zip(_distinct_names(methods), methods, strict=True)]


def _by_seed(group: Sequence[ScoredRun]) -> list[ScoredRun]:
    """One for each seed, of which several runs are folds."""
    of_seed: dict[int, list[ScoredRun]] = {}
    for run in group:
        of_seed.setdefault(run.seed, []).append(run)
    for first, *others in of_seed.values():
        if twin := next((run for run in others if not _are_folds(first, run)), None):
            raise CompareError(
                f"{first.path} and {twin.path} are one recipe with one seed, {first.seed}, and no folds: the "
                "same training twice. Leave one out."
            )
    return [runs[0] if len(runs) == 1 else ScoredRun.pooled(runs) for runs in of_seed.values()]


def _distinct_names(groups: Sequence[list[ScoredRun]]) -> list[str]:
    """The shortest that are distinct: names of recipes, names of runs, or paths of the first runs."""
    firsts = [group[0] for group in groups]
    choices = (
        [_name_of_recipe(run, bool(run.folds)) for run in firsts],
        [run.manifest.name for run in firsts],
        [str(run.path) for run in firsts],
    )
    return next(names for names in choices if len({*names}) == len(names))


def _is_same_method(one: ScoredRun, other: ScoredRun) -> bool:
    changed = {change.key for change in changes(one.recipe, other.recipe)} - {"seed"}
    if bool(one.recipe.data.fold) != bool(other.recipe.data.fold):
        return False
    if one.recipe.data.fold and _name_of_recipe(one, True) == _name_of_recipe(other, True):
        changed = {key for key in changed if not MADE_FROM_IMAGES.search(key)}
    return not changed or (changed <= {"data.train", "data.val"} and _are_folds(one, other))


def _are_folds(one: ScoredRun, other: ScoredRun) -> bool:
    """Whether each was trained on the images that the other one was scored on, as far as these are found."""
    if one.recipe.data.fold and other.recipe.data.fold:  # the lists of one split
        return one.recipe.data.root == other.recipe.data.root

    def was_trained_on(run: ScoredRun, ids: Sequence[str]) -> bool:
        return set(ids) <= set(open_split(run.recipe.data, run.recipe.data.train).ids)

    try:
        return was_trained_on(one, other.ids) and was_trained_on(other, one.ids)
    except DataError:
        return False


def _name_of_recipe(run: ScoredRun, is_fold: bool) -> str:
    """b0_ce_s1, b0_ce-1 and b0_ce-seed1 of seed 1 are b0_ce; so is b0_ce-s1-f0 of a fold."""
    name = re.sub(r"[-_.](f|fold)[-_]?\d+$", "", run.manifest.name) if is_fold else run.manifest.name
    return re.sub(rf"[-_.](s|seed)?{run.seed}$", "", name)


def require_alike(recipes: Sequence[Recipe], *, opens_data: bool) -> None:
    """Raises CompareError where the runs of recipes, once trained, could not be compared.

    Args:
        opens_data: whether the data is opened, so that its absence is an error of the data, and val images
            and classes are compared as well; else the data need not be here.
    """
    first = recipes[0]
    val = _val_of(first) if opens_data else None
    for recipe in recipes[1:]:
        if reason := _why_never(first, recipe, val):
            raise CompareError(f"{recipe.name} cannot be compared with {first.name}: {reason}")


def _why_never(one: Recipe, other: Recipe, first: Dataset | None) -> str | None:
    cards = [EvaluationProtocol.of(recipe.eval).card() for recipe in (one, other)]
    if cards[0] != cards[1]:
        differing = [
            f"{key} {card}, not {cards[0][key]}" for key, card in cards[1].items() if card != cards[0][key]
        ]
        return f"it is scored in another way ({'; '.join(differing)}). Give both the same eval section."
    if first is None or one.data == other.data:
        return None
    second = _val_of(other)
    if not _val_may_differ(one, other):
        return None
    if first.class_names != second.class_names:
        return f"its classes are {', '.join(second.class_names)}, not {', '.join(first.class_names)}."
    if others := sorted({*first.ids} ^ {*second.ids}):
        return f"{quantity(len(others), 'val image')} of one of them only: {first_few(others)}."
    return _other_fingerprint(first.fingerprint(), second.fingerprint())


def _val_of(recipe: Recipe) -> Dataset:
    """As its training opens it."""
    train = open_split(recipe.data, recipe.data.train)
    return open_split(with_range(recipe.data, train), recipe.data.val)


def _other_fingerprint(one: str, other: str) -> str | None:
    if one == other:
        return None
    return f"its val images or labels differ (fingerprint {other[:8]}, not {one[:8]})."


def _val_may_differ(one: Recipe, other: Recipe) -> bool:
    return any(
        getattr(one.data, key) != getattr(other.data, key)
        for key in type(one.data).model_fields
        if key not in WITHOUT_EFFECT_ON_VAL
    )


def require_comparable(methods: Sequence[Method]) -> None:
    """Raises CompareError, with the reason, where runs were not scored alike, or on other images."""
    runs = [run for method in methods for run in method.runs]
    first = runs[0]
    for run in runs[1:]:
        reason = _why_not(first, run)
        if reason:
            raise CompareError(f"{run.path} cannot be compared with {first.path}: {reason}")


def _why_not(one: ScoredRun, other: ScoredRun) -> str | None:
    if bool(one.folds) != bool(other.folds):
        return "the runs of one are folds, each scored on other images, and those of the other are not."
    if one.folds and set(one.ids) == set(other.ids) and one.val_fingerprint != other.val_fingerprint:
        return "its folds, or the labels of their images, are others."
    return _scored_otherwise(one, other) or _other_images(one, other)


def _scored_otherwise(one: ScoredRun, other: ScoredRun) -> str | None:
    if one.manifest.class_names != other.manifest.class_names:
        return (
            f"its classes are {', '.join(other.manifest.class_names)}, not "
            f"{', '.join(one.manifest.class_names)}."
        )
    if one.protocol != other.protocol:
        return f"it was scored with {other.protocol}, not with {one.protocol}."
    return None


def _other_images(one: ScoredRun, other: ScoredRun) -> str | None:
    if reason := _other_fingerprint(one.val_fingerprint, other.val_fingerprint):
        return reason
    if one.ids != other.ids:
        missing = sorted(set(one.ids) ^ set(other.ids))
        return (
            f"{quantity(len(missing), 'image')} could be read in one of them only: {', '.join(missing[:5])}."
        )
    return None
