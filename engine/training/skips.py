"""Updates that were left out because of NaN: they are reported, and too many in a row end the training."""

import shlex
from collections.abc import Callable

import torch
from torch import Tensor

from engine.run_folder import RunFolder
from engine.training.distributed import Process, sum_in_place
from engine.training.errors import RunError

Report = Callable[[int], None]


class GoBack(Exception):
    """The training has to go on from the last saved state, with a lower learning rate."""


class SkipGuard:
    """Collects on the device which updates were left out; only `check` waits for the device.

    Args:
        run: named in the message.
        process: all processes decide alike.
        on_nan: `train.on_nan`: "stop" at the first, or after `max_skipped` in a row: "skip" stops too, and
            "rollback" goes back first.
        max_skipped: `train.max_skipped`.
        report: called with the number of each update that was left out.
        went_back: whether the training has gone back before, which it does only once.
    """

    def __init__(
        self,
        run: RunFolder,
        process: Process,
        on_nan: str,
        max_skipped: int,
        report: Report,
        went_back: bool = False,
    ):
        self._run = run
        self._process = process
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
        sum_in_place(self._process, [flags])
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
