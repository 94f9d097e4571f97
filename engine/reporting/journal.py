"""What happens in a run, told to whoever listens: the log file, TensorBoard, the console.

Device tensors become numbers here and only here, once a log step. Knows nothing of how training works.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from engine.data.batches import Batch
from engine.reporting.advisor import Advisor, Note
from engine.reporting.energy import EnergyMeter
from engine.reporting.feature_sheet import FeatureRow
from engine.reporting.memory import memory_mb
from engine.reporting.pictures import Picture
from engine.run_folder import read_log, without_nan, write_text
from engine.scoring.confusion import Scores
from engine.scoring.precision_recall import PrecisionRecall


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found.

    log_loss: nats a labelled pixel.
    curves: precision and recall of each class, from a sample of the pixels.
    features: by layer, a row of maps for each image.
    """

    scores: Scores
    log_loss: float
    pictures: list[Picture] = field(default_factory=list)
    curves: PrecisionRecall | None = None
    features: Mapping[str, list[FeatureRow]] = field(default_factory=dict)


class Listener:
    """Whoever wants to know; a subclass overrides what it cares about."""

    def tick(self, step: int) -> None:
        """After each update. Waits for nothing."""

    def update(self, step: int, values: dict[str, float], batch: Batch) -> None:
        """A log step: plain numbers under the tags of the log, and the batch that was trained on."""

    def scoring(self, done: int, total: int) -> None:
        """How far an evaluation is, in images."""

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """The end of an evaluation."""

    def note(self, step: int, note: Note) -> None:
        """Advice, said once a start of the run."""

    def close(self) -> None:
        """The training is over."""


class Journal:
    """Tells every listener. A process that is not the main one has none.

    Args:
        listeners: in the order in which they are told.
        learning_rates: asked at each log step; group -> rate. `lr` is the highest, `base_lr` the lowest.
        device: whose memory and energy are reported.
        advisor: hears the same first; its notes go to the listeners.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        learning_rates,
        device: torch.device,
        advisor: Advisor | None = None,
    ):
        self.listeners = listeners
        self.learning_rates = learning_rates
        self.device = device
        self.advisor = advisor
        self._first: dict[str, Tensor] | None = None  # metrics of the first update, on the device
        self.energy = EnergyMeter(device)

    def tick(self, step: int, metrics: dict[str, Tensor]) -> None:
        self._first = metrics if self._first is None else self._first
        for listener in self.listeners:
            listener.tick(step)

    def update(
        self, step: int, batch: Batch, metrics: dict[str, Tensor], seconds: float, data_seconds: float
    ) -> None:
        """One log step; `seconds` are per update."""
        if not self.listeners:
            return
        rates = self.learning_rates()
        values = _numbers(metrics) | {"lr": max(rates.values()), "base_lr": min(rates.values())}
        values |= {"time": seconds, "data_time": data_seconds, "memory": memory_mb(self.device)}
        values |= {f"lr/{name.replace(', ', '.').replace(' ', '_')}": rate for name, rate in rates.items()}
        joules = self.energy.joules()
        if joules is not None:
            values["energy"] = joules  # since the last line
        for listener in self.listeners:
            listener.update(step, values, batch)
        if self.advisor:
            self._tell(step, self.advisor.update(step, values, _numbers(self._first or {})))

    def scoring(self, done: int, total: int) -> None:
        for listener in self.listeners:
            listener.scoring(done, total)

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        for listener in self.listeners:
            listener.evaluation(step, evaluation)
        if self.advisor:
            self._tell(step, self.advisor.evaluation(step, evaluation.scores))

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()

    def _tell(self, step: int, notes: list[Note]) -> None:
        for note in notes:
            for listener in self.listeners:
                listener.note(step, note)


class JsonLog(Listener):
    """log.jsonl: one JSON object a line. A resumed run goes on behind the lines that its state has seen.

    `split` is train (a log step), val (an evaluation) or note (advice: topic, text, recipe lines).
    """

    def __init__(self, path: Path, resume_at: int):
        kept = [row for row in read_log(path) if row["step"] <= resume_at]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = path.open("a", buffering=1)  # a line at a time, so that it can be followed

    def update(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self._write({"step": step, "split": "train", **values})

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        scores = evaluation.scores
        row = {**scores.metrics, "loss": evaluation.log_loss, "IoU": scores.IoU}
        self._write({"step": step, "split": "val", **row})

    def note(self, step: int, note: Note) -> None:
        row = {"topic": note.topic, "text": note.text, "recipe": list(note.remedies)}
        self._write({"step": step, "split": "note", **row})

    def close(self) -> None:
        self._file.close()

    def _write(self, row: dict) -> None:
        self._file.write(json.dumps(without_nan(row)) + "\n")


def _numbers(metrics: dict[str, Tensor]) -> dict[str, float]:
    """Waits for the device."""
    return {_tag(name): float(value) for name, value in metrics.items()}


def _tag(name: str) -> str:
    return f"decode.{name}" if name == "acc_seg" or name.startswith(("loss_", "grad_")) else name
