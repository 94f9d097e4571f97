"""Calls the callbacks of a training. Device tensors become numbers here only, once per log step."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

import torch
from torch import Tensor

from engine.data.batches import Batch
from engine.reporting.advisor import Advisor, Note
from engine.reporting.callbacks import Callback, Evaluation, RunContext, RunEnd
from engine.reporting.resources import EnergyMeter, memory_mb
from engine.scoring.confusion import Scores


class Reporter:
    """Calls each callback; one that raises is reported to the others and not called again.

    As a context it ends the callbacks where an exception leaves the block.

    Args:
        callbacks: in the order in which they are called; at the end of the run they are called in reverse.
            A process other than the main one has none.
        learning_rates: called at each log step; group -> rate. `lr` is the highest, `base_lr` the lowest.
        device: whose memory and energy are logged.
        advisor: gets the same values; its notes go to the callbacks.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        learning_rates: Callable[[], dict[str, float]],
        device: torch.device,
        advisor: Advisor | None = None,
    ):
        self.callbacks = list(callbacks)
        self.failures: list[str] = []  # of callbacks, one sentence each
        self.energy = EnergyMeter(device)
        self._learning_rates = learning_rates
        self._device = device
        self._advisor = advisor
        self._step = 0
        self._first: dict[str, Tensor] | None = None  # metrics of the first update, on the device

    def start(self, run: RunContext) -> None:
        """Starts one after the other; only those that have started are called again, also at the end."""
        self._step = run.first_step
        waiting, self.callbacks = self.callbacks, []
        for callback in waiting:
            if self._succeeds(callback, "on_start", run):
                self.callbacks.append(callback)

    def step(self, step: int, metrics: dict[str, Tensor]) -> None:
        """After each update; does not wait for the device."""
        self._step = step
        self._first = metrics if self._first is None else self._first
        self._call("on_step", step)

    def log(
        self,
        step: int,
        batch: Batch,
        metrics: dict[str, Tensor],
        seconds: float,
        data_seconds: float,
        save_seconds: float = 0.0,
    ) -> None:
        """A log step; `seconds` and `data_seconds` are per update, `save_seconds` since the last log step.

        The seconds per update do not contain those of saving.
        """
        if not self.callbacks:
            return
        rates = self._learning_rates()
        values = _numbers(metrics) | {"lr": max(rates.values()), "base_lr": min(rates.values())}
        values |= {"time": seconds, "data_time": data_seconds, "memory": memory_mb(self._device)}
        if save_seconds:
            values["save_time"] = save_seconds
        values |= {f"lr/{name.replace(', ', '.').replace(' ', '_')}": rate for name, rate in rates.items()}
        joules = self.energy.joules()
        if joules is not None:
            values["energy"] = joules  # since the last log step
        self._call("on_log", step, values, batch)
        if self._advisor:
            self._advise(step, self._advisor.update(values, _numbers(self._first or {})))

    def skipped(self, step: int, samples: Sequence[tuple[str, int]]) -> None:
        """An update was left out because of NaN; reported at the next log step, before it."""
        self._call("on_skipped", step, samples)

    def note(self, step: int, note: Note) -> None:
        """What the training itself has to say."""
        self._advise(step, [note])

    def scoring(self, done: int, total: int) -> None:
        self._call("on_scoring", done, total)

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        self._call("on_evaluation", step, evaluation)
        if self._advisor:
            self._advise(step, self._advisor.evaluation(step, evaluation.scores))

    def checkpoint(self, step: int, path: Path) -> None:
        self._call("on_checkpoint", step, path)

    def end(
        self,
        status: Literal["finished", "stopped", "failed"],
        scores: Mapping[str, Scores] = MappingProxyType({}),
    ) -> None:
        """Ends each callback once; `scores` are as in RunEnd."""
        self.callbacks.reverse()  # the log and the console, which come first, can report others' failures
        self._call("on_end", RunEnd(status, self._step, scores))
        self.callbacks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind:
            self.end("failed")

    def _advise(self, step: int, notes: Sequence[Note]) -> None:
        for note in notes:
            self._call("on_note", step, note)

    def _call(self, method: str, *arguments: Any) -> None:
        for callback in list(self.callbacks):
            if not self._succeeds(callback, method, *arguments):
                self.callbacks.remove(callback)

    def _succeeds(self, callback: Callback, method: str, *arguments: Any) -> bool:
        """Call it. Exceptions are reported; those of an essential callback fail the run."""
        try:
            getattr(callback, method)(*arguments)
        except Exception as error:
            if callback.essential and method != "on_end":
                raise
            self._report(callback, method, error)
            return False
        return True

    def _report(self, callback: Callback, method: str, error: Exception) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        self.failures.append(
            f"{type(callback).__name__}.{method} failed at step {self._step} with {type(error).__name__}: "
            f"{error} ({place.filename}, line {place.lineno}: {place.line}). This callback is turned off; "
            "the training goes on."
        )
        note = Note("callback", self.failures[-1], ())
        for other in self.callbacks:
            if other.essential and other is not callback:  # the log and the console
                other.on_note(self._step, note)


def _numbers(metrics: dict[str, Tensor]) -> dict[str, float]:
    """Waits for the device."""
    return {_tag(name): float(value) for name, value in metrics.items()}


def _tag(name: str) -> str:
    return f"decode.{name}" if name == "acc_seg" or name.startswith(("loss_", "grad_")) else name
