"""Names and colours of classes in the files that annotation tools write next to the data."""

import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from engine.data.formats.drawn import VOID_NAMES

NAME_FILES = (
    "classes.txt", "class_names.txt", "labels.txt", "labelmap.txt", "label_names.txt", "names.txt",
    "_classes.csv", "labels.csv", "dataset.json",
)  # fmt: skip
NUMBERED = ("_classes.csv", "labels.csv")  # tables of ids and names; the first is Roboflow's
NNUNET = "dataset.json"
NO_ID = "__ignore__"  # the first line of LabelMe's labels.txt, which stands for id -1
COLOUR_FILES = ("class_dict.csv", "labelmap.txt", "label_colors.txt", "classes.csv")


@dataclass(frozen=True)
class ClassTable:
    """names: by id, void included. colours: names by packed colour. file: None where there is none."""

    names: list[str] = field(default_factory=list)
    colours: dict[int, str] = field(default_factory=dict)
    file: Path | None = None

    @property
    def classes(self) -> list[str]:
        return [name for name in self.names if name.lower() not in VOID_NAMES]


def class_table(*folders: Path) -> ClassTable:
    """The names in the first file of classes, as annotation tools write one next to the data."""
    for folder in dict.fromkeys(folders):
        for name in dict.fromkeys((*NAME_FILES, *COLOUR_FILES)):
            if not (folder / name).is_file():
                continue
            try:
                text = (folder / name).read_text("utf-8-sig")
                rows = _labels(text) if name == NNUNET else _rows(text.splitlines())
                rows = _numbered(rows) if name in NUMBERED or _are_numbered(rows) else rows
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                continue
            colours = {_packed(row): row[0].strip() for row in rows if _packed(row) is not None}
            names = [row[0].strip() for row in rows if row[0].strip() and not row[0].startswith("#")]
            names = [name for name in names if name != NO_ID]
            while names and names[-1].lower() in VOID_NAMES:  # has no id of its own
                names.pop()
            if colours or len({*names}) == len(names) >= 2:
                by_colour = {c: n for c, n in colours.items() if c is not None}
                return ClassTable([] if colours else names, by_colour, folder / name)
    return ClassTable()


def _rows(lines: list[str]) -> list[list[str]]:
    """The cells of each line; where each has an id before its name (`0: road`, `0 road`), these two."""
    lines = [line for line in map(str.strip, lines) if line]
    pairs = [re.fullmatch(r"(\d+)[\s:=.)]+([^\d,;][^,;]*)", line) for line in lines]
    if all(pairs):
        return [[*pair.groups()] for pair in pairs if pair]
    return [row for row in csv.reader(re.sub(r"[:\t]", ",", line) for line in lines) if row]


def _are_numbered(rows: list[list[str]]) -> bool:
    return bool(rows) and all(len(row) == 2 and row[0].strip().isdecimal() for row in rows)


def _numbered(rows: list[list[str]]) -> list[list[str]]:
    """The names by id in a table of label ids and names; none where the ids have gaps.

    Where they begin with 1, 0 is a background.
    """
    pairs = sorted((int(row[0]), row[1]) for row in rows if len(row) == 2 and row[0].strip().isdecimal())
    if pairs and pairs[0][0] == 1:
        pairs.insert(0, (0, "background"))
    return [[name] for _, name in pairs] if [id for id, _ in pairs] == [*range(len(pairs))] else []


def _labels(text: str) -> list[list[str]]:
    """The names in `labels` of nnU-Net: {"background": 0}, or {"0": "background"} of its first version."""
    labels = json.loads(text)["labels"].items()
    return _numbered([[id, name] if id.isdecimal() else [str(name), id] for id, name in labels])


def _packed(row: list[str]) -> int | None:
    """0xRRGGBB of a row: name, red, green, blue."""
    numbers = [int(cell) for cell in row[1:4] if cell.strip().isdigit() and int(cell) < 256]
    return int.from_bytes(bytes(numbers), "big") if len(numbers) == 3 else None
