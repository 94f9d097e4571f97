"""One process or several: the process group, and sums over it.

Started by `torchrun`, every process holds the same model and a share of each batch. Sums over the batch (loss
statistics, BatchNorm moments) run over all processes, so the gradient is that of one process with the whole
batch.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from losses.statistics import full_precision, identity


class ProcessError(ValueError):
    """More processes were started than this machine has GPUs."""

    exit_code = 2


@dataclass(frozen=True)
class Process:
    """This process among `world_size`; rank 0 writes and prints."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.world_size == 1


def start_process() -> Process:
    """Join the group that torchrun's environment variables name, if any. NCCL on GPUs, gloo on CPUs."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    num_gpus = torch.cuda.device_count()
    if num_gpus and local_rank >= num_gpus:
        raise ProcessError(f"More processes than GPUs on this machine: type --nproc-per-node={num_gpus}.")
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        return Process(0, 1, device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Process(dist.get_rank(), world_size, device)


def stop_process() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def process_group() -> Iterator[Process]:
    """A context with this process, which leaves the group at its end."""
    process = start_process()
    try:
        yield process
    finally:
        stop_process()


def batch_sum(process: Process) -> Callable[[Tensor], Tensor]:
    """Sums a statistic of the batch over all processes, and its gradient on the way back."""
    return identity if process.is_alone else _AllReduce.apply


class _AllReduce(torch.autograd.Function):
    """A sum over all processes. Each of them uses it, so the gradients of all are summed on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)  # it may be an expanded scalar
        dist.all_reduce(total)
        return total


def sum_in_place(process: Process, tensors: list[Tensor]) -> None:
    """Sums counts over all processes."""
    if not process.is_alone:
        for tensor in tensors:
            dist.all_reduce(tensor)


def any_process(process: Process, flag: bool) -> bool:
    """True everywhere if it is true anywhere. Waits for all processes."""
    if process.is_alone:
        return flag
    total = torch.tensor(float(flag), device=process.device)
    dist.all_reduce(total)
    return bool(total > 0)


def wait_for_all(process: Process) -> None:
    """Wait until all processes have reached this call."""
    if not process.is_alone:
        dist.barrier()


def distribute(model: nn.Module, process: Process) -> nn.Module:
    """The model with BatchNorm over the whole batch and averaged gradients; unchanged for one process."""
    if process.is_alone:
        return model
    if process.device.type == "cuda":
        model = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(model, device_ids=[process.device.index])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # the same parameters and buffers, another forward
            has_act = isinstance(module, BatchNormAct2d)
            module.__class__ = GlobalBatchNormAct if has_act else GlobalBatchNorm
    return DistributedDataParallel(model)


class GlobalBatchNorm(nn.BatchNorm2d):
    """nn.SyncBatchNorm for CPUs, which torch leaves out: moments of the batch over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        return _normalise(self, x) if self.training else super().forward(x)


class GlobalBatchNormAct(BatchNormAct2d):
    """The same for timm's BatchNorm that has its activation inside."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        if self.training:
            x = self.act(self.drop(_normalise(self, x)))
            return x
        x = super().forward(x)  # type: ignore[no-untyped-call]
        return x


def _normalise(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """First the mean, then the variance around it: E[x^2] - E[x]^2 loses precision in float32."""
    wide = full_precision(x)
    per_channel = wide.sum((0, 2, 3))  # (C,)
    count = per_channel.new_tensor([wide.numel() / wide.shape[1]])
    count, total = _AllReduce.apply(torch.cat([count, per_channel])).split([1, wide.shape[1]])
    mean = total / count
    centred = wide - mean[:, None, None]
    variance = _AllReduce.apply(centred.square().sum((0, 2, 3))) / count
    assert norm.momentum is not None and norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    normalised: Tensor = (centred * scale[:, None, None] + norm.bias[:, None, None]).to(x.dtype)
    return normalised
