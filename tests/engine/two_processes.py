"""Several runs, one after the other, of two processes that start once, with the environment of torchrun."""

import json
import os
import socket
import sys
from contextlib import ExitStack

import torch
from torch.distributed.tensor import DTensor

from engine.run import main
from engine.training.step import SupervisedStep
from tests.processes import Python

BROKEN = (
    "broken"  # first of the arguments of a run whose second process gets an infinite gradient in update 3
)


def run_two(*runs: list[str]) -> None:
    """Train with the arguments of each run; they must all end well."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in runs]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        ports = [free.getsockname()[1] for free in sockets]
    command = ["-m", "tests.engine.two_processes", json.dumps([*zip(ports, runs, strict=True)])]
    group = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": ""}
    processes = [
        Python(*command, environment=group | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")
    ]
    try:
        ended = [process.end() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in ended] == [0, 0], ended


def _break_a_gradient() -> None:
    """Only in the shard of the second process, whatever the first one sees."""
    backward = SupervisedStep.backward

    def broken(step: SupervisedStep, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        metrics = backward(step, images, labels)
        if step.count == 2 and step.settings.rank == 1:
            gradients = [parameter.grad for parameter in step.model.parameters()]
            shards = [grad.to_local() for grad in gradients if isinstance(grad, DTensor)]
            next(shard for shard in shards if shard.numel()).view(-1)[0] = torch.inf
        return metrics

    SupervisedStep.backward = broken  # type: ignore[method-assign]


if __name__ == "__main__":
    for port, arguments in json.loads(sys.argv[1]):
        os.environ["MASTER_PORT"] = str(port)
        backward = SupervisedStep.backward
        if arguments[0] == BROKEN:
            _break_a_gradient()
        if code := main([argument for argument in arguments if argument != BROKEN]):
            sys.exit(code)
        SupervisedStep.backward = backward  # type: ignore[method-assign]
