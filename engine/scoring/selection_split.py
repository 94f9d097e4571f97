"""The split on which something is chosen for members: none of them was trained on it, or is scored on it."""

from collections.abc import Collection, Sequence

import engine.data
from engine.data.options import Data
from engine.data.overlap import shared_images
from engine.data.sample import Dataset
from engine.recipe import Recipe, load_recipe
from engine.run_folder import RunFolderError
from engine.scoring.ensembling import Candidate
from engine.scoring.training_images import images_trained_on
from engine.wording import some_of


def open_select(recipe: Recipe, candidates: Sequence[Candidate], val: Dataset) -> Dataset | None:
    """The split that `data.select` names, on which ensembles are chosen; None where that is val.

    Raises:
        RunFolderError: it is empty, or shares images with what members were trained on or are scored on.
    """
    if recipe.data.select in (None, recipe.data.val):
        return None
    runs = {candidate.run.path: candidate for candidate in candidates}.values()
    sections = [load_recipe(one.run.recipe, imports=False).data for one in runs]
    fingerprints = {one.manifest.data.train_fingerprint for one in runs}
    halve = "Name another split, or choose on halves of val with --split-half."
    scored = recipe.data.val, val
    return open_apart(recipe.data, recipe.data.select, sections, fingerprints, scored, halve)


def open_apart(
    data: Data,
    name: str,
    trained: Sequence[Data],
    fingerprints: Collection[str],
    scored: tuple[str, Dataset],
    remedy: str,
) -> Dataset:
    """A split to choose something on for members.

    Args:
        data: the section that says where the split is.
        trained, fingerprints: what the members were trained on, as `images_trained_on` takes it.
        scored: the name and the images of the split that the members are scored on.
        remedy: what to do where it cannot be chosen on.

    Raises:
        RunFolderError: it is empty, or shares images with what was trained on or with `scored`.
    """
    select = engine.data.open_split(data, name)
    if not len(select):
        raise RunFolderError(f"data.select: split {name!r} holds no images.")
    verbs = f"of split {name!r} is", f"of split {name!r} are"
    if seen := images_trained_on(select, trained, data, fingerprints):
        raise RunFolderError(
            f"{some_of(len(seen), len(select), 'image', *verbs)} among those that members were trained on: "
            f"choosing there favours members that have memorised them. {remedy}"
        )
    split, images = scored
    if reported := shared_images(select, images):
        raise RunFolderError(
            f"{some_of(len(reported), len(select), 'image', *verbs)} in {split!r}, which the members are "
            f"scored on. {remedy}"
        )
    return select
