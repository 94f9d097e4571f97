"""What the values of masks mean: label ids, ids to be renumbered, 0 and 255, or the colours of classes."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.mask_facts import pack
from engine.data.formats.files import FileDataset
from engine.data.formats.listing import folders_in
from engine.data.formats.pairing import PHOTO_ENDINGS
from engine.data.sample import DataError, first_few
from models.class_names import VOC

NAME_FILES = ("classes.txt", "class_names.txt", "labels.txt", "labelmap.txt", "label_names.txt", "names.txt")
COLOUR_FILES = ("class_dict.csv", "labelmap.txt", "label_colors.txt", "classes.csv")
VOID_NAMES = ("void", "ignore", "__ignore__", "unlabelled", "unlabeled")
MAX_COLOURS = 64  # above, masks are not drawn in the colours of classes
RARE = 1e-4  # share of the pixels: many colours below it come from JPEG or from resizing
SOFT = (
    "they were saved as JPEG, or resized with interpolation, or are photos. Save them as PNG, from "
    "the program that drew them."
)


@dataclass
class Values:
    """What the masks hold: pixels by value (or by packed colour), over all masks, and their pixel types."""

    pixels: Counter[float] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    has_colours: bool = False
    are_jpeg: bool = False


def read_values(datasets: Sequence[FileDataset], progress: Callable[[int, int], None]) -> Values:
    values, done, total = Values(), 0, sum(map(len, datasets))
    for dataset in datasets:
        for index in range(len(dataset)):
            try:
                stored = dataset.stored_mask(index)
            except DataError:  # the doctor counts and names them
                continue
            finally:
                done += 1
                progress(done, total)
            values.forms[stored.dtype.name] += 1
            values.are_jpeg |= dataset.mask_path(index).suffix.lower() in PHOTO_ENDINGS
            colours, counts = np.unique(_single(stored, values), return_counts=True)
            values.pixels.update(dict(zip(colours.tolist(), counts.tolist(), strict=True)))
    nan = sum(
        count for value, count in values.pixels.items() if value != value
    )  # each NaN is a key of its own
    if nan:
        values.pixels = Counter({v: n for v, n in values.pixels.items() if v == v} | {float("nan"): nan})
    return values


def _single(stored: NDArray[Any], values: Values) -> NDArray[Any]:
    """(h, w): the values, or packed colours."""
    if stored.ndim == 2:
        return stored
    if stored.shape[2] < 3 or (stored[..., :3] == stored[..., :1]).all():
        single: NDArray[Any] = stored[..., 0]
        return single.astype(np.uint32) * 0x010101 if stored.shape[2] >= 3 else single
    values.has_colours = True
    return pack(stored[..., :3])


def meaning(values: Values, base: Path, root: Path) -> tuple[dict[str, Any], str]:
    """Keys of the data section for these values, and what was found in a line.

    Raises:
        DataError: the values cannot be classes.
    """
    names, colours = _class_table(base, root)
    pixels = values.pixels
    if values.has_colours:
        return _colours(pixels, colours)
    packed = {value for value in pixels if value > 255 and value % 0x010101 == 0}
    if packed and {value for value in pixels if value} == packed:  # three equal channels hold the id
        pixels = Counter({value // 0x010101: count for value, count in pixels.items()})
        if set(pixels) - {0, 255}:
            grey = {v * 0x010101: n for v, n in pixels.items()}
            return _colours(Counter(grey), {})
    there = sorted(value for value in pixels if value == value)
    if not there:
        raise DataError(f"No mask in {base} can be read.")
    if set(there) <= {0, 255} and 255 in there:
        classes = names if len(names) == 2 else ["background", "class_1"]
        return {"classes": classes, "folder": {"values": "binary"}}, "masks of 0 and 255: two classes"
    if set(there) <= {0, 1} and values.forms["bool"]:
        classes = names if len(names) == 2 else ["background", "class_1"]
        return {"classes": classes, "folder": {"values": "binary"}}, "masks of one bit: two classes"
    odd = [value for value in there if value != int(value)]
    if odd:
        raise DataError(
            f"The masks in {base} hold {first_few(odd)}: values between whole numbers, such as "
            "probabilities, are no classes. Save masks of whole ids, for example (mask > 0.5) as 0 and 255."
        )
    rare = [value for value in there if pixels[value] < RARE * pixels.total()]
    if values.are_jpeg or (len(there) > MAX_COLOURS and len(rare) > len(there) / 2):
        raise DataError(f"The masks in {base} hold {len(there)} values, most of them rare: {SOFT}")
    void = [value for value in there if value in (255, 65535) or value < 0]
    ids = [int(value) for value in there if value not in void]
    if not ids:
        raise DataError(f"The masks in {base} hold only {first_few(there)}, and no class.")
    plain = set(values.forms) <= {"uint8"} and not any(value < 0 for value in void) and 65535 not in void
    if plain and (ids == [*range(len(ids))] or (names and max(ids) < len(names))):
        classes = names if len(names) > max(ids) else _numbered(max(max(ids), 1) + 1)
        line = f"masks of ids 0 to {max(ids)}" + (", void is 255" if void else "")
        return {"classes": classes}, line
    if plain and not names and max(ids) < len(VOC) and "SegmentationClass" in folders_in(base):
        line = f"masks of {len(ids)} of the {len(VOC)} ids of PASCAL VOC, whose names they get"
        return {"classes": list(VOC)}, line
    classes = names if len(names) == len(ids) else _numbered(len(ids))
    table: dict[str, int | str] = {str(int(value)): "void" for value in void}
    if any(value != value for value in pixels):
        table["nan"] = "void"
    table |= {str(id): label for label, id in enumerate(ids)}
    shown = ", ".join(f"{value} is {label}" for value, label in list(table.items())[:8])
    return {"classes": classes, "ids": table}, f"masks of {len(ids)} values, renumbered: {shown}"


def _colours(pixels: Counter[float], table: dict[int, str]) -> tuple[dict[str, Any], str]:
    """Classes by colour, black first, then by frequency; or as a file of the data set names them."""
    total = pixels.total()
    found = [int(value) for value, count in pixels.most_common() if count >= RARE * total]
    rare = len(pixels) - len(found)
    unknown = [colour for colour in found if table and colour not in table]
    if len(found) > MAX_COLOURS or rare > MAX_COLOURS:
        raise DataError(f"The masks hold {len(pixels):,} colours, {rare:,} of them rare: {SOFT}")
    if table and not unknown:
        void = [colour for colour, name in table.items() if name.lower() in VOID_NAMES]
        named = {colour: name for colour, name in table.items() if colour not in void}
        line = f"masks in {len(found)} of the {len(table)} colours that a file names"
    else:
        ordered = sorted(map(int, pixels), key=lambda colour: (colour != 0, -pixels[colour]))
        void, labels = [], _numbered(len(ordered))
        named = dict(zip(ordered, labels, strict=True))
        line = f"masks in {len(ordered)} colours, by frequency: {first_few([_rgb(c) for c in ordered], 8)}"
    classes = [{"name": name, "colour": _rgb(colour)} for colour, name in named.items()]
    if len(classes) < 2:
        raise DataError("The masks hold a single colour, and no class can be told from another.")
    return {
        "classes": classes,
        **({"folder": {"void_colours": [_rgb(c) for c in void]}} if void else {}),
    }, line


def _rgb(colour: int) -> list[int]:
    return [colour >> 16 & 255, colour >> 8 & 255, colour & 255]


def _numbered(num_classes: int) -> list[str]:
    return ["background", *(f"class_{id}" for id in range(1, num_classes))]


def _class_table(*folders: Path) -> tuple[list[str], dict[int, str]]:
    """Class names by id, and by packed colour, from a file that annotation tools write next to the data."""
    for folder in dict.fromkeys(folders):
        for name in dict.fromkeys((*NAME_FILES, *COLOUR_FILES)):
            if not (folder / name).is_file():
                continue
            try:
                lines = (folder / name).read_text("utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError):
                continue
            rows = [row for row in csv.reader(re.sub(r"[:\t]", ",", line) for line in lines) if row]
            colours = {_packed(row): row[0].strip() for row in rows if _packed(row) is not None}
            names = [row[0].strip() for row in rows if row[0].strip() and not row[0].startswith("#")]
            names = [name for name in names if name.lower() not in VOID_NAMES]
            if colours or len({*names}) == len(names) >= 2:
                return ([] if colours else names), {c: n for c, n in colours.items() if c is not None}
    return [], {}


def _packed(row: list[str]) -> int | None:
    """0xRRGGBB of a row: name, red, green, blue."""
    numbers = [int(cell) for cell in row[1:4] if cell.strip().isdigit() and int(cell) < 256]
    return int.from_bytes(bytes(numbers), "big") if len(numbers) == 3 else None
