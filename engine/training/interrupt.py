"""Ctrl-C and SIGTERM stop a run between two updates, with its state saved; a second one stops it at once."""

import signal
import sys
from types import FrameType

from engine.training.distributed import Process, any_process


class StopSignal:
    """A context in which signals are remembered; ask with `requested(step)`.

    Several processes have to agree on the update after which they stop, which costs a wait, so they talk
    about it at every `every`-th step only.
    """

    def __init__(self, process: Process, every: int):
        self._process = process
        self._every = every
        self._seen = False

    def __enter__(self) -> "StopSignal":
        self._previous = {
            number: signal.signal(number, self._remember) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self, step: int) -> bool:
        """Whether to stop now; on all processes alike."""
        if self._process.is_alone:
            return self._seen
        return step % self._every == 0 and any_process(self._process, self._seen)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._seen:
            raise KeyboardInterrupt
        self._seen = True
        if self._process.is_main:
            print("\nStopping after this update and saving; once more stops at once.", file=sys.stderr)
