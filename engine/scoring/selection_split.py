"""The split on which something is chosen for members: none of them was trained on it, or is scored on it."""

import logging
from collections.abc import Iterable, Sequence

import engine.data
from engine.data.options import Data
from engine.data.overlap import shared_images
from engine.data.sample import Dataset, first_few, require_labels
from engine.recipe import Recipe, load_recipe
from engine.run_folder import RunFolderError
from engine.scoring.ensembling import Candidate
from engine.scoring.training_images import images_trained_on, training_splits
from engine.wording import some_of

logger = logging.getLogger(__name__)

NUM_NAMED = 3  # images in a message
FEW = 0.01  # below this share, equal images of different names are chance finds, as in data from the web


def open_select(recipe: Recipe, candidates: Sequence[Candidate], val: Dataset) -> Dataset | None:
    """The split that `data.select` names, on which ensembles are chosen; None where that is val.

    Raises:
        RunFolderError: it is empty, or shares images with what members were trained on or are scored on.
    """
    if recipe.data.select in (None, recipe.data.val):
        return None
    runs = {candidate.run.path: candidate for candidate in candidates}.values()
    sections = [load_recipe(one.run.recipe, imports=False).data for one in runs]
    fingerprints = [one.manifest.data.train_fingerprint for one in runs]
    halve = "Name another split, or choose on halves of val with --split-half."
    scored = recipe.data.val, val
    return open_apart(recipe.data, recipe.data.select, sections, fingerprints, scored, halve)


def open_apart(
    data: Data,
    name: str,
    trained: Sequence[Data],
    fingerprints: Sequence[str | None],
    scored: tuple[str, Dataset],
    remedy: str,
) -> Dataset:
    """A split to choose something on for members.

    Args:
        data: the section that says where the split is.
        trained, fingerprints: what the members were trained on, as `training_splits` takes it.
        scored: the name and the images of the split that the members are scored on.
        remedy: what to do where it cannot be chosen on.

    Raises:
        RunFolderError: it is empty, or shares images with what was trained on or with `scored`. A few equal
            images of different names are a warning.
        DataError: no pixel of it is labelled.
    """
    select = engine.data.open_split(data, name)
    if not len(select):
        raise RunFolderError(f"data.select: split {name!r} holds no images.")
    require_labels(select, name, "name another split with data.select")
    trains = training_splits(trained, data, fingerprints)
    seen = images_trained_on(select, trains, fingerprints)
    known = (
        "among those that members were trained on",
        "Choosing there favours members that have memorised them.",
    )
    _require_apart(select, name, seen, trains, known, remedy)
    split, images = scored
    reported = (
        f"in {split!r}, which the members are scored on",
        "Scores on images that were chosen on are too high.",
    )
    _require_apart(select, name, shared_images(select, images), [images], reported, remedy)
    return select


def _require_apart(
    select: Dataset,
    name: str,
    shared: set[str],
    others: Iterable[Dataset],
    said: tuple[str, str],
    remedy: str,
) -> None:
    """Warns of a few equal images of different names.

    Args:
        shared: ids of images of `select` that are in `others`, too.
        said: where they are, and why that is wrong.

    Raises:
        RunFolderError: they are more than a few, or have the same ids there.
    """
    if not shared:
        return
    where, why = said
    verbs = f"of split {name!r} is", f"of split {name!r} are"
    ids = first_few(sorted(shared), NUM_NAMED)
    what = f"{some_of(len(shared), len(select), 'image', *verbs)} {where}: {ids}."
    if len(shared) >= FEW * len(select) or any(not shared.isdisjoint(other.ids) for other in others):
        raise RunFolderError(f"{what} {why} {remedy}")
    logger.warning("%s So few change little; take them out of the list of %s.", what, name)
