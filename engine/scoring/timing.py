"""Times several calls in turn, so that changes of the machine's speed affect all of them equally."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
import torch

from engine.data.batches import Batch
from engine.data.sample import Dataset, skipped_ids

NUM_TIMED_IMAGES, TIMED_ROUNDS = 2, 3
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


def timed_batches(dataset: Dataset, device: torch.device) -> list[Batch]:
    """A few images of a split, spread over it, each a batch on the device: decoding them is not timed."""
    skipped = set(skipped_ids(dataset))
    readable = [index for index, id in enumerate(dataset.ids) if id not in skipped]
    spread = np.linspace(0, len(readable) - 1, min(NUM_TIMED_IMAGES, len(readable))).round().astype(int)
    samples = [dataset[readable[place]] for place in spread]
    return [Batch(s.image[None].to(device), s.labels[None].to(device), [s.id]) for s in samples]


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
