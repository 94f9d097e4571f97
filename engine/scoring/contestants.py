"""Trained predictors side by side: their scores on the same images under one protocol, and what they cost.

Shapes: N images, C classes.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
from torch import Tensor, nn

from engine.data.batches import Batch, scoring_batches
from engine.data.sample import Dataset
from engine.scoring.combining import Combination
from engine.scoring.counting import Counts
from engine.scoring.evaluation import ImageProgress, OnBatch, evaluate
from engine.scoring.label_kinds import LabelKind
from engine.scoring.numerics import full_float32
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.statistics import Overlaps
from engine.scoring.timing import TIMED_ROUNDS, interleaved, timed_batches
from engine.scoring.trained import Trained
from engine.scoring.upsampling import Pieces, sure_images

Show = Callable[[str], Callable[[int, int], None]]  # from a task's name to a callback (done, total)


@dataclass(frozen=True)
class Contestant:
    """The scores and the cost of one predictor.

    overlaps: (N, 2, C) intersection and union on each image. forward_passes: of one image, for each view of
    the protocol; with an early exit the mean over the images, by which of them exit. num_parameters: of all
    models. images_per_second: of NUM_TIMED_IMAGES images, without the decoding.
    """

    name: str
    overlaps: Overlaps
    forward_passes: float
    num_parameters: int
    images_per_second: float


@full_float32()
def score_side_by_side(
    contestants: Mapping[str, Trained],
    dataset: Dataset,
    protocol: EvaluationProtocol,
    workers: int | str,
    show: Show,
) -> dict[str, Contestant]:
    """Score each on every image, then time them in turn.

    Args:
        contestants: images are read to the device of the first model of all.
    """
    some = next(iter(contestants.values())).members
    device = next(next(iter(some.values())).parameters()).device
    models = {name: one.for_predictions() for name, one in contestants.items()}

    def run(name: str, batches: Iterable[Batch], on_batch: OnBatch | None = None) -> int:
        """One pass over images: how many forward passes they need, for each view."""
        predictor = _Counting(protocol, contestants[name].kind)
        evaluate(
            models[name],
            batches,
            predictor,
            len(dataset.class_names),
            dataset.ignore_index,
            device,
            on_batch,
            {protocol.name: contestants[name].combination},
            counted=[protocol.name],
        )
        return predictor.num_passes

    def count(name: str) -> tuple[Overlaps, int]:
        """(N, 2, C) of all images, in their order, and their forward passes."""
        progress, found = ImageProgress(len(dataset), show(f"scoring the {name}")), list[Overlaps]()

        def on_batch(ids: list[str], counts: dict[str, Counts]) -> None:
            found.extend(of_one.overlaps() for of_one in counts.values())
            progress.add(len(ids))

        num_passes = run(name, scoring_batches(dataset, device, workers=workers), on_batch)
        progress.end()
        return np.concatenate(found), num_passes

    counted = {name: count(name) for name in contestants}
    in_memory = timed_batches(dataset, device)
    calls = {name: partial(run, name, in_memory) for name in contestants}
    seconds = interleaved(calls, TIMED_ROUNDS, show("timing"))
    return {
        name: Contestant(
            name=contestants[name].name,
            overlaps=overlaps,
            forward_passes=num_passes / len(overlaps),
            num_parameters=contestants[name].num_parameters,
            images_per_second=len(in_memory) / median(seconds[name]),
        )
        for name, (overlaps, num_passes) in counted.items()
    }


class _Counting(Predictor):
    """Also counts the members that have to see each image."""

    def __init__(self, protocol: EvaluationProtocol, kind: LabelKind):
        super().__init__(protocol, nullcontext, kind)
        self.num_passes = 0

    def of_members(
        self,
        models: Mapping[str, nn.Module],
        images: Tensor,
        combinations: Iterable[Combination],
        alone: Iterable[str] = (),
    ) -> dict[str, Pieces]:
        """As of `Predictor`. An image that exits counts once, also where others of its batch do not exit."""
        [combination] = combinations
        found = super().of_members(models, images, [combination], alone)
        sure = sure_images([found.get(name) for name in models], combination)
        num_exits = 0 if sure is None else int(sure.sum())
        self.num_passes += num_exits + (len(images) - num_exits) * len(combination.used)
        return found
