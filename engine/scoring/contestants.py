"""Trained predictors side by side: their scores on the same images under one protocol, and what they cost.

Shapes: N images, C classes.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import torch

from engine.data.batches import Batch, scoring_batches
from engine.data.sample import Dataset
from engine.scoring.counting import Counts
from engine.scoring.evaluation import OnBatch, evaluate
from engine.scoring.numerics import full_float32
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.statistics import Overlaps
from engine.scoring.timing import TIMED_ROUNDS, interleaved, timed_batches
from engine.scoring.trained import Trained

Show = Callable[[str], Callable[[int, int], None]]  # from a task's name to a callback (done, total)


@dataclass(frozen=True)
class Contestant:
    """The scores and the cost of one predictor.

    overlaps: (N, 2, C) intersection and union on each image. forward_passes: of one image, for each view of
    the protocol. num_parameters: of all models. images_per_second: without the decoding.
    """

    name: str
    overlaps: Overlaps
    forward_passes: int
    num_parameters: int
    images_per_second: float


@full_float32()
def score_side_by_side(
    contestants: Mapping[str, Trained],
    dataset: Dataset,
    protocol: EvaluationProtocol,
    device: torch.device,
    workers: int | str,
    show: Show,
) -> dict[str, Contestant]:
    """Score each on every image, then time them in turn.

    Args:
        contestants: their models are on `device`.
    """
    found = {
        name: _count(one, name, dataset, protocol, device, workers, show) for name, one in contestants.items()
    }
    in_memory = timed_batches(dataset, device)
    calls = {
        name: partial(_evaluate, one, in_memory, dataset, protocol, device)
        for name, one in contestants.items()
    }
    seconds = interleaved(calls, TIMED_ROUNDS, show("timing"))
    return {
        name: Contestant(
            name=trained.name,
            overlaps=found[name],
            forward_passes=len(trained.combination.used),
            num_parameters=sum(p.numel() for model in trained.members.values() for p in model.parameters()),
            images_per_second=len(in_memory) / median(seconds[name]),
        )
        for name, trained in contestants.items()
    }


def _count(
    trained: Trained,
    name: str,
    dataset: Dataset,
    protocol: EvaluationProtocol,
    device: torch.device,
    workers: int | str,
    show: Show,
) -> Overlaps:
    """(N, 2, C) of all images, in their order."""
    progress, found = show(f"scoring the {name}"), list[Overlaps]()

    def on_batch(ids: list[str], counts: dict[str, Counts]) -> None:
        found.extend(of_one.overlaps() for of_one in counts.values())
        progress(sum(map(len, found)), len(dataset))

    _evaluate(trained, scoring_batches(dataset, device, workers=workers), dataset, protocol, device, on_batch)
    progress(len(dataset), len(dataset))  # where images were skipped
    return np.concatenate(found)


def _evaluate(
    trained: Trained,
    batches: Iterable[Batch],
    dataset: Dataset,
    protocol: EvaluationProtocol,
    device: torch.device,
    on_batch: OnBatch | None = None,
) -> None:
    evaluate(
        trained.members,
        batches,
        Predictor(protocol, nullcontext, trained.kind),
        len(dataset.class_names),
        dataset.ignore_index,
        device,
        on_batch,
        {protocol.name: trained.combination},
        counted=[protocol.name],
    )
