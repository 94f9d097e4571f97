"""Times several calls in turn, so that changes of the machine's speed affect all of them equally."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)


def interleaved(
    calls: Mapping[Name, Callable[[], object]], rounds: int, progress: Callable[[int, int], None]
) -> dict[Name, list[float]]:
    """Seconds of each call, one list per name: each once to warm up, then all of them `rounds` times."""
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    done, total = 0, (rounds + 1) * len(calls)
    for number in range(rounds + 1):
        for name, call in calls.items():
            _wait_for_device()
            started = time.perf_counter()
            call()
            _wait_for_device()
            if number > 0:
                seconds[name].append(time.perf_counter() - started)
            done += 1
            progress(done, total)
    return seconds


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
