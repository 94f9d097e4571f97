"""The training loop."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from engine.data.batches import TrainBatches
from engine.reporting.reporter import Reporter
from engine.run_folder import RunFolder
from engine.training.step import SupervisedStep

GO_ON = "What was saved before is intact: go on with the same command and --resume (in Python: resume=True)."
CALMER = "Try a lower optimizer.lr, a longer schedule.warmup, optimizer.clip_norm=1, or train.precision=fp32"


class RunError(RuntimeError):
    """The run failed, although its input was correct. The files that it saved are complete."""

    exit_code = 1


class Hooks:
    """What `fit` calls between updates. This base class evaluates and saves nothing, and never stops.

    Each decision has to be the same on all processes.

    Args:
        guard: checked at log steps, and before anything is evaluated or saved.
    """

    def __init__(self, guard: "SkipGuard"):
        self.guard = guard

    def evaluate(self) -> None:
        """Score the model, and offer it to the best checkpoints."""

    def tail_is_due(self, step: int) -> bool:
        """Whether the model after this many updates is one of the tail."""
        return False

    def keep_tail(self) -> None:
        """Add the model to the tail; called before the state is saved, so that a resume has all of them."""

    def save_is_due(self, step: int) -> bool:
        """Whether to save after this many updates, as after each evaluation."""
        return False

    def save(self) -> None:
        """Keep what a resume needs."""

    def is_out_of_patience(self) -> bool:
        """Whether the evaluations so far end the training."""
        return False

    def stop_is_requested(self, step: int) -> bool:
        """Whether to save and stop after this many updates."""
        return False


def fit(
    step: SupervisedStep,
    batches: TrainBatches,
    reporter: Reporter,
    hooks: Hooks,
    *,
    num_steps: int,
    eval_every: int,
    log_every: int,
) -> bool:
    """Train from `step.count` to `num_steps` updates.

    Evaluation and saving are at the top of the loop, so that the last evaluation needs no code after it.

    Args:
        step: called with a batch, runs one update; `count` is the number of updates done.
        eval_every, log_every: in updates; the last update is always logged.

    Returns:
        True at the end, also at an early one; False if it was asked to stop. The state is saved either way.

    Raises:
        RunError, GoBack: too many updates were skipped because of NaN.
    """
    first = step.count
    stream = batches.starting_at(first)
    times = _Times(first)
    ends_early = hooks.is_out_of_patience()  # true if a run that ended early is resumed
    while True:
        done = step.count == num_steps
        if step.count > first and hooks.tail_is_due(step.count):
            hooks.guard.check()
            with times.saving():
                hooks.keep_tail()
        if step.count > first and (done or step.count % eval_every == 0):
            hooks.guard.check()
            hooks.evaluate()
            with times.saving():
                hooks.save()
            ends_early = hooks.is_out_of_patience()
            times.restart(step.count)
        elif step.count > first and hooks.save_is_due(step.count):
            hooks.guard.check()
            with times.saving():
                hooks.save()
        if done or ends_early:
            return True
        if hooks.stop_is_requested(step.count):
            hooks.guard.check()
            hooks.save()
            return False

        with times.loading():
            batch = next(stream)
        metrics = step(batch)
        hooks.guard.watch(step.count, metrics.pop("nan"))
        reporter.step(step.count, metrics)

        if step.count % log_every == 0 or step.count == num_steps:
            hooks.guard.check()  # waits for the device, so that the times are right
            reporter.log(step.count, batch, metrics, *times.taken(step.count))


class _Times:
    """Seconds of an update since the last log step or evaluation, and of saving since the last log step."""

    def __init__(self, step: int):
        self._saving_s = 0.0
        self.restart(step)

    def restart(self, step: int) -> None:
        """Count the seconds of an update from now, after this many updates."""
        self._loading_s, self._since, self._first = 0.0, time.perf_counter(), step

    @contextmanager
    def saving(self) -> Iterator[None]:
        """The time in this context does not count as a part of an update."""
        started = time.perf_counter()
        yield
        waited = time.perf_counter() - started
        self._saving_s += waited
        self._since += waited

    @contextmanager
    def loading(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._loading_s += time.perf_counter() - started

    def taken(self, step: int) -> tuple[float, float, float]:
        """Seconds of an update, of its data loading, and of saving; then the times start from 0."""
        updates = step - self._first
        seconds = (time.perf_counter() - self._since) / updates
        found = seconds, self._loading_s / updates, self._saving_s
        self._saving_s = 0.0
        self.restart(step)
        return found


class GoBack(Exception):
    """The training has to go on from the last saved state, with a lower learning rate."""


class SkipGuard:
    """Collects on the device which updates were skipped; only `check` waits for the device.

    Args:
        run: named in the message.
        agree: sums flags over all processes in place, so that they decide alike.
        on_nan: `train.on_nan`: "stop" stops at the first skipped update; after `max_skipped` in a row, "skip"
            stops too, and "rollback" goes back first.
        max_skipped: `train.max_skipped`.
        report: called with the number of each skipped update.
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
        """Add an update: its number, and whether it was skipped, a bool on the device."""
        self._waiting.append((step, skipped))

    def check(self) -> None:
        """Report the updates that were skipped since the last check; the same on all processes.

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
            f"The loss or a gradient was NaN or infinite in {which}; the run stops. Such updates were "
            f"skipped, and what was saved before is kept. {CALMER} in a new run; or go on from the last "
            "state with the same command and --resume train.on_nan=rollback, which halves the learning "
            "rate.\n"
            f"To find the layer, loss term and sample: {replay}"
        )


def diverged(step: int) -> RunError:
    """The error for weights or probabilities that became NaN or infinite."""
    return RunError(
        f"The loss became NaN or infinite at or shortly before step {step}; the run stops. What was "
        f"saved before is kept. {CALMER}."
    )
