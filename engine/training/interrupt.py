"""Signals stop a run between two updates, with its state saved; a second one, later, stops it at once."""

import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Self

from engine.data.batches import STOPPING_SIGNALS
from engine.training.distributed import Process, any_process
from engine.training.fit import RunError

SAME_S = 2.0  # within this a second signal is the same one: a group gets it, and a launcher passes it on


class RunStopped(RunError):
    """The run was asked to stop, and its state is saved."""


class StopSignal:
    """A context that remembers signals; call `requested(step)` to know whether to stop.

    Several processes have to agree on the update after which they stop. That takes a synchronisation, so
    they do it only at every `every`-th step. A signal that is ignored, as by nohup, stays ignored. Outside
    the main thread, where Python allows no signal handlers, signals are handled as before.
    """

    def __init__(self, process: Process, every: int):
        self._process = process
        self._every = every
        self._seen_at: float | None = None

    def __enter__(self) -> Self:
        in_main_thread = threading.current_thread() is threading.main_thread()
        known = STOPPING_SIGNALS if in_main_thread else ()
        numbers = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._remember) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self, step: int) -> bool:
        """Whether to stop now; the same on all processes."""
        if self._process.is_alone:
            return self._seen_at is not None
        return step % self._every == 0 and any_process(self._process, self._seen_at is not None)

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
