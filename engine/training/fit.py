"""The training loop."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from engine.data.batches import TrainBatches
from engine.reporting.reporter import Reporter
from engine.training.step import SupervisedStep


class RunError(RuntimeError):
    """The run failed, although its input was correct. The files that it saved are complete."""

    exit_code = 1


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

    Returns:
        True at the end, False if it was asked to stop before; the state is saved either way.

    Raises:
        RunError: the loss became NaN or infinite.
    """
    guard = FiniteGuard()
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
            guard.check(step.count)
            evaluate_and_keep()
            save_seconds += save()
            data_seconds, since, logged_at = 0.0, time.perf_counter(), step.count
        elif step.count > first and save_due(step.count):
            guard.check(step.count)
            waited = save()
            save_seconds += waited
            since += waited
        if done:
            return True
        if stop_requested(step.count):
            guard.check(step.count)
            save()
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
            reporter.log(step.count, batch, metrics, seconds, data_seconds / updates, save_seconds)
            save_seconds = 0.0
            data_seconds, since, logged_at = 0.0, time.perf_counter(), step.count


class FiniteGuard:
    """Remembers on the device whether any loss was NaN or infinite; only `check` waits for the device."""

    def __init__(self) -> None:
        self._broken: Tensor | None = None

    def watch(self, metrics: dict[str, Tensor]) -> None:
        """Adds the scalars of an update.

        Only those without a "/" in their name are checked: a NaN under "adv/" never reaches the model
        (`adv/d_skipped` reports it), and in fp16 "gradients/" may be infinite, in an update that the loss
        scaler then skips.
        """
        losses = [value.float() for name, value in metrics.items() if "/" not in name]
        broken = ~torch.isfinite(torch.stack(losses)).all()
        self._broken = broken if self._broken is None else self._broken | broken

    def check(self, step: int) -> None:
        """Raises RunError if any loss so far was NaN or infinite."""
        if self._broken is not None and bool(self._broken):
            raise diverged(step)


def diverged(step: int) -> RunError:
    """The error for losses or probabilities that became NaN or infinite."""
    return RunError(
        f"The loss became NaN or infinite at or shortly before step {step}; the run stops. What was "
        "saved at the last evaluation is kept. Try a lower optimizer.lr, a longer schedule.warmup, "
        "optimizer.clip_norm=1, or train.precision=fp32."
    )
