"""A mask with its systematic errors corrected."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.mask_facts import borders, has_colours, pack
from engine.data.doctor.meaning import MENDED, Meaning, colour_of
from engine.data.doctor.scan import Facts
from engine.data.doctor.soft import nearest_labels
from engine.data.formats.masks import BlackAndWhite, Colours, single_channel

REPAIRED = {  # what happened to masks; `void` counts pixels
    "grey": "of three equal channels became ids",
    "rgb": "in class colours became ids",
    "bgr": "had red and blue swapped back",
    "wide": "became 8-bit ids",
    "scheme": "got renumbered ids",
    "permuted": "took the ids of the colours",
    "rainbow": "had interpolated borders made void",
    "soft": "got the nearest class in place of soft values",
    "void": "close to no class became void",
    "ids": "became 8-bit label ids",
    "size": "resized to the image with nearest neighbour",
}


def repaired(stored: NDArray[Any], i: int, facts: Facts, meaning: Meaning) -> tuple[NDArray[Any], list[str]]:
    """Mask i as the copy holds it, (h, w) ids or (h, w, 3) colours, and the changes: see REPAIRED."""
    if not isinstance(facts.listing.encoding, MENDED):
        return stored, []
    reading, void = meaning.reading[i], facts.listing.ignore_index
    kinds = [reading] if reading in REPAIRED else []
    if reading == "bgr" and meaning.takes_colours:
        stored = np.ascontiguousarray(stored[..., 2::-1])
    if meaning.as_ids:
        return _label_ids(stored, i, facts, meaning), [*kinds, "soft" if meaning.is_soft[i] else "ids"]
    if reading == "bgr" and meaning.takes_colours:
        return stored, kinds
    if reading in ("rgb", "bgr"):
        return _ids_of_colours(stored, meaning.table, reading == "bgr", void), kinds
    if reading == "colours" or (has_colours(facts.forms[i]) and not reading):
        return stored, []
    ids = stored[..., 0] if stored.ndim == 3 else stored  # (h, w)
    if reading == "wide" and meaning.is_unclear[i] and not meaning.scheme:
        return stored, []
    change = np.arange(256, dtype=np.uint8)
    if meaning.scheme:
        kinds.append("scheme")
        change = _renumbered(meaning.scheme, len(facts.listing.class_names))
    if meaning.is_permuted[i]:
        kinds.append("permuted")
        palette = facts.palettes[facts.palette_of[i]]
        for value in map(int, facts.counts_of(i)):
            change[value] = meaning.table.get(colour_of(palette, value), value)
    labels = change[ids.astype(np.uint8)]
    if meaning.is_rainbow[i]:
        kinds.append("rainbow")
        labels[np.isin(ids, meaning.blends_of(i)) | borders(ids)[1]] = void
    return labels, kinds


def _label_ids(stored: NDArray[Any], i: int, facts: Facts, meaning: Meaning) -> NDArray[np.uint8]:
    """(h, w) label ids of a mask of other values."""
    encoding = facts.listing.encoding
    if not meaning.is_soft[i]:
        return encoding(stored, facts.listing.samples[i].mask or Path())
    assert isinstance(encoding, Colours | BlackAndWhite)
    pixels = single_channel(stored) if not has_colours(facts.forms[i]) else pack(stored[..., :3])
    assert pixels is not None
    values, place = np.unique(pixels, return_inverse=True)
    form = facts.forms[i]
    labels, _ = nearest_labels(
        encoding, values, form, facts.listing.ignore_index, meaning.white_of_forms[form]
    )
    return labels[place].reshape(pixels.shape)


def _renumbered(scheme: str, num_classes: int) -> NDArray[np.uint8]:
    change = np.arange(256, dtype=np.uint8)
    if scheme == "binary":
        change[255] = 1
    else:
        change[1 : num_classes + 1] = np.arange(num_classes)
    return change


def _ids_of_colours(
    stored: NDArray[Any], table: dict[int, int], is_bgr: bool, void: int
) -> NDArray[np.uint8]:
    """(h, w, channels) -> (h, w); a colour that is not in the table is interpolated and becomes void."""
    packed = pack(stored[..., 2::-1] if is_bgr else stored[..., :3])
    colours, place = np.unique(packed, return_inverse=True)
    ids = np.array([table.get(int(colour), void) for colour in colours], np.uint8)
    return ids[place].reshape(packed.shape)
