"""Ctrl-C and SIGTERM stop a run between two updates, with its state saved; a second one stops it at once."""

import signal
import sys
import threading
from types import FrameType
from typing import Self

from engine.training.distributed import Process, any_process
from engine.training.fit import RunError


class RunStopped(RunError):
    """The run was asked to stop, and its state is saved."""


class StopSignal:
    """A context that remembers signals; call `requested(step)` to know whether to stop.

    Several processes have to agree on the update after which they stop. That takes a synchronisation, so
    they do it only at every `every`-th step. Outside the main thread, where Python allows no signal handlers,
    signals are handled as before.
    """

    def __init__(self, process: Process, every: int):
        self._process = process
        self._every = every
        self._seen = False

    def __enter__(self) -> Self:
        in_main_thread = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()
        self._previous = {number: signal.signal(number, self._remember) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self, step: int) -> bool:
        """Whether to stop now; the same on all processes."""
        if self._process.is_alone:
            return self._seen
        return step % self._every == 0 and any_process(self._process, self._seen)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._seen:
            raise KeyboardInterrupt
        self._seen = True
        if self._process.is_main:
            print("\nStopping after this update and saving; press again to stop at once.", file=sys.stderr)
