"""Callbacks: what a training calls while it runs. The logs, the console and the loggers are callbacks too.

This module does not import torch, so that a file that defines a callback is imported quickly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

if TYPE_CHECKING:
    from torch import nn

    from engine.data.batches import Batch
    from engine.data.sample import Palette
    from engine.recipe import Recipe
    from engine.reporting.advisor import Note
    from engine.reporting.feature_sheet import FeatureRow
    from engine.reporting.pictures import Picture
    from engine.scoring.confusion import Scores
    from engine.scoring.precision_recall import PrecisionRecall


@dataclass(frozen=True)
class RunContext:
    """A run that is about to train.

    path: of the run's folder.
    model: of a sharded training, a copy without values (on the device `meta`).
    recipe: durations in steps, class weights in numbers.
    first_step: updates done before; 0 for a new run.
    best_mIoU: the highest of the evaluations before a resume; None without any.
    console: for messages that do not break its live line.
    """

    path: Path
    recipe: Recipe
    model: nn.Module
    class_names: tuple[str, ...]
    palette: Palette
    ignore_index: int
    first_step: int = 0
    best_mIoU: float | None = None
    console: Console = field(default_factory=Console)


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation.

    log_loss: nats per labelled pixel.
    curves: precision and recall of each class, from a sample of the pixels.
    features: by layer, a row of activation maps for each image.
    further: of several sets, the evaluations of those after the first, by name.
    """

    scores: Scores
    log_loss: float
    pictures: list[Picture] = field(default_factory=list)
    curves: PrecisionRecall | None = None
    features: Mapping[str, list[FeatureRow]] = field(default_factory=dict)
    further: Mapping[str, Evaluation] = field(default_factory=dict)


@dataclass(frozen=True)
class RunEnd:
    """How a training ended.

    status: finished; stopped by Ctrl-C or SIGTERM, with its state saved; or failed with an exception.
    step: updates done.
    scores: of each kept checkpoint, best first, then of their ensemble; empty unless finished.
    """

    status: Literal["finished", "stopped", "failed"]
    step: int
    scores: Mapping[str, Scores] = field(default_factory=dict)


class Callback:
    """Base class: override the methods that you need. Called in the main process only.

    An exception in a callback is reported and turns that callback off; the training goes on without it,
    unless the class says `essential = True`.
    """

    essential = False  # whether an exception in it fails the run

    def on_start(self, run: RunContext) -> None:
        """Before the first update of a new or resumed run; its folder exists."""

    def on_step(self, step: int) -> None:
        """After each update. It must not wait for the device."""

    def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
        """Every `log.every` updates, and at the last one.

        Args:
            step: updates done.
            values: the numbers of log.jsonl by name, such as "loss" and "lr".
            batch: what was trained on: images (B, 3, S, S) in 0..255, labels (B, S, S), on the device.
        """

    def on_scoring(self, done: int, total: int) -> None:
        """During an evaluation: how many images of this process have been scored."""

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        """After each evaluation."""

    def on_skipped(self, step: int, samples: Sequence[tuple[str, int]]) -> None:
        """An update was left out because its loss or a gradient was NaN or infinite; after it, in order.

        Args:
            step: the number of the update, from 1.
            samples: id and epoch of each sample of all processes; with the recipe's seed they decide what
                its augmentation was.
        """

    def on_note(self, step: int, note: Note) -> None:
        """Advice on the training, once for each topic, and what the training does about NaN."""

    def on_checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint was kept as one of the best; a later, better one may replace it."""

    def on_end(self, end: RunEnd) -> None:
        """The run finished, with all of its files written; or it was stopped, or failed."""
