"""A run as TensorBoard events."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.markup import escape
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from engine.data.batches import Batch
from engine.recipe import Recipe
from engine.recipe.differences import explain
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Callback, Evaluation, RunContext, RunEnd
from engine.reporting.feature_sheet import feature_sheet
from engine.reporting.log_files import evaluation_values
from engine.reporting.pictures import sheet
from engine.scoring.confusion import Scores
from engine.scoring.precision_recall import NUM_THRESHOLDS, PrecisionRecall
from models.folding import evaluating

GRAPH_SIDE_PX = 64  # of the image that is traced through the model
MAIN_VALUES = (  # by which runs are compared
    *("model.arch", "model.variant", "model.encoder", "model.weights", "data.sampler", "augment.crop"),
    *("optimizer.lr", "optimizer.head_lr_mult", "optimizer.weight_decay", "schedule.name", "schedule.warmup"),
    *("train.steps", "train.batch", "train.ema", "adversarial.weight", "eval.flip", "seed"),
)


class TensorBoard(Callback):
    """Numbers, pictures, feature maps, curves, labels, notes, the graph: docs/watching.md lists the tags.

    A resumed run hides the events after its saved state.
    """

    def on_start(self, run: RunContext) -> None:
        self._run = run
        self._writer = SummaryWriter(str(run.path), purge_step=run.first_step + 1 if run.first_step else None)
        self._graph_is_due = run.best_mIoU is None  # no evaluation yet

    def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name if "/" in name else f"train/{name}", value, step)
        self._labels(step, batch)

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        for name, value in evaluation_values(evaluation).items():
            if not math.isnan(value):
                self._writer.add_scalar(f"val/{name}", value, step)
        run = self._run
        if self._graph_is_due:  # tracing takes a second, which nobody waits for here
            self._graph_is_due = False
            if reason := write_graph(self._writer, run.model):
                run.console.print(f"TensorBoard gets no graph of this model: {escape(reason)}")
        if evaluation.pictures:
            self._image(
                "val/predictions",
                sheet(evaluation.pictures, run.palette, run.class_names, run.ignore_index),
                step,
            )
        for layer, rows in evaluation.features.items():
            self._image(f"features/{layer}", feature_sheet(rows), step)
        if evaluation.curves:
            self._curves(step, evaluation.curves)
        self._writer.flush()

    def on_note(self, step: int, note: Note) -> None:
        lines = "".join(f"\n    {line}" for line in note.remedies)
        self._writer.add_text(f"notes/{note.topic.replace(' ', '_')}", f"{note.text}\n{lines}", step)

    def on_end(self, end: RunEnd) -> None:
        self._writer.close()
        if end.scores:
            write_hparams(self._run.path, self._run.recipe, end.scores)

    def _image(self, tag: str, image: Image.Image, step: int) -> None:
        self._writer.add_image(tag, np.asarray(image), step, dataformats="HWC")

    def _labels(self, step: int, batch: Batch) -> None:
        """A histogram of the labels of the batch: one bucket per class."""
        if batch.labels.dim() == 4:  # masks of classes that may overlap
            counts = (batch.labels == 1).sum((0, 2, 3)).double().cpu()
        else:
            labels = batch.labels[batch.labels != self._run.ignore_index]
            counts = torch.bincount(labels.flatten(), minlength=len(self._run.class_names)).double().cpu()
        ids = torch.arange(len(counts)).double()
        self._writer.add_histogram_raw(
            "data/labels",
            min=0,
            max=len(counts) - 1,
            num=int(counts.sum()),
            sum=float(counts @ ids),
            sum_squares=float(counts @ ids.square()),
            bucket_limits=(ids + 0.5).tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )

    def _curves(self, step: int, curves: PrecisionRecall) -> None:
        for class_id, name in enumerate(self._run.class_names):
            curve = curves.curve(class_id)
            if curve is None:
                continue
            tp, fp, tn, fn, precision, recall = (values.double().numpy() for values in curve.values())
            self._writer.add_pr_curve_raw(
                f"val/PR/{name}", tp, fp, tn, fn, precision, recall, step, num_thresholds=NUM_THRESHOLDS
            )


def write_graph(writer: SummaryWriter, model: nn.Module) -> str | None:
    """Writes the graph of a forward pass; where the model cannot be traced, gives the reason instead."""
    parameter = next(model.parameters())
    if parameter.is_meta:
        return "no process has the whole of it (train.shard)"
    num_bands = getattr(model, "in_channels", 3)
    image = torch.zeros(1, num_bands, GRAPH_SIDE_PX, GRAPH_SIDE_PX, device=parameter.device)
    try:
        with torch.no_grad(), evaluating(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of sizes that become constants
            # traced here, as add_graph traces a second time to compare the outputs
            traced = torch.jit.trace(model, image, check_trace=False)  # type: ignore[no-untyped-call]
            writer.add_graph(traced, image)
    except Exception as error:  # tracing may raise anything
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def write_hparams(folder: Path, recipe: Recipe, scores: Mapping[str, Scores]) -> None:
    """The main values of the recipe with the final scores, in the run's own folder, not in a subfolder.

    Args:
        scores: of each kept checkpoint, best first, then of their ensemble.
    """
    values = {key: value for key, value, _ in explain(recipe) if key in MAIN_VALUES and value is not None}
    values |= {"loss": " + ".join(term.name for term in recipe.loss)}
    best, ensemble = next(iter(scores.values())), list(scores.values())[-1]
    metrics = {"hparam/best_mIoU": best.mIoU, "hparam/ensemble_mIoU": ensemble.mIoU}
    writer = SummaryWriter(str(folder), filename_suffix=".hparams")
    # add_hparams would start another run in a subfolder
    for summary in hparams(values, metrics):  # type: ignore[no-untyped-call]
        writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
    for tag, value in metrics.items():
        writer.add_scalar(tag, value, recipe.train.steps)
    writer.close()
