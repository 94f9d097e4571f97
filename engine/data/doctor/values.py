"""Each value of the masks: what it stands for, how many masks hold it, its share of every split."""

from typing import Any

import numpy as np

from engine.data.doctor.mask_facts import has_colours, shown
from engine.data.doctor.meaning import OUTSIDE, Meaning
from engine.data.doctor.scan import Facts

MAX_ROWS = 256  # the most frequent; where photos stand in place of masks there are millions


def value_rows(facts: Facts, meaning: Meaning) -> list[dict[str, Any]]:
    """Rows of value, name ("void", "unknown" or a class), masks, and share: split -> of all its pixels.

    A colour is written (r, g, b). The values of blended borders stand in one row, "blends".
    """
    listing, entries = facts.listing, facts.entries
    keys = np.where(meaning.is_blend, -1, entries["value"])  # (k,)
    keys_there, first, place = np.unique(keys, return_index=True, return_inverse=True)
    n = len(keys_there)
    masks = np.bincount(np.unique(np.stack([place, entries["file"]]), axis=1)[0], minlength=n)
    pixels = {}
    for split, indices in listing.splits.items():
        own = np.isin(entries["file"], indices)
        pixels[split] = np.bincount(place[own], entries["count"][own], n)
    total = sum(pixels.values(), np.zeros(n))
    kept = np.sort(np.argsort(-total, kind="stable")[:MAX_ROWS])
    return [
        {
            "value": _value(int(keys_there[row]), facts.forms[entries["file"][first[row]]]),
            "name": "blends" if keys_there[row] < 0 else _name(facts, int(meaning.labels[first[row]])),
            "masks": int(masks[row]),
            "share": {split: float(p[row] / max(1.0, p.sum())) for split, p in pixels.items()},
        }
        for row in kept
    ]


def _value(key: int, form: str) -> int | str:
    if key < 0:
        return "blends"
    return shown(key, form) if has_colours(form) else key


def _name(facts: Facts, label: int) -> str:
    if label == facts.listing.ignore_index:
        return "void"
    return "unknown" if label == OUTSIDE else facts.listing.class_names[label]
