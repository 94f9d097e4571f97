"""Processes that read images for a training or a scoring, and what happens where one dies."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch.utils.data import DataLoader

from engine.data.order import Draw
from engine.data.sample import DataError, Dataset, Sample, first_few, read_or_error

# Ctrl-C; kill, timeout, systemd, containers; a closed terminal; Slurm's warning. Windows lacks some.
STOPPING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)


class WorkerError(RuntimeError):
    """Processes that read images died twice in a row."""

    exit_code = 1


def auto_workers(world_size: int) -> int:
    """Decoding processes of one of `world_size` training processes on this machine."""
    return max(0, min(8, num_cores() // world_size - 1))


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_by_workers(
    dataset: Dataset, plan: Iterator[list[Draw]], workers: int
) -> Iterator[tuple[list[Sample | DataError], list[Draw]]]:
    """The samples of each batch, read by `workers` processes, and its draws.

    Raises:
        WorkerError: a process died, and so did the one that read its batch again.
    """
    handed_out: deque[list[Draw]] = deque()  # to the workers, and not back yet
    num_deaths = 0  # since the last batch
    while True:
        batches = _started(dataset, _noting(plan, handed_out), workers)
        try:
            for batch in batches:
                handed_out.popleft()
                num_deaths = 0
                yield batch
            return
        except RuntimeError as error:
            dead = [worker for worker in batches._workers if not worker.is_alive()]
            if not dead:
                raise
            for worker in batches._workers:  # one may wait for ever for a lock that the dead one holds
                worker.kill()
            num_deaths += 1
            ids = first_few([dataset.ids[draw.index] for draw in handed_out[0]])
            ended = _ending(dead[0].exitcode)
            how = f"Process {dead[0].pid}, which reads images, {ended} at the batch of {ids}"
            if num_deaths > 1:
                raise WorkerError(
                    f"{how}, and so did the one before it. Often the memory was full: type "
                    f"data.workers={max(0, workers // 2)}, or data.workers=0 to see the error of the image."
                ) from error
            print(f"{how}. A new one reads that batch again.", file=sys.stderr)
            plan = chain(list(handed_out), plan)
            handed_out.clear()


class _Reader(torch.utils.data.Dataset[Any]):
    """Runs in a worker: reads one sample, and returns errors as values."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, draw: Draw) -> tuple[Sample | DataError, Draw]:
        return read_or_error(self.dataset, draw.index), draw


def _noting(plan: Iterator[list[Draw]], handed_out: deque[list[Draw]]) -> Iterator[list[Draw]]:
    for draws in plan:
        handed_out.append(draws)
        yield draws


def _started(dataset: Dataset, plan: Iterator[list[Draw]], workers: int) -> Any:
    """The iterator of a DataLoader with its workers.

    The DataLoader's handler of SIGCHLD is taken back: it raises an error wherever the main thread is, such as
    in the middle of an update. Without it, the iterator notices a dead worker within 5 s.
    """
    loader = DataLoader(
        _Reader(dataset),
        batch_sampler=plan,
        num_workers=workers,
        collate_fn=_unzip,
        worker_init_fn=_ignore_signals,
    )
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(loader)
    previous = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, previous)
    return batches


def _ignore_signals(_: int) -> None:
    """What stops a run reaches every process of a terminal, a job or a service.

    The main process saves its state first, and then ends its workers, which also end when it is gone.
    """
    for number in STOPPING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


def _unzip(pairs: list[tuple[Sample | DataError, Draw]]) -> tuple[list[Sample | DataError], list[Draw]]:
    return [result for result, _ in pairs], [draw for _, draw in pairs]
