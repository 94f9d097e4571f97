"""A signal stops a training after the current update, with its state saved; a second signal stops it at once.

Before the first update and after the last one, the first signal stops it at once.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

from engine.data.workers import STOPPING_SIGNALS
from engine.run_folder import RunFolder
from engine.training.distributed import Process, any_at
from engine.training.fit import RunError

SAME_S = 2.0  # a second signal within this time is the same: sent to the group, and passed on by a launcher


class RunStopped(RunError):
    """The run was asked to stop, and its state is saved."""


RESUME = "To go on, add --resume to the same command (in Python: resume=True)."
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """A context in which `handler` receives the signals that stop a run.

    An ignored signal, as with nohup, stays ignored. Outside the main thread Python allows no signal
    handlers, so signals are handled as before.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    known = STOPPING_SIGNALS if in_main_thread else ()
    numbers = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def stopped_at_once(what_to_do: Callable[[], str]) -> Iterator[None]:
    """A context in which a signal raises KeyboardInterrupt at once, with the text of `what_to_do()`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handled(stop):
        try:
            yield
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(str(interrupt) or what_to_do()) from None


def after_a_stop(run: RunFolder) -> str:
    """What to do after a run was stopped at once."""
    if not run.states:
        return "Stopped before anything was saved. To start again, type the same command."
    return f"Stopped at once; the last state in {run.path} is intact. {RESUME}"


def after_the_training(run: RunFolder) -> str:
    """What to do after the scoring at the end was stopped."""
    return (
        f"Stopped at once. The training is done: its state and best checkpoints are saved in {run.path}. "
        f"Their scoring and the report are not done. {RESUME}"
    )


class StopSignal:
    """A context that remembers signals; call `requested(step)` to know whether to stop.

    Several processes agree at every `every`-th step.
    """

    def __init__(self, process: Process, every: int):
        self._process = process
        self._every = every
        self._seen_at: float | None = None

    def __enter__(self) -> Self:
        self._handled = handled(self._remember)
        self._handled.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._handled.__exit__(*error)

    def requested(self, step: int) -> bool:
        """Whether to stop now; the same on all processes."""
        return any_at(self._process, self._seen_at is not None, step, self._every)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._seen_at is not None:
            if time.monotonic() - self._seen_at > SAME_S:
                raise KeyboardInterrupt
            return
        self._seen_at = time.monotonic()
        if self._process.is_main:
            name = signal.Signals(number).name
            with suppress(OSError):  # the terminal may be gone
                print(f"\n{name}: stopping after this update; again to stop at once.", file=sys.stderr)
