"""What every reader gives: a sample, and the promise that a data set keeps. Knows no file format."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the recipe imports this package, and opens without torch
    from torch import Tensor

Palette = tuple[tuple[int, int, int], ...]


class DataError(ValueError):
    """The user's data is not what the recipe says; the message names the file or id and the remedy."""

    exit_code = 2


class UnreadableSample(DataError):
    """A file is broken, cut off or out of reach: the one kind of mistake that `data.on_error: skip` forgives.

    Masks with strange ids or of another size are not forgiven: those are mistakes of the recipe or of many
    files, and leaving them out would hide it.
    """


class Skipped:
    """Images that were left out since they cannot be read: the reason by id. Each is told once, on stderr."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def note(self, id: str, reason: UnreadableSample) -> None:
        if id not in self.reasons:
            self.reasons[id] = str(reason)
            print(f"left out, as data.on_error=skip says: {reason}", file=sys.stderr)


def first_few(items: Sequence, count: int = 5) -> str:
    """The first items of a list for a message, and how many more there are."""
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(str(item) for item in items[:count]) + more


@dataclass(frozen=True)
class Sample:
    """One image with its labels.

    image: (3, h, w) uint8, RGB. labels: (h, w) uint8, class ids and `ignore_index` for void.
    """

    id: str
    image: Tensor
    labels: Tensor


class Dataset(Protocol):
    """One split of a data set; `dataset[i]` reads sample i and raises DataError where it cannot.

    `skipped` is None where unreadable images end the run; else they are left out and noted there.
    """

    ids: list[str]
    class_names: tuple[str, ...]
    palette: Palette
    ignore_index: int
    skipped: Skipped | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def labels(self, index: int) -> Tensor:
        """(h, w) uint8: the label map of sample `index` alone; the image is not decoded."""
        ...

    def sizes(self) -> list[tuple[int, int]]:
        """(h, w) in pixels of each image, without decoding it; (0, 0) of one that is skipped."""
        ...

    def fingerprint(self) -> str:
        """A hash that changes when the samples do and not when the folder moves."""
        ...
