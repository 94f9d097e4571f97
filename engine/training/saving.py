"""When the state of a training is saved, and a thread that writes it while the training goes on."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from engine.options import MINUTES, seconds_of
from engine.run_folder import RunFolder
from engine.training.checkpoint import copied_state, write_state
from engine.training.distributed import Process, any_process
from engine.training.step import SupervisedStep


class SaveSchedule:
    """Whether the state is due after an update: after a number of updates, or a time since the last saving.

    Several processes have to agree where it is a time. That takes a synchronisation, so they do it only at
    every `agree_every`-th step.

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
        if self._process.is_alone:
            return is_late
        return step % self._agree_every == 0 and any_process(self._process, is_late)

    def saved(self) -> None:
        """Count the time from now."""
        self._last = self._clock()


class StateWriter:
    """A context that writes states in a thread; `save` waits for the copy only, and for an earlier writing.

    Raises:
        DiskError: at the next `save` or at the end of the block, where a state could not be written.
    """

    def __init__(self, run: RunFolder, run_id: str | None):
        self._run = run
        self._run_id = run_id
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def save(self, step: SupervisedStep) -> None:
        self.wait()
        tensors, header = copied_state(self._run, step, self._run_id)
        if step.settings.rank == 0:
            self._writing = self._thread.submit(write_state, self._run, tensors, header)

    def wait(self) -> None:
        """Until the last state is written."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._thread.shutdown()  # waits
        if kind is None:
            self.wait()
