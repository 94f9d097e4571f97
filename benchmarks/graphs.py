"""Calls as CUDA graphs, timed by the clock of the GPU: for kernels that take less time than their launch."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import torch

from engine.scoring.timing import interleaved

CACHE_BYTES = 256 << 20  # more than the 50 MB of an H200's L2
Name = TypeVar("Name", bound=Hashable)


def recorded(call: Callable[[], Any]) -> Callable[[], Any]:
    """A CUDA graph of the call, which is warmed up before; without a GPU the call itself.

    What it returns is in the same memory each time.
    """
    if not torch.cuda.is_available():
        return call
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = call()

    def replay() -> Any:
        graph.replay()
        return found

    return replay


def timed(calls: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, list[float]]:
    """Seconds of each call, all of them in turn; on a GPU each with an empty cache."""
    if not torch.cuda.is_available():
        return interleaved(calls, rounds, lambda done, total: None)
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    cache = torch.empty(CACHE_BYTES, dtype=torch.uint8, device="cuda")
    for _ in range(rounds):
        for name, call in calls.items():
            cache.zero_()  # takes the GPU longer than the host needs for the next two lines
            before.record()
            call()
            after.record()
            torch.cuda.synchronize()
            seconds[name].append(before.elapsed_time(after) / 1000)
    return seconds
