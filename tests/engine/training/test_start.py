"""The environment that a run records at its start."""

import platform

import torch

from engine.training.distributed import Process
from engine.training.start import environment


def test_versions_device_and_processes_are_those_of_this_process() -> None:
    facts = environment(Process(0, 3, torch.device("cpu")))
    assert facts["python"] == platform.python_version() and facts["torch"] == torch.__version__
    assert facts["processes"] == "3" and facts["device"].startswith("CPU, ")
    assert all(isinstance(value, str) and value for value in facts.values())
