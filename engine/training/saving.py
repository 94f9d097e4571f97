"""When the state of a training is saved, and a thread that writes it while the training goes on."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Self

from torch import Tensor

from engine.options import MINUTES, seconds_of
from engine.run_folder import RunFolder
from engine.training.checkpoint import copied_state, write_state
from engine.training.distributed import Process, any_at
from engine.training.step import SupervisedStep

# Hashing competes with the updates for a core, memory and the interpreter, so it gets this share of the time.
WORKING_SHARE = 0.02
# A kill loses a state that is not written yet, so writing takes at most this share of the time between two.
LATE_SHARE = 0.1


class SaveSchedule:
    """Whether the state is to be saved after an update: every few updates, or some time after the last one.

    With a time, several processes agree at every `agree_every`-th step.

    Args:
        save_every: `train.save_every` in steps, or such as "10 min".
        clock: in seconds.
    """

    def __init__(
        self,
        process: Process,
        save_every: int | str,
        agree_every: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        minutes = MINUTES.fullmatch(str(save_every))
        self._steps = None if minutes else int(save_every)
        self._seconds = seconds_of(minutes[0]) if minutes else 0.0
        self._process = process
        self._agree_every = agree_every
        self._clock = clock
        self._last = clock()

    def is_due(self, step: int) -> bool:
        """The same on all processes."""
        if self._steps is not None:
            return step % self._steps == 0
        is_late = self._clock() - self._last >= self._seconds
        return any_at(self._process, is_late, step, self._agree_every)

    def saved(self) -> None:
        """Count the time from now."""
        self._last = self._clock()


class StateWriter:
    """A context that writes states in a thread; `save` waits only for the copy, and for an earlier state.

    The thread pauses most of the time, so as not to slow down the updates, unless something waits for it.

    Raises:
        DiskError: at the next `save` or at the end of the context, if a state could not be written.
    """

    def __init__(self, run: RunFolder, run_id: str | None):
        self._run = run
        self._run_id = run_id
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._is_waited_for = Event()
        self._last = time.monotonic()

    def save(self, step: SupervisedStep) -> None:
        self.wait()
        tensors, header = copied_state(self._run, step, self._run_id)
        before, self._last = self._last, time.monotonic()
        if step.settings.rank == 0:
            rest_until = self._last + LATE_SHARE * (self._last - before)
            self._writing = self._thread.submit(self._write, tensors, header, rest_until)

    def _write(self, tensors: dict[str, Tensor], header: str, rest_until: float) -> None:
        since = time.thread_time()

        def rest() -> None:
            nonlocal since
            worked = time.thread_time() - since
            if worked > 1e-3:
                pause = min(worked * (1 / WORKING_SHARE - 1), rest_until - time.monotonic())
                self._is_waited_for.wait(max(0, pause))
                since = time.thread_time()

        write_state(self._run, tensors, header, rest)

    def wait(self) -> None:
        """Until the last state is written."""
        self._is_waited_for.set()
        writing, self._writing = self._writing, None
        if writing:
            writing.result()
        self._is_waited_for.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._is_waited_for.set()
        self._thread.shutdown()  # waits
        if kind is None:
            self.wait()
