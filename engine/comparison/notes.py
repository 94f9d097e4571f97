"""Notes on how to read the numbers of a comparison."""

import math
from collections.abc import Sequence

import numpy as np

from engine.comparison.runs import Method
from engine.scoring.seeds import Difference, SeedScores
from engine.scoring.statistics import few_images


def notes(
    methods: Sequence[Method],
    scored: Sequence[SeedScores],
    found: Sequence[Difference | None],
    confidence: float,
) -> list[str]:
    """One or two sentences each.

    Args:
        methods, scored, found: one each; the first method has no difference.
        confidence: of each interval.
    """
    runs = [run for method in methods for run in method.runs]
    gaps = [gap for gap in found if gap]
    texts = ["The score of a run is that of its best checkpoint, at original resolution, void left out."]
    if any(not run.recipe.data.select for run in runs):
        texts.append(
            "The best checkpoint was chosen on the images that score it, which raises every score a little."
        )
    evaluations = {len(run.run.val_rows) for run in runs}
    if len(evaluations) > 1:
        texts.append(
            f"Runs were evaluated between {min(evaluations)} and {max(evaluations)} times: those with more "
            "had more to choose from, which favours them."
        )
    few = [text for method, gap in zip(methods, found, strict=True) if gap and (text := _few(method, gap))]
    texts += few
    if few:
        gaps = []  # they have no interval
    if len(gaps) > 1:
        texts.append(
            f"Each interval of the mIoU is at {confidence:.2%}, so that the {len(gaps)} together hold with "
            "95 % (Bonferroni). Those of classes are at the same level, and not corrected for their number."
        )
    elif gaps:
        texts.append("Intervals are at 95 %. Those of classes are not corrected for their number.")
    if any(gap.counts_seeds for gap in gaps):
        texts.append("Intervals cover the choice of images and of seeds (docs/comparison.md).")
    if any(gap.counts_seeds for gap in gaps) and any(len(method.runs) == 2 for method in methods):
        texts.append("Two seeds say little about training noise: three give much more reliable intervals.")
    if any(not gap.is_paired and gap.counts_seeds for gap in gaps):
        texts.append("Some methods have other seeds than the first, so they are not compared seed by seed.")
    if any(not gap.counts_seeds for gap in gaps):
        texts.append(
            "A method with one seed is compared by images only: another seed may move it by more than the "
            "interval says."
        )
    present = np.concatenate([~np.isnan(scores.scores[:, 1:]) for scores in scored])
    partly = np.flatnonzero(present.any(axis=0) & ~present.all(axis=0))
    if len(partly):
        names = ", ".join(runs[0].manifest.class_names[place] for place in partly)
        texts.append(
            f"No label holds {names}, but some runs predict it: it counts as 0 in their mIoU, and not in "
            "that of the others."
        )
    if all(run.run.cost.energy_j is None for run in runs):
        texts.append("No run logged energy: only NVIDIA GPUs report it.")
    texts.append("Times are as the runs logged them: comparable if each ran alone on the same machine.")
    return texts


def _few(method: Method, gap: Difference) -> str:
    """What can be said of a difference on few images; empty where they are enough."""
    known = gap.of_images[~np.isnan(gap.of_images)]
    lowest, highest = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
    text = few_images(len(gap.of_images), lowest, highest, what="differences in mIoU")
    return f"{method.name}: {text}" if text else ""
