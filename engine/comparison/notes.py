"""Notes on how to read the numbers of a comparison."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.comparison.groups import Groups
from engine.comparison.runs import Method, ScoredRun
from engine.scoring.seeds import Difference, SeedScores
from engine.scoring.statistics import few_images, range_of
from engine.wording import quantity


def notes(
    methods: Sequence[Method],
    scored: Sequence[SeedScores],
    found: Sequence[Difference | None],
    confidence: float,
    groups: Groups,
) -> list[str]:
    """One or two sentences each.

    Args:
        methods, scored, found: one each; the first method has no difference.
        confidence: of each interval.
        groups: which images are drawn together.
    """
    runs = [run for method in methods for run in method.runs]
    texts = ["The score of a run is that of its best checkpoint, at original resolution, void left out."]
    if runs[0].folds:
        texts += _about_folds(runs, groups.unit)
    if groups.unit == "group":
        texts.append(
            f"Intervals are over {groups.number} groups of images by the pattern {groups.pattern}, each "
            "drawn as a whole, since images of one group are alike."
        )
    if any(not run.recipe.data.select for run in runs):
        texts.append(
            "The best checkpoint was chosen on the images that score it, which raises every score a little."
        )
    evaluations = {len(part.val_rows) for run in runs for part in run.parts}
    if len(evaluations) > 1:
        texts.append(
            f"Runs were evaluated between {min(evaluations)} and {max(evaluations)} times: those with more "
            "had more to choose from, which favours them."
        )
    of_groups = scored[0].of_images.mean(axis=0)
    if runs[0].folds and (text := few_images(groups.number, *range_of(of_groups), unit=groups.unit)):
        texts.append(f"{methods[0].name}: {text}")
    differences = [(method, gap) for method, gap in zip(methods, found, strict=True) if gap]
    few = [text for method, gap in differences if (text := _few(method, gap, groups.unit))]
    texts += few
    if not few:  # which have no interval
        has_two_seeds = any(len(method.runs) == 2 for method in methods)
        texts += _about_intervals([gap for _, gap in differences], confidence, groups.unit, has_two_seeds)
    present = np.concatenate([~np.isnan(scores.scores[:, 1:]) for scores in scored])
    partly = np.flatnonzero(present.any(axis=0) & ~present.all(axis=0))
    if len(partly):
        names = ", ".join(runs[0].manifest.class_names[place] for place in partly)
        texts.append(
            f"No label holds {names}, but some runs predict it: it counts as 0 in their mIoU, and not in "
            "that of the others."
        )
    if all(part.cost.energy_j is None for run in runs for part in run.parts):
        texts.append("No run logged energy: only NVIDIA GPUs report it.")
    texts.append("Times are as the runs logged them: comparable if each ran alone on the same machine.")
    return texts


def _about_intervals(
    gaps: Sequence[Difference], confidence: float, unit: str, has_two_seeds: bool
) -> list[str]:
    """What the intervals of the differences cover."""
    texts = []
    if len(gaps) > 1:
        texts.append(
            f"Each interval of the mIoU is at {confidence:.2%}, so that the {len(gaps)} together hold with "
            "95 % (Bonferroni). Those of classes are at the same level, and not corrected for their number."
        )
    elif gaps:
        texts.append("Intervals are at 95 %. Those of classes are not corrected for their number.")
    if any(gap.counts_seeds for gap in gaps):
        texts.append(f"Intervals cover the choice of {unit}s and of seeds (docs/comparison.md).")
    if any(gap.counts_seeds for gap in gaps) and has_two_seeds:
        texts.append("Two seeds say little about training noise: three give much more reliable intervals.")
    if any(not gap.is_paired and gap.counts_seeds for gap in gaps):
        texts.append("Some methods have other seeds than the first, so they are not compared seed by seed.")
    if any(not gap.counts_seeds for gap in gaps):
        texts.append(
            f"A method with one seed is compared by {unit}s only: another seed may move it by more "
            "than the interval says."
        )
    return texts


def _few(method: Method, gap: Difference, unit: str) -> str:
    """What can be said of a difference on few images; empty where they are enough."""
    text = few_images(len(gap.of_images), *range_of(gap.of_images), "differences in mIoU", unit)
    return f"{method.name}: {text}" if text else ""


def _about_folds(runs: Sequence[ScoredRun], unit: str) -> list[str]:
    """How scores out of fold came about, and which classes are in too few images for them."""
    first = runs[0]
    texts = [
        "The runs of a method are folds: each was scored on images that it was not trained on and the others "
        f"were, so their own scores are of different images. Together they score {len(first.ids)} images, "
        "each once, and the pixels of all are counted together. The interval of that mIoU is over the "
        f"{unit}s."
    ]
    class_names = first.manifest.class_names
    labelled = np.sum([_num_labelled(fold) for fold in first.folds], axis=0)
    texts += scarce_classes(class_names, labelled, len(first.folds))
    copies = sum(fold.manifest.data.num_val_trained_on or 0 for fold in first.folds)
    if copies:
        texts.append(
            f"Of {quantity(copies, 'image')} a copy is in another fold, so that the model that scores it was "
            "trained on it: the score on other images is lower."
        )
    return texts


def _num_labelled(fold: ScoredRun) -> NDArray[np.int64]:
    """(C,) how many of its images hold each class in their labels."""
    scores = fold.run.scores
    assert scores is not None, "ScoredRun.of requires them"
    held: NDArray[np.int64] = (scores.confusion[fold.run.best.name].sum(axis=2) > 0).sum(axis=0)
    return held


def scarce_classes(class_names: Sequence[str], num_images: NDArray[np.int64], num_folds: int) -> list[str]:
    """What is said of classes that are in fewer images than there are folds; empty where there is none.

    Args:
        num_images: (C,) that hold each class.
    """
    counted = zip(class_names, num_images.tolist(), strict=True)
    few = [f"{name} ({number})" for name, number in counted if 0 < number < num_folds]
    if not few:
        return []
    return [
        f"Fewer images than folds hold {', '.join(few)}: some folds are scored without such a class, and "
        "where all of its images are in one fold, it is scored by a model that never saw it."
    ]
