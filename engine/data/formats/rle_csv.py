"""A CSV file of run lengths, as competitions publish masks: in each row an image and one object, or none.

The runs are "start length start length ...", down the columns, from pixel 1. The class is a column of its
own, or joined to the image, as a.jpg_1 of ImageId_ClassId; without it all objects are of one class.
"""

import csv
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from engine.data.formats.files import Pair
from engine.data.formats.listing import images_below, is_of_a_tool
from engine.data.formats.outlines import Annotation, Shape, Source
from engine.data.formats.shapes import Area
from engine.data.sample import DataError, UnreadableSample, first_few

IMAGE = ("imageid", "image", "img", "id", "filename", "file", "imageidclassid", "imagelabel")
RUNS = ("encodedpixels", "rlemask", "rle", "maskrle", "segmentation", "annotation", "encoding")
CLASS = ("classid", "class", "label", "category", "categoryid", "classname")
JOINED = ("imageidclassid", "imagelabel")
NONE = ("", "-1", "nan")  # of an image without an object


def rle_csv(folder: Path, split: str) -> Source | None:
    """The images that the CSV files in a folder name, or those of <split>.csv; None where there is none."""
    files = [path for path in sorted(folder.glob("*.csv")) if _holds_runs(path)]
    own = [path for path in files if path.stem == split]
    objects: dict[str, list[tuple[str, str]]] = {}
    owner: dict[str, Path] = {}
    for path in own or files:
        for image, label, runs in _rows(path):
            owner.setdefault(image, path)
            objects.setdefault(image, []).extend([(label, runs)] if runs not in NONE else [])
    if not objects:
        return None
    images = images_below(folder)
    named = {path.stem: path for path in reversed(images)} | {path.name: path for path in reversed(images)}
    found = {image: named.get(Path(image).name, folder / image) for image in objects}
    ids = {image: _id(path, folder) for image, path in found.items()}
    pairs = [Pair(ids[image], path, owner[image]) for image, path in found.items()]
    content = {ids[image]: json.dumps(own).encode() for image, own in objects.items()}
    labels = dict.fromkeys(sorted({label for own in objects.values() for label, _ in own}))
    places = {path.parent for path in found.values()}
    without = sorted(path for path in {*images} - {*found.values()} if path.parent in places)
    note = f"images without a row in {first_few([*{*owner.values()}])}, left out: {len(without)} "
    return Source(
        pairs,
        parse,
        partial(_content, content),
        [*labels],
        note=f"{note}({first_few(without)})" if without else "",
        is_split=bool(own),
    )


def _content(content: dict[str, bytes], pair: Pair) -> bytes:
    return content[pair.id]


def _id(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _plain(heading: str) -> str:
    return re.sub(r"[^a-z]", "", heading.lower())


def _holds_runs(path: Path) -> bool:
    """Whether the headings are those of images and runs; an example of answers is passed over."""
    if is_of_a_tool(path.name) or "submission" in path.name.lower():
        return False
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            headings = {_plain(heading) for heading in next(csv.reader(file), [])}
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return bool(headings & {*RUNS}) and bool(headings & {*IMAGE})


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """(image, class, runs) of each row.

    Raises:
        DataError: runs that are no pairs of numbers.
    """
    csv.field_size_limit(1 << 30)
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        headings = [_plain(heading) for heading in next(lines)]
        image, runs = (next(headings.index(n) for n in names if n in headings) for names in (IMAGE, RUNS))
        of_class = next((headings.index(name) for name in CLASS if name in headings), None)
        for row in lines:
            if len(row) < len(headings):
                continue
            name, value = row[image].strip(), row[runs].strip()
            label = row[of_class].strip() if of_class is not None else ""
            if headings[image] in JOINED:
                name, _, label = name.rpartition("_")
            if value.lower() in NONE:
                value = ""
            elif not re.fullmatch(r"\d+ +\d+( +\d+ +\d+)*", value):
                raise DataError(
                    f"{path}, line {lines.line_num}: the runs of {name} are not pairs of a start and a "
                    f"length, such as 1 3 10 5, but begin with {value[:20]!r}. Correct this line."
                )
            yield name, f"class_{label}" if label.isdigit() else label or "object", value


def parse(content: bytes, pair: Pair) -> Annotation:
    """The objects of one image."""
    return Annotation(None, [Shape(label, partial(_area, runs)) for label, runs in json.loads(content)])


def _area(runs: str, h: int, w: int) -> Area:
    starts, lengths = np.array(runs.split(), np.int64).reshape(-1, 2).T
    if starts.min() < 1 or (starts - 1 + lengths).max() > h * w:
        raise UnreadableSample(f"runs that reach beyond the {h * w:,} pixels of the image of {w}x{h} px")
    area = np.zeros(h * w, bool)
    for start, length in zip(starts - 1, lengths, strict=True):
        area[start : start + length] = True
    return area.reshape(w, h).T
