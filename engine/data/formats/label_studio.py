"""Label Studio's JSON export: polygonlabels, brushlabels, rectanglelabels and ellipselabels of each task.

They are drawn in the order of the export, later over earlier. A polygon has no hole; a brush has.
"""

import json
import re
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from engine.data.formats.files import Pair
from engine.data.formats.listing import IMAGE_ENDINGS, FileFinder
from engine.data.formats.outlines import Annotation, Shape, Source, content_of, ellipse, part_of, polygon
from engine.data.formats.shapes import Area
from engine.data.sample import DataError, UnreadableSample, first_few
from engine.wording import quantity

UPLOADED = re.compile(r"^[0-9a-f]{6,8}-")  # what Label Studio puts before the name of an uploaded file
CHANNELS = 4  # of a brush: red, green, blue, alpha


def label_studio(folder: Path, split: str) -> Source | None:
    """The annotated tasks of the exports in a folder; None where there is none."""
    finder, pairs, content, skipped = FileFinder(), [], dict[str, bytes](), []
    for path in sorted(folder.glob("*.json")):
        tasks = _tasks(path)
        for task in tasks or ():
            annotation = _annotation(task, path)
            image = _image(task, folder, finder)
            if annotation is None:
                skipped.append(task.get("id"))
                continue
            id = UPLOADED.sub("", image.stem)
            pairs.append(Pair(id, image, path))
            content[id] = json.dumps(annotation.get("result", [])).encode()
    note = f"tasks of Label Studio without an annotation, left out: {len(skipped)} (ids {first_few(skipped)})"
    if not pairs:
        return None
    return Source(pairs, parse, partial(content_of, content), note=note if skipped else "")


def _tasks(path: Path) -> list[dict[str, Any]] | None:
    """The tasks of an export; None where the file is something else."""
    content = path.read_bytes()
    text = content.decode(json.detect_encoding(content), "replace").lstrip()
    if not text.startswith("[") or not ('"result"' in text or '"data"' in text):
        return None
    try:
        tasks = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not complete JSON: {error}. Export it from Label Studio again."
        ) from error
    if not all(map(_is_task, tasks)):
        raise DataError(f"{path} is not Label Studio's JSON export. Export as JSON, not as JSON-MIN.")
    return [*tasks]


def _is_task(task: Any) -> bool:
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        return False
    annotations = task.get("annotations") or []
    return isinstance(annotations, list) and all(isinstance(one, dict) for one in annotations)


def _annotation(task: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """The annotation of a task that counts: the only one that was not cancelled, or the ground truth."""
    done = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    chosen = [one for one in done if one.get("ground_truth")] or done
    if len(chosen) > 1:
        raise DataError(
            f"{path}: task {task.get('id')} has {len(chosen)} annotations. Mark one as ground truth in "
            "Label Studio, or delete the others, and export again."
        )
    return chosen[0] if chosen else None


def _image(task: dict[str, Any], folder: Path, finder: FileFinder) -> Path:
    """The image that a task names: by its path below the folder, or by its last part."""
    for value in task["data"].values():
        if not isinstance(value, str):
            continue
        url = urlsplit(value)
        path = PurePosixPath(
            parse_qs(url.query).get("d", [unquote(url.path)])[0].replace("\\", "/").lstrip("/")
        )
        if path.suffix.lower() not in IMAGE_ENDINGS:
            continue
        names = (str(path), path.name, UPLOADED.sub("", path.name))
        tried = [
            base / name for name in names for base in (folder, folder / "images", folder.parent / "images")
        ]
        return next(
            (found for place in tried if (found := finder.find(place))), folder / "images" / path.name
        )
    raise DataError(f"Task {task.get('id')} of Label Studio names no image in its data.")


def parse(content: bytes, pair: Pair) -> Annotation:
    """The regions of one annotation."""
    shapes, size = [], None
    for number, region in enumerate(json.loads(content)):
        kind, value = region.get("type"), region.get("value", {})
        if not value.get(kind) or not kind.endswith("labels"):
            continue  # a choice, a text, or a region without a label
        with part_of(pair, f"region {number}"):
            label = str(value[kind][0])
            if kind not in DRAWN:
                raise UnreadableSample(f"{kind} of {label!r} cannot be drawn; delete it, or draw a polygon")
            size = int(region["original_height"]), int(region["original_width"])
            shapes.append(DRAWN[kind](label, value, *size))
    return Annotation(size, shapes)


def _polygon(label: str, value: dict[str, Any], h: int, w: int) -> Shape:
    return polygon(label, np.asarray(value["points"], np.float64) * (w / 100, h / 100))  # percent


def _rectangle(label: str, value: dict[str, Any], h: int, w: int) -> Shape:
    """Turned clockwise about its left top corner."""
    x, y, width, height = (
        value[name] * side / 100 for name, side in (("x", w), ("y", h), ("width", w), ("height", h))
    )
    turn = np.deg2rad(value.get("rotation", 0))
    across, down = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    corners = [i * width * across + j * height * down for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
    return polygon(label, np.array([x, y]) + corners)


def _ellipse(label: str, value: dict[str, Any], h: int, w: int) -> Shape:
    x, y, rx, ry = (
        value[name] * side / 100 for name, side in (("x", w), ("y", h), ("radiusX", w), ("radiusY", h))
    )
    return ellipse(label, x, y, rx, ry, value.get("rotation", 0))


def _brush(label: str, value: dict[str, Any], h: int, w: int) -> Shape:
    return Shape(label, partial(brush_area, value["rle"]))


def brush_area(packed: list[int], h: int, w: int) -> Area:
    """The pixels of a brush whose alpha is not 0.

    The bytes are a stream of bits: the number of values (32 bits), their width less 1 (5), four widths of run
    lengths less 1 (4 each); then blocks of: whether one value is repeated (1), which width (2), the length
    less 1, and that value or as many values. Label Studio packs RGBA, four values a pixel.

    Raises:
        UnreadableSample: the stream is cut, or of another size.
    """
    bits = "".join(f"{byte:08b}" for byte in bytes(packed))
    place = 0

    def read(num_bits: int) -> int:
        nonlocal place
        place += num_bits
        if place > len(bits):
            raise UnreadableSample("a brush is cut: its run lengths end too early")
        return int(bits[place - num_bits : place], 2)

    num_values, width = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    if num_values != CHANNELS * h * w:
        raise UnreadableSample(
            f"a brush has {quantity(num_values, 'value')}, and an image of {w}x{h} px {CHANNELS * h * w}"
        )
    values = np.zeros(num_values, bool)
    done = 0
    while done < num_values:
        is_run, length = read(1), read(widths[read(2)]) + 1
        if is_run:
            values[done : done + length] = read(width) > 0
        else:
            values[done : done + length] = [read(width) > 0 for _ in range(min(length, num_values - done))]
        done += length
    return values.reshape(h, w, CHANNELS)[..., CHANNELS - 1]


DRAWN = {
    "polygonlabels": _polygon,
    "rectanglelabels": _rectangle,
    "ellipselabels": _ellipse,
    "brushlabels": _brush,
}
