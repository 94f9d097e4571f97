"""Reads many samples at once, in threads, and tells all broken ones together. Knows no file format."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from engine.data.sample import DataError, Dataset, Sample

Value = TypeVar("Value")


def read_all(
    read: Callable[[int], Value], indices: Sequence[int], progress: Callable[[int, int], None]
) -> list[Value]:
    """`read(index)` of every index, in order; decoding runs outside the interpreter lock.

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
        more = f"\n... and {len(problems) - 5} more samples." if len(problems) > 5 else ""
        raise DataError("\n".join(str(problem) for problem in problems[:5]) + more)
    return values


def read_or_error(dataset: Dataset, index: int) -> Sample | DataError:
    """The sample, or the DataError as a value, so that it can leave a worker with its message whole."""
    return _value_or_error(dataset.__getitem__, index)


def _value_or_error(read: Callable[[int], Value], index: int) -> Value | DataError:
    try:
        return read(index)
    except DataError as error:
        return error
