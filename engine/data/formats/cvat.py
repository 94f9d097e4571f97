"""CVAT for images 1.1: annotations.xml, with the images beside it or in images/.

Polygons, boxes, ellipses and masks are drawn by their z_order, then in the order of the file, later over
earlier. A polygon has no hole; a mask may have.
"""

import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path, PurePosixPath

from engine.data.formats.files import Pair
from engine.data.formats.listing import FileFinder
from engine.data.formats.outlines import (
    Annotation,
    Shape,
    Source,
    content_of,
    ellipse,
    mask_of_rows,
    part_of,
    polygon,
    rectangle,
)
from engine.data.sample import DataError, UnreadableSample


class _WithoutEntities(ET.TreeBuilder):
    """Refuses a document type: CVAT writes none, and its entities could grow to fill the memory."""

    def doctype(self, *_: object) -> None:
        raise DataError("it declares a document type, which CVAT never writes, and is not read")


def cvat(folder: Path, split: str) -> Source | None:
    """The images of the XML files in a folder, of subset `split` where they name any."""
    files = sorted({*folder.glob("*.xml"), *folder.glob("annotations/*.xml")})
    finder, pairs, labels = FileFinder(), [], dict[str, None]()
    content: dict[str, bytes] = {}
    is_split = False
    for path in files:
        top = _tree(path)
        if top.tag != "annotations":
            continue
        if top.find("track") is not None:
            raise DataError(f"{path} is CVAT's format for video. Export as CVAT for images 1.1.")
        images = top.findall("image")
        if not images:
            raise DataError(f"{path} lists no images. Export it from CVAT again, with those of the task.")
        subsets = {image.get("subset") for image in images}
        is_split = is_split or split in subsets
        labels |= dict.fromkeys(name.text or "" for name in top.findall("meta//labels/label/name"))
        for image in images:
            if split in subsets and image.get("subset") != split:
                continue
            name = (image.get("name") or "").replace("\\", "/")
            if not PurePosixPath(name).name:
                raise DataError(f"{path}: image {image.get('id')} has no name. Export it from CVAT again.")
            id = PurePosixPath(name).with_suffix("").as_posix().lstrip("/")
            pairs.append(Pair(id, _image(name, image.get("subset") or "", folder, finder), path))
            content[id] = content.get(id, b"") + ET.tostring(image)
    return Source(pairs, parse, partial(content_of, content), [*labels], is_split=is_split) if pairs else None


def _tree(path: Path) -> ET.Element:
    try:
        return ET.parse(path, ET.XMLParser(target=_WithoutEntities())).getroot()
    except (ET.ParseError, ValueError) as error:
        raise DataError(f"{path} is not complete XML of CVAT: {error}. Export it again.") from error


def _image(name: str, subset: str, folder: Path, finder: FileFinder) -> Path:
    name = name.lstrip("/")
    tried = [
        base / path
        for path in (name, PurePosixPath(name).name)
        for base in (folder, folder / "images", folder / "images" / subset, folder.parent / "images")
    ]
    return next((found for path in tried if (found := finder.find(path))), folder / "images" / name)


def parse(content: bytes, pair: Pair) -> Annotation:
    """What one <image> says."""
    image = ET.fromstring(content)
    shapes = []
    for number, shape in enumerate(image):
        with part_of(pair, f"shape {number}"):
            if shape.tag != "tag":  # a class of the whole image
                shapes.append(_shape(shape))
    return Annotation((int(image.attrib["height"]), int(image.attrib["width"])), shapes)


def _shape(shape: ET.Element) -> Shape:
    values, kind = shape.attrib, shape.tag
    layer = int(values.get("z_order", 0))
    if kind == "polygon":
        points = [[float(number) for number in point.split(",")] for point in values["points"].split(";")]
        return polygon(values["label"], points, layer)
    if kind == "box":
        corners = [(float(values[f"x{end}"]), float(values[f"y{end}"])) for end in ("tl", "br")]
        return rectangle(values["label"], corners, layer)
    if kind == "ellipse":
        x, y, rx, ry = (float(values[name]) for name in ("cx", "cy", "rx", "ry"))
        return ellipse(values["label"], x, y, rx, ry, float(values.get("rotation", 0)), layer)
    if kind == "mask":
        runs = [int(number) for number in values["rle"].split(",")]
        left, top, rows, columns = (int(float(values[name])) for name in ("left", "top", "height", "width"))
        return Shape(values["label"], partial(mask_of_rows, runs, left, top, rows, columns), layer)
    raise UnreadableSample(
        f"a {kind} of {values.get('label')!r} has no area; delete it, or draw it as a polygon"
    )
