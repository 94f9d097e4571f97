"""The training loop."""

import time
from collections.abc import Callable

from engine.data.batches import TrainBatches
from engine.reporting.reporter import Reporter
from engine.training.guards import FiniteGuard
from engine.training.step import SupervisedStep


def fit(
    step: SupervisedStep,
    batches: TrainBatches,
    reporter: Reporter,
    *,
    num_steps: int,
    eval_every: int,
    log_every: int,
    evaluate_and_keep: Callable[[], None],
    save_state: Callable[[], None],
    stop_requested: Callable[[int], bool],
) -> bool:
    """Train from `step.count` to `num_steps` updates.

    Evaluation and saving are at the top of the loop, so that the last evaluation needs no second copy.

    Args:
        step: called with a batch, makes one update; `count` is the number of updates done.
        eval_every, log_every: in updates.
        evaluate_and_keep: scores the model and offers it to the best checkpoints.
        save_state: writes what a resume needs.
        stop_requested: whether to stop after this many updates; the same on every process.

    Returns:
        True at the end, False if it was asked to stop before; the state is saved either way.

    Raises:
        RunError: the loss became NaN or infinite.
    """
    guard = FiniteGuard()
    first = step.count
    stream = batches.starting_at(first)
    data_seconds, since, logged_at = 0.0, time.perf_counter(), first
    while True:
        done = step.count == num_steps
        if step.count > first and (done or step.count % eval_every == 0):
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
        reporter.step(step.count, metrics)

        if step.count % log_every == 0:
            guard.check(step.count)  # waits for the device, so that the seconds below are right
            updates = step.count - logged_at
            seconds = (time.perf_counter() - since) / updates
            reporter.log(step.count, batch, metrics, seconds, data_seconds / updates)
            data_seconds, since, logged_at = 0.0, time.perf_counter(), step.count
