"""Names and colours of classes in the files that annotation tools write next to the data."""

import csv
import re
from pathlib import Path

from engine.data.formats.drawn import VOID_NAMES

NAME_FILES = ("classes.txt", "class_names.txt", "labels.txt", "labelmap.txt", "label_names.txt", "names.txt")
COLOUR_FILES = ("class_dict.csv", "labelmap.txt", "label_colors.txt", "classes.csv")


def class_table(*folders: Path) -> tuple[list[str], dict[int, str]]:
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
