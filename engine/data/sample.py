"""A sample, the interface of a data set, and how samples are read where some files may be unreadable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from engine.wording import quantity

if TYPE_CHECKING:  # the recipe imports this package, and must not load torch
    from torch import Tensor

Palette = tuple[tuple[int, int, int], ...]
Value = TypeVar("Value")
OR_SKIP = "; data.on_error=skip leaves such images out"  # in the message of an image that cannot be read
logger = logging.getLogger(__name__)


class DataError(ValueError):
    """The user's data is not what the recipe says; the message names the file or id and the remedy."""

    exit_code = 2


class UnreadableSample(DataError):
    """A file is damaged, truncated or inaccessible: the only error that `data.on_error: skip` covers.

    Masks with unexpected ids or of another size than the image are not skipped: they point to a mistake in
    the recipe or in many files, which skipping would hide.
    """


class Skipped:
    """Images that were left out because they cannot be read: the reason by id. Each is logged once."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def note(self, id: str, reason: UnreadableSample) -> None:
        if id not in self.reasons:
            self.reasons[id] = str(reason)
            logger.warning("left out, because of data.on_error=skip: %s", reason)


@dataclass(frozen=True)
class Sample:
    """One image with its labels.

    image: (n, h, w) uint8, the bands of data.bands, or RGB. labels: (h, w) uint8, class ids, and
    `ignore_index` where unlabelled. With data.labels: multi they are (C, h, w): 1 where a class is, 0
    where it is not, `ignore_index` where that is unknown.
    """

    id: str
    image: Tensor
    labels: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)"""
        return self.labels.shape[-2], self.labels.shape[-1]


class Dataset(Protocol):
    """One split of a data set; `dataset[i]` reads sample i and raises DataError where it cannot.

    With `skipped` None an unreadable image ends the run; otherwise it is left out and noted there. `bands` is
    the names of data.bands, or None for RGB.
    """

    ids: list[str]
    class_names: tuple[str, ...]
    palette: Palette
    ignore_index: int
    skipped: Skipped | None
    bands: tuple[str, ...] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def labels(self, index: int) -> Tensor:
        """(h, w) uint8: the label map of sample `index` alone; the image is not decoded."""
        ...

    def sizes(self) -> list[tuple[int, int]]:
        """(h, w) in pixels of each image, without decoding it; (0, 0) of a skipped one."""
        ...

    def fingerprint(self) -> str:
        """A hash that changes when the samples do, but not when the folder moves."""
        ...


def require_regular(path: Path) -> None:
    """Raises UnreadableSample for a pipe or a device, whose content could be waited for without end."""
    if path.exists() and not path.is_file():
        raise UnreadableSample(f"{path} is a folder, a pipe or a device, and no file that can be read.")


def first_few(items: Sequence[Any], count: int = 5) -> str:
    """The first items of a list for a message, and how many more there are."""
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(str(item) for item in items[:count]) + more


def read_all(
    read: Callable[[int], Value], indices: Sequence[int], progress: Callable[[int, int], None]
) -> list[Value]:
    """`read(index)` of every index, in order, in threads: decoding releases the interpreter lock.

    Raises:
        DataError: samples that cannot be read; all are tried, the first few named.
    """
    values: list[Value] = []
    problems: list[DataError] = []
    with ThreadPoolExecutor() as pool:
        for result in pool.map(lambda index: _value_or_error(read, index), indices):
            if isinstance(result, DataError):
                problems.append(result)
            else:
                values.append(result)
            progress(len(values) + len(problems), len(indices))
    if problems:
        more = f"\n... and {quantity(len(problems) - 5, 'more sample')}." if len(problems) > 5 else ""
        raise DataError("\n".join(str(problem) for problem in problems[:5]) + more)
    return values


def read_or_error(dataset: Dataset, index: int) -> Sample | DataError:
    """The sample, or the DataError as a value, so that a worker process can return it with its message."""
    return _value_or_error(dataset.__getitem__, index)


def _value_or_error(read: Callable[[int], Value], index: int) -> Value | DataError:
    try:
        return read(index)
    except DataError as error:
        return error


def note_or_raise(dataset: Dataset, index: int, error: DataError) -> None:
    """Note an unreadable sample where the data set skips those; raise any other error."""
    if dataset.skipped is None or not isinstance(error, UnreadableSample):
        raise error
    dataset.skipped.note(dataset.ids[index], error)


def skipped_ids(dataset: Dataset) -> list[str]:
    """The samples that this process found unreadable and skipped, in the order of the data set."""
    return [id for id in dataset.ids if id in dataset.skipped.reasons] if dataset.skipped else []


def next_readable(dataset: Dataset, index: int, error: DataError) -> Sample:
    """The first readable sample after `index`, continuing at the start after the last one.

    This depends on the files alone: it is the same in every process, with every number of workers, in memory
    and on disk, and the samples at all other places stay where they are.

    Raises:
        DataError: `error`, where it is not to be skipped; or no sample can be read.
    """
    note_or_raise(dataset, index, error)
    for offset in range(1, len(dataset)):
        place = (index + offset) % len(dataset)
        result = read_or_error(dataset, place)
        if isinstance(result, Sample):
            return result
        note_or_raise(dataset, place, result)
    raise none_readable(dataset, str(error))


def none_readable(dataset: Dataset, reason: str) -> DataError:
    """The error where all images would be left out, from the reason of one."""
    reason = reason.replace(OR_SKIP, "")  # that would leave no image
    return DataError(f"None of the {quantity(len(dataset), 'image')} can be read. The first: {reason}")


def require_labels(dataset: Dataset, split: str, remedy: str) -> None:
    """Raises DataError where no pixel of a split can be scored. Mostly it reads a single mask."""
    has_masks = False
    for index in range(len(dataset)):
        try:
            labels = dataset.labels(index)
        except UnreadableSample:  # reported, or skipped, when the image is read
            continue
        has_masks = True
        if (labels != dataset.ignore_index).any():
            return
    if has_masks:
        raise DataError(
            f"Split {split!r} has no labelled pixel: all its readable masks are void "
            f"({dataset.ignore_index}), so nothing can be scored. Label them, or {remedy}."
        )


def require_one_class_a_pixel(section: Any, what: str, remedy: str) -> None:
    """Raises DataError where a `data` section has labels: multi, which `what` does not take."""
    if section.labels == "multi":
        raise DataError(f"{what} is for data.labels: single; here classes may overlap (multi). {remedy}")
