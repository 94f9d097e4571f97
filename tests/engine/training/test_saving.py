"""When the state is saved, and the thread that writes it."""

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.run_folder import DiskError, RunFolder
from engine.training import distributed, saving
from engine.training.checkpoint import load_state
from engine.training.distributed import Process
from engine.training.saving import SaveSchedule, StateWriter

ALONE = Process(0, 1, torch.device("cpu"))
TWO = Process(0, 2, torch.device("cpu"))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "demo")
    run.create()
    return run


def test_a_number_of_updates_is_counted_from_the_start() -> None:
    schedule = SaveSchedule(ALONE, 3, agree_every=50)
    assert [step for step in range(1, 10) if schedule.is_due(step)] == [3, 6, 9]


def test_a_time_is_counted_from_the_last_saving() -> None:
    now = [100.0]
    schedule = SaveSchedule(ALONE, "1.5 min", agree_every=50, clock=lambda: now[0])
    now[0] += 89
    assert not schedule.is_due(1)
    now[0] += 1
    assert schedule.is_due(2) and schedule.is_due(3)
    schedule.saved()
    assert not schedule.is_due(4)


@pytest.mark.parametrize("others", [True, False])
def test_processes_agree_on_a_time_at_log_steps_only(others: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def any_process(process: Process, flag: bool) -> bool:
        asked.append(flag)
        return others

    monkeypatch.setattr(distributed, "any_process", any_process)
    schedule = SaveSchedule(TWO, "10 min", agree_every=5, clock=lambda: 0.0)
    assert [step for step in range(1, 11) if schedule.is_due(step)] == ([5, 10] if others else [])
    assert asked == [False, False]


def test_the_state_is_that_of_the_call_although_the_training_goes_on(
    run: RunFolder, make_step, draw_batch, monkeypatch
) -> None:
    may_write, write = threading.Event(), saving.write_state

    def write_later(*arguments: object) -> None:
        may_write.wait()
        write(*arguments)

    monkeypatch.setattr(saving, "write_state", write_later)
    step, other = make_step(ema=0.9), make_step(ema=0.9)
    step(draw_batch())
    expected = {key: value.clone() for key, value in step.model.state_dict().items()}
    with StateWriter(run, "id") as writer:
        writer.save(step)
        step(draw_batch(seed=1))
        assert run.states == []
        may_write.set()
    load_state(run, other, "id")
    assert other.count == 1 and step.count == 2
    assert all(torch.equal(value, expected[key]) for key, value in other.model.state_dict().items())


@pytest.mark.parametrize("saves", [1, 2])
def test_a_state_that_cannot_be_written_fails_the_run(
    run: RunFolder, make_step, monkeypatch, saves: int
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(DiskError, match="state.safetensors: No space left"), StateWriter(run, "id") as writer:
        for _ in range(saves):
            writer.save(make_step())
    assert run.states == []


def test_another_error_is_not_hidden_by_that_of_the_writer(run: RunFolder, make_step, monkeypatch) -> None:
    monkeypatch.setattr(saving, "write_state", lambda *arguments: 1 / 0)
    with pytest.raises(KeyboardInterrupt), StateWriter(run, "id") as writer:
        writer.save(make_step())
        raise KeyboardInterrupt


@pytest.mark.parametrize(("late_share", "least"), [(1e9, 49 * 2e-3), (0.0, 0.0)])
def test_the_thread_rests_after_work_but_not_longer_than_a_state_may_be_late(
    run: RunFolder, make_step, monkeypatch, late_share: float, least: float
) -> None:
    pauses = []

    class NoWaiting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout)
            return False

    monkeypatch.setattr(saving, "Event", NoWaiting)
    monkeypatch.setattr(saving, "LATE_SHARE", late_share)
    monkeypatch.setattr(saving, "write_state", work_and_rest)
    with StateWriter(run, "id") as writer:
        writer.save(make_step())
    assert len(pauses) == 3 and min(pauses) >= least
    assert late_share or max(pauses) == 0


def test_a_thread_that_is_waited_for_does_not_rest(run: RunFolder, make_step, monkeypatch) -> None:
    monkeypatch.setattr(saving, "LATE_SHARE", 1e9)
    monkeypatch.setattr(saving, "WORKING_SHARE", 1e-9)  # otherwise it would rest for weeks
    monkeypatch.setattr("engine.training.checkpoint.HASHED_AT_ONCE", 1)
    with StateWriter(run, "id") as writer:
        writer.save(make_step())
        writer.save(make_step())
    load_state(run, make_step(), "id")
    assert len(run.states) == 2


def work_and_rest(run: RunFolder, tensors: object, header: str, rest: Callable[[], None]) -> None:
    for _ in range(3):
        since = time.thread_time()
        while time.thread_time() - since < 2e-3:
            pass
        rest()
