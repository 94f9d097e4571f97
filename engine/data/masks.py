"""From what a mask file holds to label ids: as they are, through a table, from colours, or black and white.

A mapping is called with the stored mask and the file's path, which is for messages only; it gives (h, w)
uint8. Its `identity` is what it adds to the fingerprint of a data set. Knows nothing of folders.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.data.sample import DataError, first_few

Labels = NDArray[np.uint8]


class Mapping(Protocol):
    """(stored mask, its file) -> (h, w) uint8 of class ids and the ignore index."""

    def __call__(self, stored: NDArray, path: Path) -> Labels: ...

    def identity(self) -> str: ...


@dataclass(frozen=True)
class SameIds:
    """The file holds the label ids themselves."""

    num_classes: int
    ignore_index: int

    def __call__(self, stored: NDArray, path: Path) -> Labels:
        require_ids(stored, path)
        known = np.zeros(256, bool)
        known[: self.num_classes] = known[self.ignore_index] = True
        if not known[stored].all():
            outside = [int(i) for i in np.unique(stored) if not known[i]]
            raise DataError(
                f"{path} holds label ids {first_few(outside)}, outside the {self.num_classes} "
                f"classes of the recipe (0..{self.num_classes - 1}, void {self.ignore_index}). "
                "Name every class in data.classes, or set data.ignore_index to the id of void."
            )
        return stored

    def identity(self) -> str:
        return ""


def require_ids(stored: NDArray, path: Path) -> None:
    """Raises DataError where a mask is not (h, w) of bytes."""
    if stored.ndim != 2 or stored.dtype != np.uint8:
        raise DataError(
            f"{path} is no mask of ids (palette or 8-bit grey PNG): it decodes to {stored.shape}."
        )
