"""Names and colours of classes in the files that annotation tools write next to the data."""

import csv
import json
import re
from pathlib import Path

from engine.data.formats.drawn import VOID_NAMES

NAME_FILES = (
    "classes.txt", "class_names.txt", "labels.txt", "labelmap.txt", "label_names.txt", "names.txt",
    "_classes.csv", "labels.csv", "dataset.json",
)  # fmt: skip
NUMBERED = ("_classes.csv", "labels.csv")  # tables of ids and names; the first is Roboflow's
NNUNET = "dataset.json"
COLOUR_FILES = ("class_dict.csv", "labelmap.txt", "label_colors.txt", "classes.csv")


def class_table(*folders: Path) -> tuple[list[str], dict[int, str]]:
    """Class names by id, and by packed colour, from a file that annotation tools write next to the data."""
    for folder in dict.fromkeys(folders):
        for name in dict.fromkeys((*NAME_FILES, *COLOUR_FILES)):
            if not (folder / name).is_file():
                continue
            try:
                text = (folder / name).read_text("utf-8-sig")
                rows = _labels(text) if name == NNUNET else _rows(text.splitlines())
                rows = _numbered(rows) if name in NUMBERED else rows
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                continue
            colours = {_packed(row): row[0].strip() for row in rows if _packed(row) is not None}
            names = [row[0].strip() for row in rows if row[0].strip() and not row[0].startswith("#")]
            names = [name for name in names if name.lower() not in VOID_NAMES]
            if colours or len({*names}) == len(names) >= 2:
                return ([] if colours else names), {c: n for c, n in colours.items() if c is not None}
    return [], {}


def _rows(lines: list[str]) -> list[list[str]]:
    """The cells of each line."""
    return [row for row in csv.reader(re.sub(r"[:\t]", ",", line) for line in lines) if row]


def _numbered(rows: list[list[str]]) -> list[list[str]]:
    """The names in a table of label ids and names; none where the ids are not 0, 1, 2 ..."""
    pairs = sorted((int(row[0]), row[1]) for row in rows if len(row) == 2 and row[0].strip().isdecimal())
    return [[name] for _, name in pairs] if [id for id, _ in pairs] == [*range(len(pairs))] else []


def _labels(text: str) -> list[list[str]]:
    """The names in `labels` of nnU-Net: {"background": 0}, or {"0": "background"} of its first version."""
    labels = json.loads(text)["labels"].items()
    return _numbered([[id, name] if id.isdecimal() else [str(name), id] for id, name in labels])


def _packed(row: list[str]) -> int | None:
    """0xRRGGBB of a row: name, red, green, blue."""
    numbers = [int(cell) for cell in row[1:4] if cell.strip().isdigit() and int(cell) < 256]
    return int.from_bytes(bytes(numbers), "big") if len(numbers) == 3 else None
