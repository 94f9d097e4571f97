"""A CSV file of run lengths, as competitions publish masks: in each row an image and one object, or none.

The runs are "start length start length ...", down the columns, from pixel 1. The class is a column of its
own, or joined to the image, as a.jpg_1 of ImageId_ClassId; without it all objects are of one class.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import numpy as np

from engine.data.formats.files import Pair
from engine.data.formats.listing import encoding_of, images_below, is_of_a_tool
from engine.data.formats.outlines import Annotation, Shape, Source, content_of
from engine.data.formats.shapes import Area
from engine.data.sample import DataError, UnreadableSample, first_few
from engine.wording import quantity

IMAGE = ("imageid", "image", "img", "id", "filename", "file", "imageidclassid", "imagelabel")
RUNS = ("encodedpixels", "rlemask", "rle", "maskrle", "segmentation", "annotation", "encoding")
CLASS = ("classid", "class", "label", "category", "categoryid", "classname")
JOINED = ("imageidclassid", "imagelabel")
NONE = ("", "-1", "nan")  # of an image without an object
MOST_CHARACTERS = 1 << 30  # of the runs of one object


def rle_csv(folder: Path, split: str) -> Source | None:
    """The images that <split>.csv names, or the only CSV file of runs in a folder; None where there is none.

    Raises:
        DataError: several such files, none of them of the split; a row that cannot be understood; an image
            whose name several files have.
    """
    files = [path for path in sorted(folder.glob("*.csv")) if _holds_runs(path)]
    own = [path for path in files if path.stem == split]
    if not own and len(files) > 1:
        names = first_few([path.name for path in files])
        raise DataError(
            f"{folder} has several CSV files of run lengths: {names}. Move all but one away, or name one "
            f"for each split, such as {split or 'train'}.csv, and type data.polygons.val_share=null."
        )
    objects: dict[str, list[tuple[str, str]]] = {}
    for path in own or files:
        for image, label, runs in _rows(path):
            objects.setdefault(image, []).extend([(label, runs)] if runs not in NONE else [])
    if not objects:
        return None
    source = (own or files)[0]
    images = images_below(folder)
    by_name: dict[str, list[Path]] = {}
    for path in images:
        for name in {path.stem, path.name}:
            by_name.setdefault(name, []).append(path)
    found = {image: _file(image, folder, by_name, source) for image in objects}
    ids = {image: path.relative_to(folder).with_suffix("").as_posix() for image, path in found.items()}
    pairs = [Pair(ids[image], path, source) for image, path in found.items()]
    content = {ids[image]: json.dumps(drawn).encode() for image, drawn in objects.items()}
    labels = dict.fromkeys(sorted({label for drawn in objects.values() for label, _ in drawn}))
    places = {path.parent for path in found.values()}
    without = sorted(path for path in {*images} - {*found.values()} if path.parent in places)
    note = f"images without a row in {source}, left out: {len(without)} ({first_few(without)})"
    note = note if without else ""
    return Source(pairs, parse, partial(content_of, content), [*labels], note, is_split=bool(own))


def _file(image: str, folder: Path, by_name: dict[str, list[Path]], source: Path) -> Path:
    """The file of an image; if several have its name, the one whose folders the CSV file names too."""
    parts = PurePosixPath(image).parts
    found = by_name.get(parts[-1], [])
    found = [path for path in found if path.name == parts[-1]] or found
    for place in range(2, len(parts) + 1):
        found = [path for path in found if path.parts[-place:-1] == parts[-place:-1]] or found
    if len(found) > 1:
        raise DataError(
            f"{source} names {image}, and {first_few(found)} have this name. Write the folder there too, as "
            f"in {found[0].relative_to(folder)}, or move the others away."
        )
    return found[0] if found else folder / parts[-1]


def _plain(heading: str) -> str:
    return re.sub(r"[^a-z]", "", heading.lower())


def _holds_runs(path: Path) -> bool:
    """Whether the headings are those of images and runs; an example of answers is passed over."""
    if is_of_a_tool(path.name) or "submission" in path.name.lower() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(2))
        with path.open(newline="", encoding=encoding, errors="replace") as text:
            headings = {_plain(heading) for heading in next(_reader(text), [])}
    except (OSError, UnicodeError, csv.Error):
        return False
    return bool(headings & {*RUNS}) and bool(headings & {*IMAGE})


def _reader(text: TextIO) -> Any:
    """Of the separator that the headings have: a comma, a semicolon or a tab."""
    headings = text.readline()
    text.seek(0)
    return csv.reader(text, delimiter=max(",;\t", key=headings.count))


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, entries) of each row that is not empty, the headings first.

    Raises:
        DataError: text in another encoding, or a row that is too short or too long.
    """
    content = path.read_bytes()
    try:
        lines = _reader(io.StringIO(content.decode(encoding_of(content)), newline=""))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: its text is not {error.encoding.upper()}. Save the file as UTF-8."
        ) from error
    usual_limit = csv.field_size_limit(MOST_CHARACTERS)
    try:
        rows = [(lines.line_num, row) for row in lines if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: {error}. Correct this line.") from error
    finally:
        csv.field_size_limit(usual_limit)
    num_headings = len(rows[0][1])
    for line, row in rows:
        if len(row) < num_headings or any(map(str.strip, row[num_headings:])):
            counts = f"{quantity(len(row), 'entry', 'entries')} for {quantity(num_headings, 'heading')}"
            raise DataError(f"{path}, line {line}: {counts}. Correct this line.")
        yield line, row


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """(image, class, runs) of each row.

    Raises:
        DataError: see `_table`; a row without an image, or with runs that are no pairs of numbers.
    """
    table = _table(path)
    headings = [_plain(heading) for heading in next(table)[1]]
    image, runs = (next(headings.index(n) for n in names if n in headings) for names in (IMAGE, RUNS))
    of_class = next((headings.index(name) for name in CLASS if name in headings), None)
    is_joined = headings[image] in JOINED
    for line, row in table:
        written, value = row[image].strip().replace("\\", "/"), row[runs].strip()
        name, label = written, row[of_class].strip() if of_class is not None else ""
        if is_joined:
            name, _, label = written.rpartition("_")
        if not PurePosixPath(name).name:
            form = "an image and its class, joined as in a.jpg_1" if is_joined else "an image"
            raise DataError(f"{path}, line {line}: {written!r} is not {form}. Correct this line.")
        if value.lower() in NONE:
            value = ""
        elif not re.fullmatch(r"\d+ +\d+( +\d+ +\d+)*", value):
            raise DataError(
                f"{path}, line {line}: the runs of {name} are not pairs of a start and a "
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
