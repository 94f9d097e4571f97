"""A run as TensorBoard events. Knows nothing of how training works."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from engine.data.batches import Batch
from engine.data.sample import Palette
from engine.recipe import Recipe, explain
from engine.reporting.advisor import Note
from engine.reporting.feature_sheet import feature_sheet
from engine.reporting.journal import Evaluation, Listener
from engine.reporting.pictures import sheet
from engine.scoring.confusion import Scores
from engine.scoring.precision_recall import NUM_THRESHOLDS, PrecisionRecall

GRAPH_SIDE_PX = 64  # of the image that is traced through the model
KNOBS = (  # what people compare runs by
    *("model.arch", "model.variant", "model.encoder", "model.weights", "data.sampler", "augment.crop"),
    *("optimizer.lr", "optimizer.head_lr_mult", "optimizer.weight_decay", "schedule.name", "schedule.warmup"),
    *("train.steps", "train.batch", "train.ema", "adversarial.weight", "eval.flip", "seed"),
)


class TensorBoard(Listener):
    """Numbers, pictures, feature maps, curves, labels, notes, the graph: docs/watching.md lists the tags.

    Args:
        folder: where the event file goes.
        resume_at: events after this step, of a run that was cut off, are hidden.
    """

    def __init__(
        self, folder: Path, palette: Palette, class_names: tuple[str, ...], ignore_index: int, resume_at: int
    ):
        self._writer = SummaryWriter(str(folder), purge_step=resume_at + 1 if resume_at else None)
        self._palette, self._class_names, self._ignore_index = palette, class_names, ignore_index

    def update(self, step: int, values: dict[str, float], batch: Batch) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name if "/" in name else f"train/{name}", value, step)
        self._labels(step, batch)

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        scores = evaluation.scores
        values = scores.metrics | {"loss": evaluation.log_loss}
        values |= {f"IoU/{name}": value for name, value in scores.IoU.items() if not math.isnan(value)}
        for name, value in values.items():
            self._writer.add_scalar(f"val/{name}", value, step)
        if evaluation.pictures:
            image = sheet(evaluation.pictures, self._palette, self._class_names, self._ignore_index)
            self._writer.add_image("val/predictions", np.asarray(image), step, dataformats="HWC")
        for layer, rows in evaluation.features.items():
            image = feature_sheet(rows)
            self._writer.add_image(f"features/{layer}", np.asarray(image), step, dataformats="HWC")
        if evaluation.curves:
            self._curves(step, evaluation.curves)
        self._writer.flush()

    def note(self, step: int, note: Note) -> None:
        lines = "".join(f"\n    {line}" for line in note.remedies)
        self._writer.add_text(f"notes/{note.topic.replace(' ', '_')}", f"{note.text}\n{lines}", step)

    def graph(self, model: nn.Module) -> str | None:
        """Writes the graph of a forward pass; where the model cannot be traced, gives the reason instead."""
        parameter = next(model.parameters())
        image = torch.zeros(1, 3, GRAPH_SIDE_PX, GRAPH_SIDE_PX, device=parameter.device)
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the tracer: sizes become constants, which a picture may
                self._writer.add_graph(model, image)
        except Exception as error:  # whatever a stranger's forward pass does when it is traced
            return f"{type(error).__name__}: {error}".splitlines()[0]
        finally:
            model.train(was_training)
        return None

    def close(self) -> None:
        self._writer.close()

    def _labels(self, step: int, batch: Batch) -> None:
        """How many pixels of the batch each class has: a bucket a class."""
        labels = batch.labels[batch.labels != self._ignore_index]
        counts = torch.bincount(labels.flatten(), minlength=len(self._class_names)).double().cpu()
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
        for class_id, name in enumerate(self._class_names):
            curve = curves.curve(class_id)
            if curve is None:
                continue
            tp, fp, tn, fn, precision, recall = (values.double().numpy() for values in curve.values())
            self._writer.add_pr_curve_raw(
                f"val/PR/{name}", tp, fp, tn, fn, precision, recall, step, num_thresholds=NUM_THRESHOLDS
            )


def write_hparams(folder: Path, recipe: Recipe, scores: Mapping[str, Scores]) -> None:
    """The recipe's main knobs with the final scores, into the run's own folder, not one below it.

    Args:
        scores: of each member, best first, then of their ensemble.
    """
    knobs = {key: value for key, value, _ in explain(recipe) if key in KNOBS and value is not None}
    knobs |= {"loss": " + ".join(term.name for term in recipe.loss)}
    best, ensemble = next(iter(scores.values())), list(scores.values())[-1]
    metrics = {"hparam/best_mIoU": best.mIoU, "hparam/ensemble_mIoU": ensemble.mIoU}
    writer = SummaryWriter(str(folder), filename_suffix=".hparams")
    for summary in hparams(knobs, metrics):  # add_hparams would start a run of its own in a subfolder
        writer.file_writer.add_summary(summary)
    for tag, value in metrics.items():
        writer.add_scalar(tag, value, recipe.train.steps)
    writer.close()
