"""The split on which something is chosen for members: none of them was trained on it, or is scored on it."""

from collections.abc import Sequence

import engine.data
from engine.data.sample import Dataset
from engine.recipe import Recipe
from engine.run_folder import RunFolderError
from engine.scoring.ensembling import Candidate
from engine.wording import some_of


def open_select(recipe: Recipe, candidates: Sequence[Candidate], val: Dataset) -> Dataset | None:
    """The split that `data.select` names, on which ensembles are chosen; None where that is val.

    Raises:
        RunFolderError: it is empty, or shares images with what members were trained on or are scored on.
    """
    if recipe.data.select in (None, recipe.data.val):
        return None
    trains = [candidate.manifest.data.train for candidate in candidates]
    halve = "Name another split, or choose on halves of val with --split-half."
    return open_apart(recipe, recipe.data.select, trains, (recipe.data.val, val), halve)


def open_apart(
    recipe: Recipe, name: str, trains: Sequence[str], scored: tuple[str, Dataset], remedy: str
) -> Dataset:
    """A split to choose something on for members that were trained on the splits `trains`.

    Args:
        scored: the name and the images of the split that the members are scored on.
        remedy: what to do where it cannot be chosen on.

    Raises:
        RunFolderError: it is empty, or shares images with those splits or with `scored`.
    """
    select = engine.data.open_split(recipe.data, name)
    if not len(select):
        raise RunFolderError(f"data.select: split {name!r} holds no images.")
    verbs = f"of split {name!r} is", f"of split {name!r} are"
    for train in dict.fromkeys(trains):
        seen = _num_shared(select, engine.data.open_split(recipe.data, train))
        if seen:
            raise RunFolderError(
                f"{some_of(seen, len(select), 'image', *verbs)} in {train!r}, which members were "
                f"trained on: choosing there favours members that have memorised them. {remedy}"
            )
    split, images = scored
    if reported := _num_shared(select, images):
        raise RunFolderError(
            f"{some_of(reported, len(select), 'image', *verbs)} in {split!r}, which the members are scored "
            f"on. {remedy}"
        )
    return select


def _num_shared(one: Dataset, other: Dataset) -> int:
    return len(set(one.ids) & set(other.ids))
