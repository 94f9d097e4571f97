"""Memory that the C library of Linux keeps for the next update, in place of giving it back to the system."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# The parameters of glibc's mallopt, and what they are by default.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_THRESHOLD, MMAP_MAX = 128 * 1024, 65536


def _of_glibc(name: str) -> Any:
    """A function of the C library, or None where it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def give_freed_memory_back() -> None:
    """Return what the C library keeps to the system, so that a peak of the process counts what is in use."""
    if malloc_trim := _of_glibc("malloc_trim"):
        malloc_trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """A block in which memory that is freed stays with the process; it is given back at the end.

    An update allocates and frees the same large blocks as the one before it. By default glibc gives each back
    to the system, which has to map it and fill it with zeros again. Nothing happens with another C library.
    """
    _keep_freed_memory()
    try:
        yield
    finally:
        _return_freed_memory()


@contextmanager
def freed_memory_returned(device: torch.device) -> Iterator[None]:
    """A block of scoring within `freed_memory_kept`: on a CPU, memory that is freed is not kept meanwhile.

    Images of many sizes would leave ever more gaps between the blocks that are kept.
    """
    if device.type == "cuda":
        yield
        return
    _return_freed_memory()
    try:
        yield
    finally:
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    if mallopt := _of_glibc("mallopt"):
        mallopt(M_TRIM_THRESHOLD, -1)  # never
        mallopt(M_MMAP_MAX, 0)  # no block has a mapping of its own, which would end with it


def _return_freed_memory() -> None:
    if mallopt := _of_glibc("mallopt"):
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
        mallopt(M_MMAP_MAX, MMAP_MAX)
    give_freed_memory_back()
