"""LabelMe: one JSON file of shapes beside each image, or in a folder of its own.

Polygons, rectangles, circles and masks are drawn in the order of the file, later over earlier. A polygon has
no hole: that is a shape of the background, or of another class, which comes later.
"""

import base64
import io
import json
import math
import os
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from engine.data.formats.files import Pair
from engine.data.formats.images import BROKEN
from engine.data.formats.listing import IMAGE_ENDINGS, FileFinder, images_below
from engine.data.formats.outlines import (
    Annotation,
    Shape,
    Source,
    ellipse,
    part_of,
    placed,
    polygon,
    read_json,
    rectangle,
)
from engine.data.formats.shapes import Area
from engine.data.sample import UnreadableSample, first_few


def labelme(folder: Path, split: str) -> Source | None:
    """The annotated images below a folder; None where there is no file of LabelMe."""
    there = images_below(folder, (".json",))
    known = {path for path in there if _is_labelme(path)}
    if not known:
        return None
    images = images_below(folder)
    beside = {image.with_suffix("") for image in images}
    files = [path for path in there if path in known or path.with_suffix("") in beside]  # cut ones too
    by_stem: dict[str, list[Path]] = {}
    for image in images:
        by_stem.setdefault(image.stem, []).append(image)
    finder = FileFinder()
    pairs = [
        Pair(path.relative_to(folder).with_suffix("").as_posix(), _image(path, finder, by_stem), path)
        for path in files
    ]
    without = sorted({*images} - {pair.image for pair in pairs})
    note = f"images without a file of LabelMe, left out: {len(without)} ({first_few(without)})"
    return Source(pairs, parse, note=note if without else "")


def _is_labelme(path: Path) -> bool:
    """Whether it is LabelMe's: it names shapes or the path of an image, or is empty."""
    with path.open("rb") as file:
        content = file.read(1 << 16)
        encoding = json.detect_encoding(content)
        start = content.decode(encoding, "ignore").lstrip()
        if '"shapes"' in start or not start:
            return True
        rest = file.read().decode(encoding, "ignore") if start.startswith("{") else ""
    return '"shapes"' in rest or '"imagePath"' in start + rest


def _image(path: Path, finder: FileFinder, by_stem: dict[str, list[Path]]) -> Path:
    """The image beside the file, the one that the file names, or the only one of its name in the folder."""
    for ending in IMAGE_ENDINGS:
        if beside := finder.find(path.with_suffix(ending)):
            return beside
    same = by_stem.get(path.stem, [])
    try:
        named = PurePosixPath(str(read_json(path.read_bytes(), path)["imagePath"]).replace("\\", "/"))
    except (UnreadableSample, OSError, KeyError, TypeError):
        named = PurePosixPath(f"{path.stem}.jpg")
    plain = Path(os.path.normpath(path.parent / named))  # of ../images/a.jpg; elsewhere behind a link
    found = finder.find(plain) or finder.find(path.parent / named) or finder.find(path.parent / named.name)
    return found or (same[0] if len(same) == 1 else path.parent / named)


def parse(content: bytes, pair: Pair) -> Annotation:
    """What one file says."""
    found = read_json(content, pair.mask)
    h, w = found.get("imageHeight"), found.get("imageWidth")
    shapes = []
    for number, shape in enumerate(found["shapes"]):
        with part_of(pair, f"shape {number}"):
            shapes.append(_shape(shape))
    return Annotation((int(h), int(w)) if h and w else None, shapes)


def _shape(shape: dict[str, Any]) -> Shape:
    if not shape.get("label"):
        raise UnreadableSample("it has no label")
    label, kind, points = str(shape["label"]), shape.get("shape_type") or "polygon", shape["points"]
    if kind == "polygon":
        return polygon(label, points)
    if kind == "rectangle":
        return rectangle(label, points)
    if kind == "circle":
        (x, y), (x1, y1) = points
        return ellipse(label, x, y, math.hypot(x1 - x, y1 - y), math.hypot(x1 - x, y1 - y))
    if kind == "mask":
        (x, y), _ = points
        return Shape(label, partial(_mask, shape["mask"], round(x), round(y)))
    raise UnreadableSample(f"a {kind} of {label!r} has no area; delete it, or draw it as a polygon")


def _mask(text: str, left: int, top: int, h: int, w: int) -> Area:
    try:
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            if image.width * image.height > h * w:
                raise ValueError(f"its {image.width}x{image.height} px are more than the image's")
            pixels = np.asarray(image.convert("L"))
    except UnidentifiedImageError as error:
        raise UnreadableSample("a mask that cannot be read: it is no PNG in base64") from error
    except BROKEN as error:
        raise UnreadableSample(f"a mask that cannot be read: {error}") from error
    return placed(pixels > 0, left, top, h, w)
