"""The training loop."""

import shlex
import time
from collections.abc import Callable

import torch
from torch import Tensor

from engine.data.batches import TrainBatches
from engine.reporting.reporter import Reporter
from engine.run_folder import RunFolder
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
    tail_due: Callable[[int], bool],
    keep_latest: Callable[[], None],
    save_state: Callable[[], None],
    save_due: Callable[[int], bool],
    stop_requested: Callable[[int], bool],
    is_out_of_patience: Callable[[], bool],
    guard: "SkipGuard",
) -> bool:
    """Train from `step.count` to `num_steps` updates.

    Evaluation and saving are at the top of the loop, so that the last evaluation needs no second copy.

    Args:
        step: called with a batch, makes one update; `count` is the number of updates done.
        eval_every, log_every: in updates; the last one is logged too, so that a short training has figures.
        evaluate_and_keep: scores the model and offers it to the best checkpoints.
        tail_due: whether the state after this many updates is one of the tail.
        keep_latest: adds it to the tail; before the state is saved, so that a resume lacks none.
        save_state: keeps what a resume needs; called after each evaluation, and at a stop.
        save_due: whether to save after this many updates too; the same on every process.
        stop_requested: whether to stop after this many updates; the same on every process.
        is_out_of_patience: whether the evaluations so far end the training; the same on every process.
        guard: asked at log steps, and before anything is scored or saved.

    Returns:
        True at the end, an early one too, False if it was asked to stop; the state is saved either way.

    Raises:
        RunError, GoBack: too many updates were left out because of NaN.
    """
    first = step.count
    stream = batches.starting_at(first)
    data_seconds, since, logged_at = 0.0, time.perf_counter(), first
    save_seconds = 0.0
    ends_early = is_out_of_patience()  # a run that ended early, and is resumed

    def seconds_of(work: Callable[[], None]) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    while True:
        done = step.count == num_steps
        if step.count > first and tail_due(step.count):
            guard.check()
            waited = seconds_of(keep_latest)
            save_seconds += waited
            since += waited
        if step.count > first and (done or step.count % eval_every == 0):
            guard.check()
            evaluate_and_keep()
            save_seconds += seconds_of(save_state)
            ends_early = is_out_of_patience()
            data_seconds, since, logged_at = 0.0, time.perf_counter(), step.count
        elif step.count > first and save_due(step.count):
            guard.check()
            waited = seconds_of(save_state)
            save_seconds += waited
            since += waited
        if done or ends_early:
            return True
        if stop_requested(step.count):
            guard.check()
            save_state()
            return False

        asked = time.perf_counter()
        batch = next(stream)
        data_seconds += time.perf_counter() - asked
        metrics = step(batch)
        guard.watch(step.count, metrics.pop("nan"))
        reporter.step(step.count, metrics)

        if step.count % log_every == 0 or step.count == num_steps:
            guard.check()  # waits for the device, so that the seconds below are right
            updates = step.count - logged_at
            seconds = (time.perf_counter() - since) / updates
            reporter.log(step.count, batch, metrics, seconds, data_seconds / updates, save_seconds)
            save_seconds = 0.0
            data_seconds, since, logged_at = 0.0, time.perf_counter(), step.count


class GoBack(Exception):
    """The training has to go on from the last saved state, with a lower learning rate."""


class SkipGuard:
    """Collects on the device which updates were left out; only `check` waits for the device.

    Args:
        run: named in the message.
        agree: sums flags over all processes in place, so that they decide alike.
        on_nan: `train.on_nan`: "stop" at the first, or after `max_skipped` in a row: "skip" stops too, and
            "rollback" goes back first.
        max_skipped: `train.max_skipped`.
        report: called with the number of each update that was left out.
        went_back: whether the training has gone back before, which it does only once.
    """

    def __init__(
        self,
        run: RunFolder,
        agree: Callable[[Tensor], None],
        on_nan: str,
        max_skipped: int,
        report: Callable[[int], None],
        went_back: bool = False,
    ):
        self._run = run
        self._agree = agree
        self._limit = 1 if on_nan == "stop" else max_skipped
        self._goes_back = on_nan == "rollback" and not went_back
        self._report = report
        self._waiting: list[tuple[int, Tensor]] = []
        self._in_a_row = 0

    def watch(self, step: int, skipped: Tensor) -> None:
        """Add an update: its number, and whether it was left out, a bool on the device."""
        self._waiting.append((step, skipped))

    def check(self) -> None:
        """Report the updates that were left out since the last check; the same on all processes.

        Raises:
            RunError: too many in a row, or the first if it is to stop.
            GoBack: too many in a row, and the training may go back.
        """
        if not self._waiting:
            return
        flags = torch.stack([skipped for _, skipped in self._waiting]).int()
        self._agree(flags)
        steps = [step for step, _ in self._waiting]
        self._waiting.clear()
        for step, flag in zip(steps, flags.tolist(), strict=True):
            self._in_a_row = self._in_a_row + 1 if flag else 0
            if flag:
                self._report(step)
            if self._in_a_row >= self._limit:
                raise GoBack if self._goes_back else self._ended(step)

    def _ended(self, step: int) -> RunError:
        first = step - self._in_a_row + 1
        which = f"update {step}" if first == step else f"each of the updates {first} to {step}"
        replay = shlex.join(["trident", "diagnose", str(self._run.path), "--replay", str(first)])
        return RunError(
            f"The loss or a gradient was NaN or infinite in {which}; the run stops. Such updates were left "
            "out, and what was saved before is kept. Try a lower optimizer.lr, a longer schedule.warmup, "
            "optimizer.clip_norm=1, or train.precision=fp32 in a new run; or go on from the last state with "
            "the same command and --resume train.on_nan=rollback, which halves the learning rate.\n"
            f"Which layer, loss term and sample it came from: {replay}"
        )


def diverged(step: int) -> RunError:
    """The error for weights or probabilities that became NaN or infinite."""
    return RunError(
        f"The loss became NaN or infinite at or shortly before step {step}; the run stops. What was "
        "saved before is kept. Try a lower optimizer.lr, a longer schedule.warmup, "
        "optimizer.clip_norm=1, or train.precision=fp32."
    )
