"""Memory that the C library of Linux keeps for the next update, in place of giving it back to the system."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# The parameters of glibc's mallopt, and what they are by default.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_THRESHOLD, MMAP_MAX = 128 * 1024, 65536


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """A block in which memory that is freed stays with the process; it is given back at the end.

    An update allocates and frees the same large blocks as the one before it. By default glibc gives each back
    to the system, which has to map it and fill it with zeros again. Nothing happens with another C library.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt, malloc_trim = (getattr(library, name, None) for name in ("mallopt", "malloc_trim"))
    if not (mallopt and malloc_trim):
        yield
        return
    mallopt(M_TRIM_THRESHOLD, -1)  # never
    mallopt(M_MMAP_MAX, 0)  # no block has a mapping of its own, which would end with it
    try:
        yield
    finally:
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
        mallopt(M_MMAP_MAX, MMAP_MAX)
        malloc_trim(0)
