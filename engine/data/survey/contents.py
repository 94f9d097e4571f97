"""Folders of photos and of masks by what their files hold, where the names of the folders do not say it."""

import math
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.mask_facts import pack
from engine.data.formats.bands import stored_values
from engine.data.formats.folder import names_below
from engine.data.formats.images import TIFF_ENDINGS
from engine.data.formats.listing import images_below, is_of_a_tool
from engine.data.formats.pairing import pair_up
from engine.data.formats.tiff import any_header
from engine.data.gdal import NotInstalled
from engine.data.rasters import BLOCK_PX, Raster, Span, open_mask
from engine.data.sample import DataError
from engine.data.survey.values import MAX_COLOURS
from engine.wording import quantity

NUM_PARTS, WHOLE_PX = 3, 2048**2
MAX_FOLDERS = 12  # more are no folders of photos and of masks, but of samples


def pairs_by_content(base: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """(images, masks) among the folders `names` of `base`: the files have the same names, those of one folder
    hold few values, and those of the other many.

    Raises:
        DataError: there are several such pairs, and nothing tells which is meant.
    """
    names = [name for name in names if not is_of_a_tool(name)]
    if not 2 <= len(names) <= MAX_FOLDERS:
        return []
    hold_few = {name: _hold_few_values(base / name) for name in names}
    pairs = [
        (images, masks)
        for images, masks in permutations(names, 2)
        if hold_few[images] is False and hold_few[masks] is True and _are_pairs(base / images, base / masks)
    ]
    if len(pairs) > 1:
        listed = " or ".join(f"{images} with masks in {masks}" for images, masks in pairs)
        images, masks = pairs[0]
        raise DataError(
            f"{quantity(len(pairs), 'pair')} of folders in {base} hold photos and masks of the same names: "
            f"{listed}. Move out of {base} what is not meant, or write a recipe with data.format: folder, "
            f"data.root: {base} and data.folder: {{images: {images}, masks: {masks}, val_share: 0.2}} "
            "(docs/data.md)."
        )
    return pairs


def _hold_few_values(folder: Path) -> bool | None:
    """Whether the files hold no more values than masks do; None where they differ, hold one value each (the
    field of view of a camera, say), or cannot be read.

    The first, the middle and the last are read.
    """
    paths = images_below(folder)
    found, most = set(), 0
    for path in {*paths[:1], *paths[len(paths) // 2 :][:1], *paths[-1:]}:
        try:
            number = num_values(path)
        except DataError:  # damaged: the others tell
            continue
        found.add(number <= MAX_COLOURS)
        most = max(most, number)
    return found.pop() if len(found) == 1 and most > 1 else None


def num_values(path: Path) -> int:
    """How many values or colours an image holds.

    Raises:
        UnreadableSample: it cannot be read as a whole.
    """
    return _num_different(stored_values(path))


def num_values_in_parts(path: Path) -> int:
    """As `num_values`; of a TIFF of more than WHOLE_PX pixels, in NUM_PARTS x NUM_PARTS windows of it.

    It may be one that is predicted by tiles, and larger than the memory.
    """
    if path.suffix.lower() not in TIFF_ENDINGS or math.prod(any_header(path)[0]) <= WHOLE_PX:
        return num_values(path)
    try:
        with open_mask(path, as_colours=False) as raster:
            return _num_different(_parts(raster)) if raster else num_values(path)
    except NotInstalled:  # then it cannot be read by tiles either
        return num_values(path)


def _parts(raster: Raster) -> NDArray[Any]:
    """(1, pixels, channels)"""
    rows, columns = ([_span(part, side) for part in range(NUM_PARTS)] for side in raster.size)
    windows = [raster.read(*window) for window in product(rows, columns)]  # (n, height, width) each
    return np.concatenate([window.reshape(len(window), -1) for window in windows], axis=1).T[None]


def _span(part: int, side: int) -> Span:
    """Of a window around the middle of one of NUM_PARTS equal parts of a side."""
    start = max(0, (2 * part + 1) * side // (2 * NUM_PARTS) - BLOCK_PX // 2)
    return start, min(side, start + BLOCK_PX)


def _num_different(values: NDArray[Any]) -> int:
    """Of (h, w), or (h, w, channels), of which three or more bytes are a colour."""
    if values.dtype == np.uint8 and values.ndim == 3 and values.shape[2] >= 3:
        values = pack(values[..., :3])
    return len(np.unique(values))


def _are_pairs(images: Path, masks: Path) -> bool:
    try:
        return bool(pair_up(names_below(images), names_below(masks)))
    except DataError:
        return False
