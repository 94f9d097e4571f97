"""One process or several: the process group, and sums over it.

Started by `torchrun`, every process holds the same model and a share of each batch. Sums over the batch (loss
statistics, BatchNorm moments) run over all processes, so the gradient is that of one process with the whole
batch.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch._C._distributed_c10d import (  # torch.distributed has them, but not for mypy
    PrefixStore,
    Store,
    TCPStore,
)
from torch.nn.parallel import DistributedDataParallel

from engine.training.heartbeat import GroupError, Heartbeat
from losses.statistics import full_precision, identity


class ProcessError(ValueError):
    """More processes were started than this machine has GPUs."""

    exit_code = 2


TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Process:
    """This process among `world_size`; rank 0 writes and prints."""

    rank: int
    world_size: int
    device: torch.device
    heartbeat: Heartbeat | None = None  # of several

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.world_size == 1


@contextmanager
def process_group(timeout_s: float = TIMEOUT_S) -> Iterator[Process]:
    """A context with this process, which leaves the group at its end.

    Args:
        timeout_s: if a process does not respond for this long, all processes end.

    Raises:
        ProcessError: there are more processes than GPUs.
        GroupError: a process did not start, has ended, or does not respond.
    """
    process = start_process(timeout_s)
    failed = True
    try:
        yield process
        failed = False
    except RuntimeError as error:
        if process.heartbeat and _is_of_the_group(error):
            raise process.heartbeat.explained(error) from error
        raise
    finally:
        stop_process(process, failed)


def start_process(timeout_s: float = TIMEOUT_S) -> Process:
    """Join the group that torchrun's environment variables name, if any. NCCL on GPUs, gloo on CPUs."""
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    num_gpus = torch.cuda.device_count()
    if num_gpus and local_rank >= num_gpus:
        raise ProcessError(f"More processes than GPUs on this machine: type --nproc-per-node={num_gpus}.")
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        return Process(0, 1, device)
    store = _open_store(rank, world_size, timeout_s)
    heartbeat = Heartbeat(store, rank, world_size, timeout_s)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=1.5 * timeout_s),  # the heartbeat comes first, as its message has names
        device_id=device if device.type == "cuda" else None,
    )
    return Process(rank, world_size, device, heartbeat)


def _open_store(rank: int, world_size: int, timeout_s: float) -> Store:
    """A part of the store of torchrun, or of rank 0, that no other group uses."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    has_store = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    limit = timedelta(seconds=timeout_s)
    try:
        shared = TCPStore(host, port, world_size, has_store, limit, wait_for_workers=False, multi_tenant=True)
    except dist.DistNetworkError as error:
        where = f"rank 0, at {host}:{port},"
        what = f"{where} could not open its store" if has_store else f"{where} did not answer"
        raise GroupError(f"{what}: {str(error).splitlines()[0]}") from error
    attempt = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), shared)
    return PrefixStore(str(attempt.add(f"groups/{rank}", 1)), attempt)


def stop_process(process: Process, failed: bool = False) -> None:
    """Leave the group, if there is one.

    Args:
        failed: whether an error ended this process, so that the others are told.
    """
    if process.heartbeat:
        process.heartbeat.stop(failed)
    if dist.is_initialized():
        dist.destroy_process_group()


def _is_of_the_group(error: RuntimeError) -> bool:
    """Whether an error came from a collective or the store; errors of gloo have no type of their own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def batch_sum(process: Process) -> Callable[[Tensor], Tensor]:
    """Sums a statistic of the batch over all processes, and its gradient on the way back."""

    def sum_over_processes(x: Tensor) -> Tensor:
        _enter_collective(process)
        total: Tensor = _AllReduce.apply(x)
        return total

    return identity if process.is_alone else sum_over_processes


def _enter_collective(process: Process) -> None:
    if process.heartbeat:
        process.heartbeat.entering_collective()


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
        _enter_collective(process)
        for tensor in tensors:
            dist.all_reduce(tensor)


def smallest(process: Process, value: int) -> int:
    """The smallest value of all processes. Waits for all."""
    if process.is_alone:
        return value
    least = torch.tensor(value, device=process.device)
    _enter_collective(process)
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return int(least)


def any_process(process: Process, flag: bool) -> bool:
    """True everywhere if it is true anywhere. Waits for all processes."""
    if process.is_alone:
        return flag
    total = torch.tensor(float(flag), device=process.device)
    sum_in_place(process, [total])
    return bool(total > 0)


def any_at(process: Process, flag: bool, step: int, every: int) -> bool:
    """`any_process`; several processes ask it only at every `every`-th step, as they wait for each other."""
    return flag if process.is_alone else step % every == 0 and any_process(process, flag)


def wait_for_all(process: Process) -> None:
    """Wait until all processes reach this call, without a time limit while they respond.

    Call it before a collective if one process may be later than the others by more than the timeout.
    """
    if process.heartbeat:
        process.heartbeat.meet()
        dist.barrier()  # so that rank 0, which has the store, stays until all others have seen the last come


def distribute(model: nn.Module, process: Process, sync_norms: bool = True) -> nn.Module:
    """The model with averaged gradients and BatchNorm over the whole batch; unchanged for one process.

    Args:
        sync_norms: False: each BatchNorm sees only the images of its process.
    """
    if process.is_alone:
        return model
    wait_for_all(process)  # one may have downloaded weights
    device_ids = [process.device.index] if process.device.type == "cuda" else None
    synced = with_global_norms(model, process) if sync_norms else model
    return DistributedDataParallel(synced, device_ids=device_ids)


def compiled(
    model: nn.Module, process: Process, backend: str = "inductor", mode: str | None = None
) -> nn.Module:
    """The model compiled as one graph, in a mode of `torch.compile`; call it before `distribute`.

    By default torch splits the graph of a distributed model by the buckets of its gradients, so that their
    all-reduce overlaps with the backward pass. With torch 2.14 a B2 compiled like this returns a BatchNorm's
    num_batches_tracked in place of the logits, so with several processes the graph is not split.
    """
    whole = cast(nn.Module, torch.compile(model, backend=backend, mode=mode))
    if not process.is_alone:  # read at each compilation, in the first call and maybe in later ones
        whole.forward = torch._dynamo.config.patch(optimize_ddp=False)(whole.forward)
    return whole


def with_global_norms(model: nn.Module, process: Process) -> nn.Module:
    """The model with BatchNorm over the whole batch of several processes."""
    if process.device.type == "cuda":
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # the same parameters and buffers, another forward
            has_act = isinstance(module, BatchNormAct2d)
            module.__class__ = GlobalBatchNormAct if has_act else GlobalBatchNorm
    return model


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
