"""What calls take, measured in turn, so that a machine whose speed drifts is fair to all of them."""

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import TypeVar

import torch

ROUNDS = 3  # counted ones, after one to warm up
Name = TypeVar("Name", bound=Hashable)


def seconds_of(
    calls: Mapping[Name, Callable[[], object]], progress: Callable[[int, int], None]
) -> dict[Name, float]:
    """The median over the rounds, in each of which every call is made once."""
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    total = (ROUNDS + 1) * len(calls)
    for number in range(total):
        name = list(calls)[number % len(calls)]
        _wait_for_device()
        started = time.perf_counter()
        calls[name]()
        _wait_for_device()
        if number >= len(calls):
            seconds[name].append(time.perf_counter() - started)
        progress(number + 1, total)
    return {name: median(times) for name, times in seconds.items()}


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
