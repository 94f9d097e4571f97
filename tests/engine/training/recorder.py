"""A Recorder on the CPU: it keeps torch's operations with their arguments, as a CUDA graph keeps kernels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Result = TypeVar("Result")
# Operations for which the host waits on a device; lift_fresh makes a tensor of numbers of the host.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "bincount", "equal", "lift_fresh")


def tensors_of(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Recording(TorchDispatchMode):
    """Runs operations and keeps them; `undo` gives all tensors that were there before their values back."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self._made: set[int] = set()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = operator.overloadpacket.__name__
        if name in WAITS:
            raise RuntimeError(f"{name} waits for the device")
        for tensor in tensors_of(args, kwargs):
            if memory(tensor) not in self._made | self._before.keys():
                self._before[memory(tensor)] = tensor, tensor.detach().clone()
        found = operator(*args, **kwargs)
        self.operations.append((operator, args, kwargs, found))
        self._made |= {memory(tensor) for tensor in tensors_of(found)} - self._before.keys()
        return found

    @torch.no_grad()
    def undo(self) -> None:
        for tensor, value in self._before.values():
            tensor.copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        for operator, args, kwargs, found in self.operations:
            given = {memory(tensor) for tensor in tensors_of(args, kwargs)}
            results = tensors_of(operator(*args, **kwargs))
            for kept, result in zip(tensors_of(found), results, strict=True):
                if memory(kept) not in given:  # not a view, nor changed in place
                    kept.copy_(result)


class OperationsOfTheCPU:
    """`num_ordinary`, `num_recorded`, `num_repeated`: how often it was called."""

    def __init__(self) -> None:
        self.num_ordinary = self.num_recorded = self.num_repeated = 0

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        self.num_ordinary += 1
        yield

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        self.num_recorded += 1
        state = torch.get_rng_state()
        with Recording() as recording:
            result = work()
        recording.undo()
        torch.set_rng_state(state)

        def repeat() -> None:
            self.num_repeated += 1
            recording.replay()

        return result, repeat
