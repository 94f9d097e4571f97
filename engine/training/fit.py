"""The training loop."""

import time
from collections.abc import Callable

from engine.data.batches import TrainBatches
from engine.reporting.reporter import Reporter
from engine.training.skips import SkipGuard
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
    save_due: Callable[[int], bool],
    stop_requested: Callable[[int], bool],
    guard: SkipGuard,
) -> bool:
    """Train from `step.count` to `num_steps` updates.

    Evaluation and saving are at the top of the loop, so that the last evaluation needs no second copy.

    Args:
        step: called with a batch, makes one update; `count` is the number of updates done.
        eval_every, log_every: in updates.
        evaluate_and_keep: scores the model and offers it to the best checkpoints.
        save_state: keeps what a resume needs; called after each evaluation, and at a stop.
        save_due: whether to save after this many updates too; the same on every process.
        stop_requested: whether to stop after this many updates; the same on every process.
        guard: asked at log steps, and before anything is scored or saved.

    Returns:
        True at the end, False if it was asked to stop before; the state is saved either way.

    Raises:
        RunError, GoBack: too many updates were left out because of NaN.
    """
    first = step.count
    stream = batches.starting_at(first)
    data_seconds, since, logged_at = 0.0, time.perf_counter(), first
    save_seconds = 0.0

    def save() -> float:
        """The seconds that it took."""
        started = time.perf_counter()
        save_state()
        return time.perf_counter() - started

    while True:
        done = step.count == num_steps
        if step.count > first and (done or step.count % eval_every == 0):
            guard.check()
            evaluate_and_keep()
            save_seconds += save()
            data_seconds, since, logged_at = 0.0, time.perf_counter(), step.count
        elif step.count > first and save_due(step.count):
            guard.check()
            waited = save()
            save_seconds += waited
            since += waited
        if done:
            return True
        if stop_requested(step.count):
            guard.check()
            save()
            return False

        asked = time.perf_counter()
        batch = next(stream)
        data_seconds += time.perf_counter() - asked
        metrics = step(batch)
        guard.watch(step.count, metrics.pop("nan"))
        reporter.step(step.count, metrics)

        if step.count % log_every == 0:
            guard.check()  # waits for the device, so that the seconds below are right
            updates = step.count - logged_at
            seconds = (time.perf_counter() - since) / updates
            reporter.log(step.count, batch, metrics, seconds, data_seconds / updates, save_seconds)
            save_seconds = 0.0
            data_seconds, since, logged_at = 0.0, time.perf_counter(), step.count
