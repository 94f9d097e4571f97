"""Trains the cells of a grid as processes of this machine, a few at once."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from rich.console import Console

from engine.comparison.grid import Cell, Failure, module_paths
from engine.comparison.progress import GridProgress

LOOK_EVERY_S = 0.2


def run_locally(cells: Sequence[Cell], num_jobs: int, console: Console) -> list[Failure]:
    """Train the cells, `num_jobs` at once; one that fails does not stop the others.

    With several GPUs, each job has its own. Ctrl-C and SIGTERM stop all runs: each saves its
    state, and the same command continues from there.
    """
    waiting, failures = deque(cells), []
    slots: dict[int, tuple[Cell, subprocess.Popen[bytes]]] = {}
    with GridProgress(console, cells) as progress, _stopping(slots):
        while waiting or slots:
            for slot in range(num_jobs):
                if waiting and slot not in slots:
                    cell = waiting.popleft()
                    progress.begins(cell)
                    slots[slot] = (cell, _start(cell, slot))
            time.sleep(LOOK_EVERY_S)
            for slot, (cell, process) in list(slots.items()):
                progress.look(cell)
                if process.poll() is None:
                    continue
                del slots[slot]
                failure = None if cell.run.is_finished else Failure.of(cell)
                failures += [failure] if failure else []
                progress.ends(cell, failure)
    return failures


def _start(cell: Cell, slot: int) -> subprocess.Popen[bytes]:
    """Its process, in its own session, so that Ctrl-C reaches only this process, which forwards it once."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(module_paths())}
    if torch.cuda.device_count() > 1:
        environment["CUDA_VISIBLE_DEVICES"] = _gpu(slot, torch.cuda.device_count())
    with cell.log.open("ab") as log:
        return subprocess.Popen(
            cell.command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def _gpu(slot: int, num_gpus: int) -> str:
    """The GPU of a slot, among those that this process may see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(num_gpus)]
    return names[slot % num_gpus]


@contextmanager
def _stopping(slots: dict[int, tuple[Cell, subprocess.Popen[bytes]]]) -> Iterator[None]:
    """At the end of the block, also after an error, stops the processes in `slots`, which save, and waits."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Stopped. To go on, type the same command: finished runs are kept.") from None
    finally:
        for _, process in slots.values():
            process.terminate()  # SIGINT is ignored by what a script has started in the background
        for _, process in slots.values():
            process.wait()
        signal.signal(signal.SIGTERM, previous)
