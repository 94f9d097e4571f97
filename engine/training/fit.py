"""The training loop. Takes built objects; knows nothing of recipes, models or how an update is made."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from engine.data.batches import Batch, TrainBatches
from engine.training.guards import FiniteGuard


class Step(Protocol):
    """One update: called with a batch, gives detached scalars; `count` updates are done."""

    count: int

    def __call__(self, batch: Batch) -> dict[str, Tensor]: ...


class Journal(Protocol):
    """Who writes down what happens."""

    def tick(self, step: int, metrics: dict[str, Tensor]) -> None: ...

    def update(
        self, step: int, batch: Batch, metrics: dict[str, Tensor], seconds: float, data_seconds: float
    ) -> None: ...


@dataclass(frozen=True)
class Plan:
    """How long and how often, in updates."""

    num_steps: int
    eval_every: int
    log_every: int


def fit(
    plan: Plan,
    step: Step,
    batches: TrainBatches,
    journal: Journal,
    evaluate_and_keep: Callable[[], None],
    save_state: Callable[[], None],
    stop_requested: Callable[[int], bool],
) -> bool:
    """Train from `step.count` to `plan.num_steps`.

    Evaluation and saving stand at the top of the loop, so that the last evaluation is no second copy.

    Args:
        evaluate_and_keep: scores the model and offers it to the best checkpoints.
        save_state: writes what a resume needs.
        stop_requested: whether to stop after this many updates, on every process alike.

    Returns:
        True at the end, False if it was asked to stop before; the state is saved either way.

    Raises:
        RunError: the loss is no number any more.
    """
    guard = FiniteGuard()
    first = step.count
    stream = batches.starting_at(first)
    data_seconds, since, logged_at = 0.0, time.perf_counter(), first
    while True:
        done = step.count == plan.num_steps
        if step.count > first and (done or step.count % plan.eval_every == 0):
            guard.check(step.count)
            evaluate_and_keep()
            save_state()
            data_seconds, since, logged_at = 0.0, time.perf_counter(), step.count
        if done:
            return True
        if stop_requested(step.count):
            guard.check(step.count)
            save_state()
            return False

        asked = time.perf_counter()
        batch = next(stream)
        data_seconds += time.perf_counter() - asked
        metrics = step(batch)
        guard.watch(metrics)
        journal.tick(step.count, metrics)

        if step.count % plan.log_every == 0:
            guard.check(step.count)  # waits for the device, so the clock below is honest
            updates = step.count - logged_at
            seconds = (time.perf_counter() - since) / updates
            journal.update(step.count, batch, metrics, seconds, data_seconds / updates)
            data_seconds, since, logged_at = 0.0, time.perf_counter(), step.count
