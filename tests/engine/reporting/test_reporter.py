"""The reporter: what each callback is called with, and what happens to one that raises."""

from pathlib import Path

import pytest
import torch

from engine.data.batches import Batch
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Callback, Evaluation, RunContext, RunEnd
from engine.reporting.reporter import Reporter
from engine.scoring.baselines import Baselines
from engine.scoring.confusion import Scores

BASELINES = Baselines("ground", "ground", first=0.1, majority=0.1, uniform=0.05)

BATCH = Batch(torch.zeros(1), torch.zeros(1), [])
CPU = torch.device("cpu")
NOTE = Note("data", "It waits.", ("data.workers=8",))
SCORES = Scores({"mIoU": 0.5, "mAcc": 0.5, "aAcc": 0.5}, BASELINES, {"ground": 0.5}, {}, {}, {}, [], 1, 0)


class Recorder(Callback):
    essential = True  # so that it gets the failures of other callbacks

    def __init__(self) -> None:
        self.events: list[tuple] = []

    def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self.events.append(("log", step, values))

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        self.events.append(("evaluation", step, evaluation))

    def on_note(self, step: int, note: Note) -> None:
        self.events.append(("note", step, note))

    def on_checkpoint(self, step: int, path: Path) -> None:
        self.events.append(("checkpoint", step, path))

    def on_end(self, end: RunEnd) -> None:
        self.events.append(("end", end.step, end))


class TalkativeAdvisor:
    """Gives the same note at each log step and evaluation."""

    def __init__(self) -> None:
        self.first: list[dict[str, float]] = []

    def update(self, values: dict[str, float], first: dict[str, float]) -> list[Note]:
        self.first.append(first)
        return [NOTE]

    def evaluation(self, step: int, scores: Scores) -> list[Note]:
        return [NOTE]


def log(reporter: Reporter, step: int) -> None:
    metrics = {"loss": torch.tensor(5.0 - step), "loss_ce": torch.tensor(1.0 / step)}
    reporter.step(step, metrics)
    reporter.log(step, BATCH, metrics, seconds=0.5, data_seconds=0.1)


def test_advice_comes_after_the_numbers_and_gets_those_of_the_first_update() -> None:
    recorder, advisor = Recorder(), TalkativeAdvisor()
    reporter = Reporter([recorder], lambda: {"encoder, no decay": 1e-4, "head": 1e-3}, CPU, advisor)
    for step in range(1, 5):
        metrics = {"loss": torch.tensor(5.0 - step), "loss_ce": torch.tensor(1.0 / step)}
        reporter.step(step, metrics)
        if step % 2 == 0:
            reporter.log(step, BATCH, metrics, seconds=0.5, data_seconds=0.1)
    assert [event[:2] for event in recorder.events] == [("log", 2), ("note", 2), ("log", 4), ("note", 4)]
    values = recorder.events[0][2]
    assert values["loss"] == 3.0 and values["decode.loss_ce"] == 0.5
    assert values["lr/encoder.no_decay"] == values["base_lr"] == 1e-4 and values["lr"] == 1e-3
    assert advisor.first == [{"loss": 4.0, "decode.loss_ce": 1.0}] * 2


@pytest.mark.parametrize(
    "method", ["on_start", "on_step", "on_log", "on_scoring", "on_evaluation", "on_checkpoint", "on_end"]
)
def test_a_callback_that_raises_is_reported_and_not_called_again(method: str, tmp_path: Path) -> None:
    calls = []

    def fail(self: Callback, *arguments: object) -> None:
        calls.append(arguments)
        raise KeyError("my own mistake")

    broken, recorder = type("Broken", (Callback,), {method: fail})(), Recorder()
    reporter = Reporter([recorder, broken], lambda: {"head": 1e-3}, CPU)
    reporter.start(RunContext(tmp_path, None, None, ("ground",), ((0, 0, 0),), 255))
    for step in (1, 2):
        log(reporter, step)
        reporter.scoring(1, 2)
        reporter.evaluation(step, Evaluation(SCORES, 0.7))
        reporter.checkpoint(step, tmp_path)
    reporter.end("finished")
    assert len(calls) == 1
    [failure] = reporter.failures
    for part in (
        f"Broken.{method}",
        "step",
        "KeyError",
        "my own mistake",
        'raise KeyError("my own mistake")',
    ):
        assert part in failure
    assert [event[2].text for event in recorder.events if event[0] == "note"] == [failure]
    assert [event[0] for event in recorder.events if event[0] != "note"] == [
        *("log", "evaluation", "checkpoint") * 2, "end",
    ]  # fmt: skip


def test_an_essential_callback_that_raises_fails_the_run() -> None:
    class Essential(Callback):
        essential = True

        def on_step(self, step: int) -> None:
            raise OSError("disk")

    reporter = Reporter([Essential()], lambda: {"head": 1e-3}, CPU)
    with pytest.raises(OSError, match="disk"):
        reporter.step(1, {})


def test_an_exception_in_the_block_ends_the_callbacks_once_as_failed() -> None:
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError), Reporter([recorder], dict, CPU) as reporter:
        reporter.step(3, {})
        raise ZeroDivisionError
    reporter.end("finished")
    assert recorder.events == [("end", 3, RunEnd("failed", 3))]
