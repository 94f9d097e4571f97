"""Lets the C library of Linux keep freed memory for the next update instead of returning it to the system."""

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
    """Return the free memory of the C library to the system, so that peaks count only memory in use."""
    if malloc_trim := _of_glibc("malloc_trim"):
        malloc_trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """A context in which freed memory stays with the process; it is returned to the system at the end.

    Each update allocates and frees the same large blocks. By default glibc returns them to the system, which
    has to map them and fill them with zeros again. With another C library this has no effect.
    """
    _keep_freed_memory()
    try:
        yield
    finally:
        _return_freed_memory()


@contextmanager
def freed_memory_returned(device: torch.device) -> Iterator[None]:
    """For scoring within `freed_memory_kept`: on a CPU, freed memory is returned to the system meanwhile.

    Images of many sizes would fragment the memory that is kept.
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
        mallopt(M_MMAP_MAX, 0)  # else large blocks are mapped separately, and unmapped when freed


def _return_freed_memory() -> None:
    if mallopt := _of_glibc("mallopt"):
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
        mallopt(M_MMAP_MAX, MMAP_MAX)
    give_freed_memory_back()
