"""Values of more than 8 bits as bytes: 256 equal steps of a range, from its lowest to its highest value."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.sample import UnreadableSample

ValueRange = tuple[float, float]  # lowest and highest, in the file's own units
ValueRanges = ValueRange | tuple[ValueRange, ...]  # of all bands, or of each


def as_bytes(values: NDArray[Any], value_range: ValueRanges | None, name: object) -> NDArray[np.uint8]:
    """`scaled` of each band (n, h, w) with its range; 8 bits stay as they are."""
    if values.dtype == np.uint8:
        return values
    ranges = _of_each(value_range, len(values))
    return np.stack([scaled(band, of_band, name) for band, of_band in zip(values, ranges, strict=True)])


def scaled(values: NDArray[Any], value_range: ValueRange | None, name: object) -> NDArray[np.uint8]:
    """256 equal steps from the lowest to the highest value of a range; values beyond it are 0 and 255.

    Without a range that of uint16 is taken, so the high byte remains.

    Args:
        name: of the image, for messages.

    Raises:
        UnreadableSample: there is no range, and the values are of another type than uint16.
    """
    if value_range is None and values.dtype != np.uint16:
        raise UnreadableSample(
            f"{name} holds {values.dtype.name} pixels, whose value range is unknown. Type "
            "'data.range=[<lowest>, <highest>]', or save it with 8 or 16 bits per channel."
        )
    low, high = value_range or (0.0, 65535.0)
    if values.dtype == np.uint16:
        return _table(low, high).take(values)
    return _steps(np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low), low, high)


def single_range(value_range: ValueRanges | None) -> ValueRange | None:
    """That of RGB images, which have one for all channels."""
    [found] = _of_each(value_range, 1)
    return found


def _steps(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    return np.floor((values - low) * 256 / (high - low)).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _table(low: float, high: float) -> NDArray[np.uint8]:
    """The byte of each value of uint16."""
    return _steps(np.arange(1 << 16, dtype=np.float64), low, high)


def _of_each(value_range: ValueRanges | None, num_bands: int) -> Sequence[ValueRange | None]:
    """The range of each band."""
    if value_range is None:
        return [None] * num_bands
    first, last = value_range[0], value_range[-1]
    if isinstance(first, tuple) or isinstance(last, tuple):
        return [pair for pair in value_range if isinstance(pair, tuple)]
    return [(first, last)] * num_bands
