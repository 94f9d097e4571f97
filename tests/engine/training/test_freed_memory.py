"""Freed memory stays with the process while a training runs on the CPU, and is given back after it."""

import ctypes
import resource
import sys

import pytest
import torch

from engine.training.freed_memory import freed_memory_returned
from engine.training.session import torch_settings

MEGABYTES = 64
PAGES = MEGABYTES * 2**20 // resource.getpagesize()

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)


def faults() -> int:
    """Pages that had to be mapped to allocate, fill and free one block."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(MEGABYTES * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_mb() -> float:
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20


def test_a_freed_block_is_used_again():
    with torch_settings(deterministic=False, device=torch.device("cpu")):
        # The first blocks may lie in parts of the heap that were given back before.
        assert min(faults() for _ in range(6)) < PAGES / 10


def test_a_training_that_raises_gives_the_memory_back():
    before = resident_mb()
    with pytest.raises(ValueError), torch_settings(deterministic=False, device=torch.device("cpu")):
        torch.ones(4 * MEGABYTES * 2**18)
        assert resident_mb() > before + 3 * MEGABYTES
        raise ValueError
    assert resident_mb() < before + MEGABYTES


def test_scoring_within_a_training_keeps_nothing_and_the_training_goes_on_keeping():
    device = torch.device("cpu")
    with torch_settings(deterministic=False, device=device):
        torch.ones(4 * MEGABYTES * 2**18)
        kept = resident_mb()
        with freed_memory_returned(device):
            assert resident_mb() < kept - 3 * MEGABYTES  # at once
            torch.ones(4 * MEGABYTES * 2**18)
            assert resident_mb() < kept - 3 * MEGABYTES  # and of what is freed meanwhile
        assert min(faults() for _ in range(6)) < PAGES / 10
