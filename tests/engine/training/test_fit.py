"""The training loop with a step that only counts: when it evaluates, saves, logs and stops."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.run_folder import RunFolder
from engine.training.fit import Hooks, RunError, SkipGuard, fit


class Bench(Hooks):
    """A step, its batches, a reporter and what is done between updates; `events` is what happened."""

    def __init__(self, count: int = 0, bad: Collection[int] = (), on_nan: str = "skip", max_skipped: int = 2):
        self.count = count
        self.bad = bad  # updates with NaN
        self.events: list[tuple[str, int]] = []
        run = RunFolder(Path("run"))
        super().__init__(SkipGuard(run, lambda flags: None, on_nan, max_skipped, self.skipped))
        self.trained_on: list[int] = []
        self.begun = 0  # events before this run of the loop

    def __call__(self, batch: int) -> dict[str, torch.Tensor]:
        self.trained_on.append(batch)
        self.count += 1
        return {"loss": torch.tensor(1.0), "nan": torch.tensor(self.count in self.bad)}

    def starting_at(self, step: int) -> Iterator[int]:
        while True:
            yield step
            step += 1

    def step(self, step: int, metrics: dict) -> None:
        self.events.append(("step", step))

    def log(
        self, step: int, batch: int, metrics: dict, seconds: float, data_seconds: float, save_seconds: float
    ) -> None:
        assert 0 <= data_seconds <= seconds
        saved = [place for place, (event, _) in enumerate(self.events) if event in ("save", "tail")]
        logged = [place for place, (event, _) in enumerate(self.events) if event == "log"]
        last_told = max([self.begun - 1, *logged])
        assert (save_seconds > 0) == (max(saved, default=-1) > last_told)
        assert batch == self.trained_on[-1]
        self.events.append(("log", step))

    def run(
        self,
        num_steps: int,
        eval_every: int,
        log_every: int = 1000,
        stop_at: int | None = None,
        save_every: int | None = None,
        ends_at: int | None = None,
        tail_at: Collection[int] = (),
    ) -> bool:
        self.begun = len(self.events)
        self.stop_at, self.save_every, self.ends_at, self.tail_at = stop_at, save_every, ends_at, tail_at
        return fit(self, self, self, self, num_steps=num_steps, eval_every=eval_every, log_every=log_every)

    def evaluate(self) -> None:
        self.events.append(("evaluate", self.count))

    def tail_is_due(self, step: int) -> bool:
        return step in self.tail_at

    def keep_tail(self) -> None:
        self.events.append(("tail", self.count))

    def save_is_due(self, step: int) -> bool:
        return self.save_every is not None and step % self.save_every == 0

    def save(self) -> None:
        self.events.append(("save", self.count))

    def is_out_of_patience(self) -> bool:
        return self.ends_at is not None and self.count >= self.ends_at

    def stop_is_requested(self, step: int) -> bool:
        return step == self.stop_at

    def skipped(self, step: int) -> None:
        self.events.append(("skipped", step))

    def steps_of(self, what: str) -> list[int]:
        return [step for event, step in self.events if event == what]


@given(num_steps=st.integers(1, 30), eval_every=st.integers(1, 40), log_every=st.integers(1, 40))
def test_evaluates_and_saves_at_each_multiple_and_at_the_end_once(num_steps, eval_every, log_every) -> None:
    bench = Bench()
    assert bench.run(num_steps, eval_every, log_every)
    expected = sorted({*range(eval_every, num_steps + 1, eval_every), num_steps})
    assert bench.steps_of("evaluate") == expected
    assert bench.steps_of("save") == expected
    assert bench.steps_of("log") == sorted({*range(log_every, num_steps + 1, log_every), num_steps})
    assert bench.steps_of("step") == list(range(1, num_steps + 1))
    assert bench.trained_on == list(range(num_steps))
    assert bench.count == num_steps


@given(
    num_steps=st.integers(1, 20),
    eval_every=st.integers(1, 8),
    save_every=st.integers(1, 8),
    first=st.integers(0, 9),
)
def test_the_state_is_saved_between_evaluations_and_once_per_update(
    num_steps, eval_every, save_every, first
) -> None:
    bench = Bench(count=min(first, num_steps))
    assert bench.run(num_steps, eval_every, log_every=3, save_every=save_every)
    multiples = {*range(0, num_steps + 1, eval_every), *range(0, num_steps + 1, save_every), num_steps}
    assert bench.steps_of("save") == sorted(step for step in multiples if step > first)


def test_updates_that_were_left_out_are_reported_at_the_next_check_and_the_training_goes_on() -> None:
    bench = Bench(bad=(1, 3, 5))
    assert bench.run(num_steps=6, eval_every=4, log_every=2)
    told = [event for event in bench.events if event[0] in ("skipped", "log")]
    assert told == [("skipped", 1), ("log", 2), ("skipped", 3), ("log", 4), ("skipped", 5), ("log", 6)]
    assert bench.steps_of("save") == bench.steps_of("evaluate") == [4, 6]


@pytest.mark.parametrize("log_every", [4, 1000])
@pytest.mark.parametrize(("on_nan", "bad"), [("stop", (3,)), ("stop", (4,)), ("skip", (3, 4, 5))])
def test_the_run_stops_at_nan_before_anything_is_scored_or_saved(on_nan, bad, log_every) -> None:
    bench = Bench(bad=bad, on_nan=on_nan)
    with pytest.raises(RunError, match=f"NaN.*update.* {4 if on_nan == 'skip' else bad[0]};"):
        bench.run(num_steps=10, eval_every=2, log_every=log_every)
    assert bench.steps_of("save") == bench.steps_of("evaluate") == [2]
    assert bench.steps_of("log") == []


def test_an_evaluation_is_after_its_update_and_before_saving() -> None:
    bench = Bench()
    bench.run(num_steps=2, eval_every=1)
    order = ["step", "evaluate", "save", "step", "log", "evaluate", "save"]
    assert [what for what, _ in bench.events] == order


@given(num_steps=st.integers(1, 12), eval_every=st.integers(1, 5), stop_at=st.integers(0, 12))
def test_a_resumed_run_makes_the_same_calls_as_one_that_was_not_stopped(
    num_steps, eval_every, stop_at
) -> None:
    whole, parts = Bench(), Bench()
    whole.run(num_steps, eval_every)
    finished = parts.run(num_steps, eval_every, stop_at=stop_at)
    assert finished == (stop_at >= num_steps)
    if not finished:
        assert parts.count == stop_at
        assert parts.events[-1] == ("save", stop_at)
        assert parts.run(num_steps, eval_every)
    assert parts.trained_on == whole.trained_on
    assert parts.steps_of("evaluate") == whole.steps_of("evaluate")


def test_a_resume_at_an_evaluation_step_does_not_evaluate_again() -> None:
    bench = Bench(count=4)
    bench.run(num_steps=6, eval_every=4)
    assert bench.steps_of("evaluate") == [6]


def test_a_finished_run_makes_no_update() -> None:
    bench = Bench(count=6)
    assert bench.run(num_steps=6, eval_every=3)
    assert bench.events == [] and bench.trained_on == []


def test_a_stop_after_a_nan_loss_saves_nothing() -> None:
    bench = Bench(bad=(1,), on_nan="stop")
    with pytest.raises(RunError):
        bench.run(num_steps=10, eval_every=5, stop_at=2)
    assert bench.steps_of("save") == []


def test_it_ends_early_after_an_evaluation_and_at_once_when_started_again() -> None:
    bench = Bench()
    assert bench.run(num_steps=20, eval_every=3, ends_at=5)
    assert bench.steps_of("evaluate") == [3, 6] == bench.steps_of("save")
    again = Bench(count=6)
    assert again.run(num_steps=20, eval_every=3, ends_at=5)
    assert again.events == []


def test_a_state_of_the_tail_is_kept_before_the_state_of_a_resume() -> None:
    bench = Bench()
    bench.run(num_steps=3, eval_every=3, tail_at=(2, 3))
    kept = [event for event in bench.events if event[0] not in ("step", "log")]
    assert kept == [("tail", 2), ("tail", 3), ("evaluate", 3), ("save", 3)]


def test_no_state_with_nan_is_added_to_the_tail() -> None:
    bench = Bench(bad=(2,), on_nan="stop")
    with pytest.raises(RunError):
        bench.run(num_steps=3, eval_every=3, tail_at=(2, 3))
    assert bench.steps_of("tail") == []
