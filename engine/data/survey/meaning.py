"""What the values of masks mean: label ids, values to be renumbered, 0 and 255, or the colours of classes."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.doctor.soft import MIN_CLASS, are_black_and_white
from engine.data.formats.categories import is_background
from engine.data.formats.drawn import VOID_NAMES
from engine.data.formats.listing import folders_in
from engine.data.formats.masks import value_text
from engine.data.sample import DataError, first_few
from engine.data.set_options import MAX_CLASSES
from engine.data.suggested_ids import is_id, suggested_ids
from engine.data.survey.class_files import ClassTable, class_table
from engine.data.survey.values import MAX_COLOURS, Values
from engine.wording import quantity
from models.class_names import VOC

RARE = 1e-4  # share of the pixels: many colours below it come from JPEG or from resizing
CLOSE = 32  # distance in RGB of colours that JPEG makes of one
MANY_LEVELS = 128  # above, with masks of more than MAX_COLOURS values, they may be photos or probabilities
MIN_OF_LEVELS = 0.5  # share of the pixels that the values of classes have, where others are in between
VOC_VOID = 0xE0E0C0  # the colour of id 255 in PASCAL VOC's colour map
SOFT = "They were saved as JPEG, or resized with interpolation"
Meant = tuple[dict[str, Any], str]  # keys of the data section, and what was found in a line


def meaning(values: Values, base: Path, *others: Path) -> Meant:
    """Keys of the data section for these values, and what was found in a line.

    Args:
        base, others: folders that may hold a file with the names of the classes.

    Raises:
        DataError: the values cannot be classes.
    """
    table = class_table(base, *others)
    meant, line = _meaning(values, table, base)
    classes = {item if isinstance(item, str) else item["name"] for item in meant["classes"]}
    named = {*table.names, *table.colours.values()}
    if table.file and not classes & named:
        line += f"; {table.file} has {quantity(len(named), 'name')}, which do not fit"
    return meant, line


def _meaning(values: Values, table: ClassTable, base: Path) -> Meant:
    names, colours = table.names, table.colours
    if not values.pixels:
        raise DataError(f"No mask in {base} can be read. The first: {values.unreadable}")
    if values.has_colours:
        _require_one_kind(values)
        return _colours(values, colours)
    pixels = _of_one_channel(values)
    there = {value for value in pixels if value == value}
    if not there:
        raise DataError(f"The masks in {base} hold no number, only nan.")
    if _is_binary(values, there):
        bits = " of one bit" if values.forms["bool"] else " of 0 and 255"
        return _binary(names, f"masks{bits}: two classes")
    if (
        there == {0, 1, 255}
        and {1, 255} <= set().union(*values.few)
        and not any({1, 255} <= own for own in values.few)
    ):
        line = "masks of 0 and 1, and others of 0 and 255, but none with both 1 and 255: two classes"
        return _binary(names, f"{line}; for 255 as void, write data.folder.values: ids")
    if any(value != int(value) for value in there if np.isfinite(value)):
        return _fractions(pixels, names, base)
    if values.flat and not (names and max(there) < len(names)):
        soft = _soft(values, pixels, names, base)
        if soft:
            return soft
    if values.has_channels:
        return _colours(values, {})
    return _ids(values, pixels, names, base)


def _of_one_channel(values: Values) -> Counter[float]:
    """Pixels by value, where all masks have one channel or three equal ones."""
    if not values.has_channels:
        return values.pixels
    return Counter({value // 0x010101 if value > 255 else value: n for value, n in values.pixels.items()})


def _require_one_kind(values: Values) -> None:
    """Raises DataError where some masks hold colours, and others label ids."""
    if values.of_colours and values.of_ids:
        are_apart = values.of_colours.parent != values.of_ids.parent
        several = (
            " If the folder holds several data sets, type the folder of one of them." if are_apart else ""
        )
        raise DataError(
            f"{values.of_colours} holds colours, and {values.of_ids} has one channel, as masks of ids have. "
            f"Export all masks as one of the two.{several}"
        )


def _is_binary(values: Values, there: set[float]) -> bool:
    if len(there) < len(values.pixels) or values.nodata & there:  # void has no value in such masks
        return False
    return (there <= {0, 255} and 255 in there) or (there <= {0, 1} and values.forms["bool"] > 0)


def _binary(names: list[str], line: str) -> Meant:
    fit = len(names) == 2 and not {name.lower() for name in names} & {*VOID_NAMES}
    classes = names if fit else ["background", "class_1"]
    return {"classes": classes, "folder": {"values": "binary"}}, line


def _fractions(pixels: Counter[float], names: list[str], base: Path) -> Meant:
    """Probabilities of one class."""
    odd = [(value, n) for value, n in pixels.most_common() if np.isfinite(value) and value != int(value)]
    if all(0 <= value <= 1 for value in pixels if value == value):
        share = sum(n for _, n in odd) / pixels.total()
        line = f"masks of probabilities, {share:.1%} of the pixels between 0 and 1: two classes"
        return _binary(names, f"{line}; 0.5 is the threshold of --fix")
    shown = first_few([f"{value_text(value)} ({quantity(n, 'pixel')})" for value, n in odd])
    raise DataError(
        f"The masks in {base} hold {shown}: values between whole numbers are no classes. Save masks of whole "
        "ids, or of probabilities from 0 to 1."
    )


def _soft(values: Values, pixels: Counter[float], names: list[str], base: Path) -> Meant | None:
    """Gray masks of two classes, softened; or of a few levels, which JPEG or resizing changed; else None."""
    levels, counts = np.array([*pixels]), np.array([*pixels.values()])
    num_rare = (counts < RARE * counts.sum()).sum()
    if not (values.are_jpeg or len(levels) > MANY_LEVELS or num_rare > MAX_COLOURS / 2):
        return None
    if are_black_and_white(levels, counts):
        between = quantity(len(levels) - 2, "value")
        line = f"masks of black and white with {between} in between: two classes. {SOFT}"
        return _binary(names, f"{line}, or are probabilities; half of the range is the threshold of --fix")
    if values.are_jpeg:
        return _colours(values, {})
    if sum(pixels[colour & 255] for colour in _centres(values.flat)) < MIN_OF_LEVELS * counts.sum():
        raise DataError(
            f"The masks in {base} hold {len(levels)} gray values, more than {MAX_COLOURS} in a single mask. "
            "Are they photos? Save masks of the ids of classes; or of probabilities of one class, with most "
            "pixels near 0 and 255."
        )
    return _colours(values, {}) if num_rare > MAX_COLOURS / 2 else None


def _ids(values: Values, pixels: Counter[float], names: list[str], base: Path) -> Meant:
    there = sorted(pixels, key=lambda value: (value != value, value))
    nodata = values.nodata if sum(is_id(v) and v not in values.nodata for v in there) > 1 else set()
    ids = [int(value) for value in there if is_id(value) and value not in nodata]
    void = [value_text(value) for value in there if not is_id(value) or value in nodata]
    line = f"masks of {quantity(len(ids), 'id')}" + (f", void is {', '.join(void)}" if void else "")
    if len(ids) > MAX_CLASSES:
        counts = np.array([pixels[value] for value in ids])
        if set(values.forms) == {"uint16"} and are_black_and_white(np.array(ids) // 257, counts):
            line = "masks of black and white, or of probabilities, of 16 bits: two classes"
            return _binary(names, f"{line}; half of the range is the threshold of --fix")
        raise DataError(
            f"The masks in {base} hold {len(ids):,} values, and label ids go from 0 to {MAX_CLASSES - 1}. "
            "Do they number objects instead of classes? If they are probabilities of one class, save them "
            "with 8 or 16 bits over the whole range, or as floats from 0 to 1."
        )
    if names and ids == [*range(len(names) + 1)] and not any(map(is_background, names)):
        names = ["background", *names]  # which lists of objects leave out
    is_plain = set(values.forms) == {"uint8"} and void in ([], ["255"]) and not values.nodata & {*ids}
    if is_plain and ids and (ids == [*range(len(ids))] or (names and max(ids) < len(names))):
        classes = names if len(names) > max(ids) else _numbered(max(ids) + 1)
        return {"classes": classes}, f"masks of ids 0 to {max(ids)}" + (", void is 255" if void else "")
    if is_plain and ids and not names and max(ids) < len(VOC) and "SegmentationClass" in folders_in(base):
        line = f"masks of {len(ids)} of the {len(VOC)} ids of PASCAL VOC, whose names they get"
        return {"classes": list(VOC)}, line
    if is_plain and (levels := _levels(ids, void)):
        line = (
            f"masks of {len(levels)} gray levels at even distances, of which 255 is a class like the others"
        )
        return {"classes": _named(names, [*levels], pixels), "ids": levels}, line
    table = suggested_ids(there, None if len(names) in (0, len(ids)) else len(names), nodata)
    num_classes = sum(label != "void" for label in table.values())
    if num_classes == 1 and len(table) == 2 and void and not void[0].startswith(("-", "n", "i")):
        table = {value_text(ids[0]): 0, void[0]: 1}  # black and white of 16 bits
        num_classes = 2
    if not num_classes:
        raise DataError(
            f"The masks in {base} hold only {first_few([*map(value_text, there)])}, and no class."
        )
    classes = _named(names, [value for value, label in table.items() if label != "void"], pixels)
    shown = first_few([f"{value} is {label}" for value, label in table.items()], 8)
    line = f"masks of {quantity(len(table), 'value')}, read by data.ids: {shown}"
    return {"classes": classes, "ids": table}, line


def _colours(values: Values, table: dict[int, str]) -> Meant:
    """Classes by colour, black first, then by frequency; or as a file of the data set names them."""
    pixels = values.pixels
    found = [int(value) for value, count in pixels.most_common() if count >= RARE * pixels.total()]
    rare = len(pixels) - len(found)
    is_soft = values.are_jpeg or len(found) > MAX_COLOURS or rare > MAX_COLOURS
    if is_soft and not table:
        found = _centres(values.flat)
    if (len(found) > MAX_COLOURS or not found) and not table:
        raise DataError(
            f"The masks hold {len(pixels):,} colours, and no few that classes could have: are they photos? "
            "Masks have one colour a class; save them as PNG, from the program that drew them."
        )
    if len(table or found) < 2:
        hint = " JPEG changes ids that are close to each other: export them as PNG." if is_soft else ""
        raise DataError(f"The masks hold a single colour, and no class can be told from another.{hint}")
    if table and (is_soft or {*found} <= {*table}):
        void = [colour for colour, name in table.items() if name.lower() in VOID_NAMES]
        named = {colour: name for colour, name in table.items() if colour not in void}
        line = f"masks in the {len(table)} colours that a file names"
    else:
        ordered = found if is_soft else [*map(int, pixels)]
        ordered.sort(key=lambda colour: (colour != 0, -pixels[colour]))
        line = f"masks in {len(ordered)} colours, by frequency: {first_few([_rgb(c) for c in ordered], 8)}"
        void = [VOC_VOID] if VOC_VOID in ordered and len(ordered) > 2 else []
        if void:
            line += f"; {_rgb(VOC_VOID)} is void, as in PASCAL VOC"
        ordered = [colour for colour in ordered if colour not in void]
        named = dict(zip(ordered, _numbered(len(ordered)), strict=True))
    classes = [{"name": name, "colour": _rgb(colour)} for colour, name in named.items()]
    if is_soft:
        line += f"; besides, {quantity(len(pixels) - len(classes), 'other')}. {SOFT}"
    folder = {"folder": {"void_colours": [_rgb(c) for c in void]}} if void else {}
    return {"classes": classes, **folder}, line


def _centres(flat: Counter[int]) -> list[int]:
    """The colours of flat regions, one for those that are close to each other, the most frequent first."""
    packed, counts = np.array([*flat], np.int64), np.array([*flat.values()], np.int64)
    channels = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)  # (k, 3)
    left = counts.copy()
    centres: list[int] = []
    while left.any() and len(centres) <= MAX_COLOURS:
        first = int(left.argmax())
        close = np.linalg.norm(channels - channels[first], axis=1) <= CLOSE
        if left[close].sum() >= MIN_CLASS * counts.sum():
            centres.append(int(packed[first]))
        left[close] = 0
    return centres


def _rgb(colour: int) -> list[int]:
    return [colour >> 16 & 255, colour >> 8 & 255, colour & 255]


def _levels(ids: list[int], void: list[str]) -> dict[str, int | str]:
    """Label ids of gray levels that divide 0 to 255 evenly, such as 0, 128 and 255; none for other values."""
    levels = [*ids, 255]
    even = np.linspace(0, 255, len(levels))
    if void != ["255"] or len(levels) < 3 or np.abs(even - levels).max() > 1:
        return {}
    return {str(level): label for label, level in enumerate(levels)}


def _named(names: list[str], values: list[str], pixels: Counter[float]) -> list[str]:
    """Names for the classes of these stored values; the first is a background if it is 0, or the largest."""
    if len(names) == len(values):
        return names
    largest = max(values, key=lambda value: pixels[float(value)])
    if float(values[0]) == 0 or values[0] == largest:
        return _numbered(len(values))
    return [f"class_{id}" for id in range(1, len(values) + 1)]


def _numbered(num_classes: int) -> list[str]:
    return ["background", *(f"class_{id}" for id in range(1, max(2, num_classes)))]
