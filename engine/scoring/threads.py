"""Scores several batches at once on a CPU, each in a thread of its own.

Most operations of scoring are too small to gain from several threads. Two batches at once, with one thread
each, took two thirds of the time of one after the other with two threads (docs/architecture.md).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Protocol, TypeVar

import torch
from torch import Tensor, distributed, nn

from models.folding import has_hooks, sharing_tensors

MOST = 8  # batches at once, as each holds its own activations
LARGE_PX = 1 << 20  # batches of more pixels need much memory, and are worked on alone, with all threads

Models = Mapping[str, nn.Module]


class WithImages(Protocol):
    """images: (B, n, h, w)"""

    @property
    def images(self) -> Tensor: ...


Batch = TypeVar("Batch", bound=WithImages)
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Models, Batch], Result],
    models: Models,
    batches: Iterable[Batch],
    device: torch.device,
) -> Iterator[Result]:
    """The results of `work(models, batch)`, in the order of the batches.

    On a CPU several batches are worked on at once. As a model may keep values of a forward pass, each thread
    has a copy of the models, which shares their tensors. Models with hooks, or that cannot be copied, see one
    batch at a time, and so do those of several processes, whose forward passes may wait for each other.
    """
    num_threads, num_at_once = torch.get_num_threads(), batches_at_once(device)
    copies = _copies(models, num_at_once) if num_at_once > 1 else []
    if not copies:
        for batch in batches:
            yield work(models, batch)
        return
    idle: SimpleQueue[Models] = SimpleQueue()
    for copy in copies:
        idle.put(copy)

    def with_a_copy(batch: Batch) -> Result:
        mine = idle.get()
        try:
            return work(mine, batch)
        finally:
            idle.put(mine)

    pool = ThreadPoolExecutor(num_at_once, "scoring", torch.set_num_threads, (num_threads // num_at_once,))
    waiting: deque[Future[Result]] = deque()
    try:
        for batch in batches:
            is_large = batch.images.shape[0] * batch.images.shape[2:].numel() > LARGE_PX
            while waiting and (is_large or len(waiting) > num_at_once):
                yield waiting.popleft().result()
            if is_large:
                yield work(models, batch)
            else:
                waiting.append(pool.submit(with_a_copy, batch))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)  # threads that are started later take the latest number


def batches_at_once(device: torch.device) -> int:
    """How many batches `in_threads` works on at once, of models that it can copy."""
    is_distributed = distributed.is_available() and distributed.is_initialized()
    return min(torch.get_num_threads(), MOST) if device.type == "cpu" and not is_distributed else 1


def _copies(models: Models, num: int) -> list[Models]:
    """Of all models, `num` times, the models themselves among them; empty where one cannot be copied."""
    if any(has_hooks(model) for model in models.values()):  # they may rely on the order of the batches
        return []
    try:
        others = [{name: sharing_tensors(model) for name, model in models.items()} for _ in range(num - 1)]
    except Exception:  # anything that a model of somebody else holds, such as a file or a lock
        return []
    return [models, *others]
