"""A suggestion for data.ids: a label id, or void, for each value that the masks hold."""

import math
from collections.abc import Collection

from engine.data.formats.masks import value_text

LARGEST = (255, 32767, 65535, 2147483647, 4294967295)  # of a pixel type: usually "no data"


def suggested_ids(
    values: Collection[float], num_classes: int | None = None, nodata: Collection[float] = ()
) -> dict[str, int | str]:
    """By the stored value, void first.

    Values that no id can be are void: not finite, negative, fractional, the largest of a pixel type, or one
    of `nodata`. The others are numbered in their order if there are as many as classes, and most are not ids
    below their number already or they run from 1; with one more, of which one is 0, 0 is void ("other"). Else
    they are ids, and void if they have no class; the ids of classes that do not occur are named too.

    Args:
        values: those that occur.
        num_classes: of the recipe; None for one per value.
        nodata: those that the files declare as "no data".
    """
    plain = sorted(value for value in values if is_id(value) and value not in nodata)
    ids = plain[1:] if num_classes and plain[:1] == [0] and len(plain) == num_classes + 1 else plain
    from_one = bool(ids) and ids == [*range(1, len(ids) + 1)]
    mostly_ids = num_classes is not None and sum(value < num_classes for value in ids) > len(ids) / 2
    if num_classes is None or (len(ids) == num_classes and (from_one or not mostly_ids)):
        labels = {value: label for label, value in enumerate(ids)}
    else:
        labels = {float(id): id for id in range(num_classes) if id not in nodata}
    ordered = sorted({*values, *labels}, key=lambda value: (value in labels, math.isfinite(value), value))
    return {value_text(value): labels.get(value, "void") for value in ordered}


def is_id(value: float) -> bool:
    """Whether a stored value could be the id of a class."""
    return math.isfinite(value) and value >= 0 and value == int(value) and value not in LARGEST


def ids_text(ids: dict[str, int | str]) -> str:
    """As a recipe or a command line takes it: {0: void, 85: 0, 170: 1}."""
    return "{" + ", ".join(f"{value}: {label}" for value, label in ids.items()) + "}"
