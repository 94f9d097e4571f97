"""What every reader gives: a sample, and the promise that a data set keeps. Knows no file format."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Palette = tuple[tuple[int, int, int], ...]


class DataError(ValueError):
    """The user's data is not what the recipe says; the message names the file or id and the remedy."""

    exit_code = 2


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
    """One split of a data set; `dataset[i]` reads sample i and raises DataError where it cannot."""

    ids: list[str]
    class_names: tuple[str, ...]
    palette: Palette
    ignore_index: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def sizes(self) -> list[tuple[int, int]]:
        """(h, w) in pixels of each image, without decoding it."""
        ...

    def fingerprint(self) -> str:
        """A hash that changes when the samples do and not when the folder moves."""
        ...
