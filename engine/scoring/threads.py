"""Scores several batches at once on a CPU, each in a thread of its own.

Most operations of scoring are too small to gain from several threads: see docs/architecture.md.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from queue import SimpleQueue
from typing import Protocol, TypeVar

import torch
from torch import Tensor, distributed, nn

from engine.scoring.numerics import convolutions_as_they_come
from engine.scoring.predictor import Predictor
from models.folding import has_hooks, sharing_tensors

MAX_BATCHES = 8  # limits memory: each batch holds its own activations
LARGE_PX = 1 << 20  # a larger view needs much memory: its image is scored alone, with all threads

Models = Mapping[str, nn.Module]


class WithImages(Protocol):
    """images: (B, n, h, w)"""

    @property
    def images(self) -> Tensor: ...


Batch = TypeVar("Batch", bound=WithImages)
Result = TypeVar("Result")


@convolutions_as_they_come()  # once for all threads, as it is a setting of the process
def in_threads(
    score: Callable[[Models, Batch], Result],
    models: Models,
    batches: Iterable[Batch],
    predictor: Predictor,
    device: torch.device,
) -> Iterator[Result]:
    """The results of `score(models, batch)`, in the order of the batches.

    On a CPU several batches are scored at once. As a model may keep values of a forward pass, each thread has
    a copy of the models, which shares their tensors. Models with hooks, or that cannot be copied, see one
    batch at a time, and so do those of several processes, whose forward passes may wait for each other.

    Args:
        predictor: of `score`; tells how large its forward passes are.
    """
    num_threads, batches = torch.get_num_threads(), iter(batches)
    first = list(islice(batches, batches_at_once(device)))
    batches = chain(first, batches)
    copies = _copies(models, len(first)) if len(first) > 1 else []
    if not copies:
        for batch in batches:
            yield score(models, batch)
        return
    idle_copies: SimpleQueue[Models] = SimpleQueue()
    for own_models in copies:
        idle_copies.put(own_models)

    def score_with_a_copy(batch: Batch) -> Result:
        own_models = idle_copies.get()
        try:
            return score(own_models, batch)
        finally:
            idle_copies.put(own_models)

    of_each = num_threads // len(copies)
    pool = ThreadPoolExecutor(len(copies), "scoring", torch.set_num_threads, (of_each,))
    waiting: deque[Future[Result]] = deque()
    try:
        for batch in batches:
            is_large = predictor.largest_view_px(batch.images) > LARGE_PX
            while waiting and (is_large or len(waiting) > len(copies)):
                yield waiting.popleft().result()
            if is_large:
                yield score(models, batch)
            else:
                waiting.append(pool.submit(score_with_a_copy, batch))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)  # threads that are started later take the latest number


def batches_at_once(device: torch.device) -> int:
    """How many batches `in_threads` scores at once, of models that it can copy."""
    if device.type != "cpu" or (distributed.is_available() and distributed.is_initialized()):
        return 1
    num_threads = torch.get_num_threads()
    threads_of_each = -(-num_threads // MAX_BATCHES)
    return num_threads // threads_of_each


def _copies(models: Models, num: int) -> list[Models]:
    """Of all models, `num` times, the models themselves among them; empty where one cannot be copied."""
    if any(has_hooks(model) for model in models.values()):  # they may rely on the order of the batches
        return []
    try:
        others = [{name: sharing_tensors(model) for name, model in models.items()} for _ in range(num - 1)]
    except (TypeError, RuntimeError, copy.Error):  # it holds a file, a lock, or a tensor with a gradient
        return []
    return [models, *others]
