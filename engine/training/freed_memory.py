"""Memory that the C library of Linux keeps for the next update, in place of giving it back to the system."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    mallopt = _of_glibc("mallopt")
    if not mallopt:
        yield
        return
    mallopt(M_TRIM_THRESHOLD, -1)  # never
    mallopt(M_MMAP_MAX, 0)  # no block has a mapping of its own, which would end with it
    try:
        yield
    finally:
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
        mallopt(M_MMAP_MAX, MMAP_MAX)
        give_freed_memory_back()
