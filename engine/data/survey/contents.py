"""Folders of photos and of masks by what their files hold, where the names of the folders do not say it."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from engine.data.doctor.mask_facts import pack
from engine.data.formats.bands import stored_values
from engine.data.formats.folder import names_below
from engine.data.formats.listing import images_below, is_of_a_tool
from engine.data.formats.pairing import pair_up
from engine.data.sample import DataError
from engine.data.survey.values import MAX_COLOURS
from engine.wording import quantity

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
    values = stored_values(path)
    if values.dtype == np.uint8 and values.ndim == 3 and values.shape[2] >= 3:
        values = pack(values[..., :3])
    return len(np.unique(values))


def _are_pairs(images: Path, masks: Path) -> bool:
    try:
        return bool(pair_up(names_below(images), names_below(masks)))
    except DataError:
        return False
