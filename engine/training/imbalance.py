"""Class imbalance in a training: counts the labels, and resolves what depends on the counts.

Here the name of a scheme of class weights becomes numbers, and the sampler `auto` becomes rare or uniform. So
losses need no data, and the saved recipe trains the same without counting again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.data.class_counts import ClassCounts, CountsFile, count_classes
from engine.data.class_weights import SCHEMES, class_weights
from engine.data.order import SampleOrder, WeightedOrder
from engine.data.rare_classes import RARE_SHARE, probabilities_in_sets, rare_classes
from engine.data.sample import Dataset
from engine.diagnosis.remedies import CROP_ON_RARE, SAMPLE_RARE, help_rare_classes
from engine.recipe import Recipe
from engine.training.distributed import Process, any_process, sum_in_place, wait_for_all

MOST_NAMED = 12  # rare classes
REMEDIES = {
    SAMPLE_RARE: f"  draw their images more often: {SAMPLE_RARE}, in a recipe `data: {{sampler: rare}}`",
    CROP_ON_RARE: f"  draw crops that show them: {CROP_ON_RARE}, in a recipe `augment: {{crop_on: rare}}`",
}


def count_labels(
    train: Dataset, root: str | None, process: Process, progress: Callable[[int, int], None], keep: bool
) -> tuple[ClassCounts, list[str]]:
    """The class counts of the training split, cached or counted now, and notes for the user.

    Args:
        train: a split.
        root: `data.root`, where the counts are cached; None: no cache.
        process: each process counts its share of the images, and all get the sum.
        progress: called with (done, total).
        keep: whether new counts may be written.

    Raises:
        DataError: labels that cannot be read.
    """
    file = CountsFile(Path(root), train) if root is not None else None
    counts = file.read() if file else None
    if any_process(process, counts is None):  # machines may have different disks
        counts = count_classes(train, progress, process.rank, process.world_size)
        wait_for_all(process)
        counts = _summed(counts, process)
        if file and keep and process.is_main:
            try:
                file.write(counts)
            except OSError as error:
                why = f"not kept in {file.path.parent}, {error.strerror}"
                return counts, [f"class counts: {why}; each start counts the labels again"]
    assert counts is not None
    return counts, []


def without_schemes(recipe: Recipe) -> Recipe:
    """The recipe before the labels are counted, without the class weights that need the counts."""
    terms = [
        term.model_copy(update={"class_weights": "none"})
        if isinstance(getattr(term, "class_weights", None), str)
        else term
        for term in recipe.loss
    ]
    return recipe.model_copy(update={"loss": terms})


def decided(recipe: Recipe, counts: ClassCounts, class_names: tuple[str, ...]) -> tuple[Recipe, list[str]]:
    """The recipe with class weights as numbers, the sampler and rare classes chosen, and a note on each.

    The first note that needs the rare classes lists them, and `advice` does not list them again.
    """
    terms, notes = [], []
    for term in recipe.loss:
        scheme = getattr(term, "class_weights", None)
        if isinstance(scheme, str) and scheme in SCHEMES:
            weights = class_weights(scheme, counts)
            term = term.model_copy(update={"class_weights": weights})
            notes.append(f"class weights of {term.name} ({scheme}): {_listed(weights, counts, class_names)}")
        terms.append(term)
    data, rare = recipe.data, rare_classes(counts)
    if data.sampler == "auto":
        data = data.model_copy(update={"sampler": "rare" if rare else "uniform"})
        if rare:
            notes.append(f"sampler auto: rare, as {_rare_shares(rare, counts, class_names)}")
    augment = recipe.augment
    if augment.crop_on == "rare":
        augment = augment.model_copy(update={"crop_on": [id for id, _ in rare]})
        if not rare:
            notes.append("crops are not redrawn, as no class is rare (augment.crop_on)")
        elif recipe.data.sampler == "auto":  # its note has listed them
            notes.append("crops are redrawn for them, too")
        else:
            notes.append(f"crops are redrawn for rare classes: {_rare_shares(rare, counts, class_names)}")
    elif not isinstance(augment.crop_on, str):
        absent = [class_names[id] for id in augment.crop_on if counts.shares[id] == 0]
        if absent:
            notes.append(
                f"augment.crop_on has no effect for {', '.join(absent)}: no training image has a pixel of "
                f"{'it' if len(absent) == 1 else 'them'}"
            )
    return recipe.model_copy(update={"loss": terms, "data": data, "augment": augment}), notes


def training_order(
    recipe: Recipe, counts: ClassCounts, shares: NDArray[np.float64] | None = None, sets: Sequence[int] = ()
) -> tuple[SampleOrder, list[str]]:
    """The order by `data.sampler` and the weights of the sets, and a note on the sampler `rare`.

    Args:
        shares: (N,) of the images, by the weights of their sets; None if the sets have no weights.
        sets: number of images of each set, if there are several.
    """
    num_samples, batch = len(counts.void), int(recipe.train.batch)
    notes = []
    if recipe.data.sampler == "rare":
        shares = probabilities_in_sets(counts, shares, sets)
        times = num_samples * shares
        notes.append(
            f"sampler rare: an image is drawn {times.min():.2g} to {times.max():.2g} times per epoch"
        )
    if shares is None:
        return SampleOrder(num_samples, batch, recipe.seed), notes
    return WeightedOrder.of(shares, batch, recipe.seed), notes


def advice(
    recipe: Recipe, counts: ClassCounts, class_names: tuple[str, ...], asked: Recipe | None = None
) -> list[str]:
    """Names the rare classes and the remedies that the recipe does not use yet; [] if there are none.

    Args:
        asked: the recipe before `decided`, whose notes are printed before; None if there are none.
    """
    rare = rare_classes(counts)
    remedies = [line for remedy, line in REMEDIES.items() if remedy in help_rare_classes(recipe)]
    if not rare or not remedies:
        return []
    are_listed = asked and (asked.data.sampler == "auto" or asked.augment.crop_on == "rare")
    told = "More remedies for rare classes:"
    return [told if are_listed else f"{_rare_shares(rare, counts, class_names)}. Remedies:", *remedies]


def _rare_shares(rare: list[tuple[int, float]], counts: ClassCounts, class_names: tuple[str, ...]) -> str:
    named = [f"{class_names[id]} {100 * share:.2g} %" for id, share in rare[:MOST_NAMED]]
    more = f" and {len(rare) - MOST_NAMED} more" if len(rare) > MOST_NAMED else ""
    present = int((counts.shares > 0).sum())
    return (
        f"{len(rare)} of the {present} classes present have under {100 * RARE_SHARE:g} % of the labelled "
        f"training pixels: {', '.join(named)}{more}"
    )


def _summed(counts: ClassCounts, process: Process) -> ClassCounts:
    arrays = [torch.from_numpy(array).to(process.device) for array in (counts.pixels, counts.void)]
    sum_in_place(process, arrays)
    pixels, void = (array.cpu().numpy() for array in arrays)
    return ClassCounts(pixels, void)


def _listed(weights: list[float], counts: ClassCounts, class_names: tuple[str, ...]) -> str:
    present = counts.shares > 0
    found = [f"{name} {weights[id]:.3g}" for id, name in enumerate(class_names) if present[id]]
    absent = [name for id, name in enumerate(class_names) if not present[id]]
    return ", ".join(found) + (f"; 1 for those without a pixel: {', '.join(absent)}" if absent else "")
