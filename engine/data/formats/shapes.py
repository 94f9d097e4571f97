"""COCO's two encodings of an area, as pixels: polygons, and run lengths (RLE), plain or compressed to text.

A pixel belongs to a polygon if its centre does (even-odd rule); pixel (row, column) spans row..row + 1 and
column..column + 1, as in pycocotools, which however rounds corners to a fifth of a pixel.
Run lengths go down the columns, starting with the pixels outside.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.data.sample import DataError

Area = NDArray[np.bool_]
BEYOND = 0.1  # of a side: an outline may leave the image by this much, and is cut at its edge


def area_of(segmentation: Sequence[ArrayLike] | dict[str, Any], h: int, w: int) -> Area:
    """(h, w): the union of a list of polygons [x0, y0, x1, y1, ...], or a dict with `counts` and `size`.

    Raises:
        DataError: it is neither, or has another size.
    """
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != [h, w]:
            raise DataError(f"run lengths of size {segmentation.get('size')} in an image of {[h, w]}")
        return _from_run_lengths(segmentation.get("counts", ()), h, w)
    area = np.zeros((h, w), bool)
    for numbers in segmentation:
        points = np.asarray(numbers, np.float64)
        if points.ndim != 1 or points.size % 2 or not np.isfinite(points).all():
            raise DataError("a polygon that is not a list of x, y, x, y, ...")
        _fill(area, points.reshape(-1, 2))
    return area


def require_inside(points: NDArray[np.float64], h: int, w: int) -> None:
    """Raises DataError where one of (k, 2) points is far outside the image."""
    beyond = BEYOND * np.array([w, h])
    outside = ((points < -beyond) | (points > np.array([w, h]) + beyond)).any(axis=1)
    if outside.any():
        x, y = points[outside][0]
        raise DataError(f"a polygon with a point at ({x:g}, {y:g}), outside the image of {w}x{h} px")


def _fill(area: Area, points: NDArray[np.float64]) -> None:
    """Add the interior of one closed polygon, (k, 2) of x and y, to an area."""
    h, w = area.shape
    x0, y0 = points.T
    x1, y1 = np.roll(points, -1, axis=0).T
    # An edge crosses the middle of the rows first..last - 1 (half open, so that corners count once).
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, h).astype(int)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, h).astype(int)
    num_rows = last - first
    if not num_rows.any():
        return
    edge = np.repeat(np.arange(len(points)), num_rows)  # one entry per crossing
    row = first[edge] + np.arange(len(edge)) - np.repeat(num_rows.cumsum() - num_rows, num_rows)
    x = x0[edge] + (row + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    # The first pixel whose centre is at x or right of it.
    column = np.clip(np.ceil(x - 0.5), 0, w).astype(int)
    top, left, height, width = row.min(), column.min(), np.ptp(row) + 1, np.ptp(column) + 1
    places = (row - top) * width + column - left
    crossings = np.bincount(places, minlength=height * width).reshape(height, width)
    inside = crossings.cumsum(axis=1) % 2 == 1
    window = np.s_[top : top + height, left : left + width]
    area[window] |= inside[:, : area[window].shape[1]]


def _from_run_lengths(counts: list[int] | str, h: int, w: int) -> Area:
    lengths = _unpack(counts) if isinstance(counts, str) else counts
    try:
        runs = np.asarray(lengths, np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError("run lengths that are not numbers") from error
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != h * w:
        raise DataError(f"run lengths that do not fill {h} x {w} pixels")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(w, h).T


def _unpack(text: str) -> list[int]:
    """Run lengths from text: groups of 5 bits, the lowest first, one per character, offset by "0".

    The sixth bit of a character says that another follows, the fifth of the last one is the sign; from the
    fourth number on, the difference to the number two before is stored.
    """
    numbers: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        numbers.append(value + numbers[-2] if len(numbers) > 2 else value)
        value, shift = 0, 0
    return numbers
