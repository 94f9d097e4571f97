"""A compiled model on two GPUs returns what an eager one returns for the whole batch, and its gradients."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.training.distributed import Process, compiled, distribute
from models.segformer import SegFormer

pytestmark = [
    pytest.mark.gpu2,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]


def small_model() -> nn.Module:
    """With a BatchNorm in its decoder, and gradients that fill more than one bucket."""
    torch.manual_seed(0)
    return SegFormer("b0", 6, decoder_width=768, drop_path=0.0, dropout=0.0)


def whole_batch() -> Tensor:
    return 255 * torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def train_one(rank: int, kind: str, port: int, folder: Path) -> None:
    """Forward and backward of every second image, compiled, with BatchNorm over both processes."""
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    torch.set_float32_matmul_precision("highest")
    where = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", init_method=where, rank=rank, world_size=2)
    try:
        process = Process(rank, 2, device)
        model = small_model().to(device)
        backend = "inductor" if kind == "cuda" else "aot_eager"
        forward = distribute(compiled(model, process, backend), process)  # kept, as it averages in backward
        logits = forward(whole_batch()[rank::2].to(device))
        logits.square().mean().backward()
        gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
        torch.save((logits.detach().cpu(), gradients), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def check(kind: str, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(train_one, (kind, port, folder), nprocs=2)
    model = small_model().to(kind)
    expected = model(whole_batch().to(kind))
    expected.square().mean().backward()
    (first, gradients), (second, others) = (torch.load(folder / f"{rank}.pt") for rank in range(2))
    found = torch.stack([first, second], 1).flatten(0, 1)  # the order of the whole batch
    torch.testing.assert_close(found, expected.detach().cpu(), rtol=1e-3, atol=1e-3)
    largest = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.equal(gradients[name], others[name]), name
        torch.testing.assert_close(gradients[name], parameter.grad.cpu(), rtol=1e-2, atol=1e-4 * largest)


def test_compiled_before_ddp_with_sync_batch_norm(tmp_path: Path) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    check("cuda", tmp_path)
