"""COCO instances: photos and one JSON file of objects per split, drawn into masks; classes are matched by
name.

The first class is the background: pixels of no object, and of objects whose category is not among the
classes. Of overlapping objects the smaller is on top. Crowds (iscrowd: 1) of a known class are void, below
all objects.
"""

import difflib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.listing import no_split, require_different_ids, require_files
from engine.data.formats.masks import SameIds
from engine.data.formats.shapes import area_of
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError, first_few
from models.class_names import VOC

Outline = list[NDArray[np.float64]] | dict[str, Any]  # polygons, or run lengths

# VOC's names of COCO's categories, where they differ in more than spaces
AS_VOC = {"airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor"}


@dataclass(frozen=True)
class Drawing:
    """The objects of one image of `size` (h, w): each a label id and its outline."""

    size: tuple[int, int]
    objects: list[tuple[int, Outline]]


@dataclass(frozen=True)
class Drawings:
    """The objects of each image, by id, which are used instead of mask files."""

    by_id: dict[str, Drawing]
    ignore_index: int

    def content(self, pair: Pair) -> bytes:
        """What the fingerprint covers."""
        drawing = self.by_id[pair.id]
        parts = [repr(drawing.size).encode()]
        for label, outline in drawing.objects:
            parts.append(repr((label, outline if isinstance(outline, dict) else len(outline))).encode())
            if not isinstance(outline, dict):
                parts += [polygon.tobytes() for polygon in outline]
        return b"".join(parts)

    def mask(self, pair: Pair) -> NDArray[np.uint8]:
        """(h, w): class 0, over it void, over that the objects from large to small."""
        drawing = self.by_id[pair.id]
        try:
            areas = [(label, area_of(outline, *drawing.size)) for label, outline in drawing.objects]
        except DataError as error:
            raise DataError(f"{pair.mask} is damaged: image {pair.image.name} has {error}.") from error
        areas.sort(key=lambda object: (object[0] != self.ignore_index, -np.count_nonzero(object[1])))
        mask = np.zeros(drawing.size, np.uint8)
        for label, area in areas:
            mask[area] = label
        return mask


def open_coco(
    root: str | Path, split: str, class_names: tuple[str, ...] = VOC, ignore_index: int = 255
) -> FileDataset:
    """One split, such as "train2017": annotations/instances_<split>.json and the photos in <split>.

    Args:
        root: the folder that holds both; images/<split> and <split>/_annotations.coco.json are accepted too.
        class_names: by label id; all but the first are names of categories, in COCO's or VOC's spelling.

    Raises:
        DataError: no such split, no instances file, a class without category, objects without segmentation,
            or images missing.
    """
    source, images = _find(Path(root).expanduser(), split)
    try:
        content = json.loads(source.read_bytes())
        by_id = _by_image(content, _labels(content["categories"], class_names, source), ignore_index, source)
        names = [image["file_name"] for image in content["images"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source} is not a COCO instances file: {type(error).__name__}: {error}.") from error
    if not names:
        raise DataError(f"Split {split!r} is empty: {source} lists no image.")
    pairs = [Pair(_id(name), images / name, source) for name in names]
    require_different_ids(pairs, str(source))
    require_files(pairs)
    drawings, palette = Drawings(by_id, ignore_index), voc_palette(len(class_names))
    encoding = SameIds(len(class_names), ignore_index)
    return FileDataset(pairs, class_names, palette, ignore_index, encoding, drawings.mask, drawings.content)


def _find(root: Path, split: str) -> tuple[Path, Path]:
    """The instances file of a split and the folder of its photos."""
    if not root.is_dir():
        raise DataError(
            f"data.root: no folder {root}. It should hold annotations/instances_{split}.json and {split}."
        )
    beside = root / split / "_annotations.coco.json"
    if beside.is_file():
        return beside, beside.parent
    source = root / "annotations" / f"instances_{split}.json"
    if not source.is_file():
        there = sorted(
            path.stem.removeprefix("instances_") for path in root.glob("annotations/instances_*.json")
        )
        there += sorted(path.parent.name for path in root.glob(f"*/{beside.name}"))
        raise no_split(split, source, there)
    images = root / "images" / split
    return source, images if images.is_dir() else root / split


def _labels(categories: list[dict[str, Any]], class_names: tuple[str, ...], source: Path) -> dict[int, int]:
    """Label ids by category id.

    Raises:
        DataError: a class other than the first is no category; or the first one is, and is no background.
    """
    by_name = {_plain(name): label for label, name in enumerate(class_names)}
    labels = {c["id"]: by_name[_plain(c["name"])] for c in categories if _plain(c["name"]) in by_name}
    there = [c["name"] for c in categories]
    if 0 in labels.values() and _plain(class_names[0]) != "background":
        objects = [name for name in class_names if _plain(name) != "background"]
        raise DataError(
            f"data.classes begins with {class_names[0]}, a category of {source}, but the first class is "
            f"the background. Type 'data.classes=[background, {', '.join(objects)}]'."
        )
    missing = [name for label, name in enumerate(class_names) if label and label not in labels.values()]
    if missing:
        close = difflib.get_close_matches(missing[0], there, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise DataError(
            f"data.classes: {source} has no category {first_few(missing)}. "
            f"It has {first_few(there, 90)}.{hint}"
        )
    return labels


def _by_image(
    content: dict[str, Any], labels: dict[int, int], ignore_index: int, source: Path
) -> dict[str, Drawing]:
    objects: dict[int, list[tuple[int, Outline]]] = defaultdict(list)
    empty = []
    for annotation in content["annotations"]:
        if annotation["category_id"] not in labels:
            continue
        segmentation = annotation.get("segmentation")
        if not segmentation:
            empty.append(annotation.get("id"))
            continue
        if not isinstance(segmentation, dict):
            segmentation = [np.asarray(polygon, np.float64) for polygon in segmentation]
        label = ignore_index if annotation.get("iscrowd") else labels[annotation["category_id"]]
        objects[annotation["image_id"]].append((label, segmentation))
    if empty:
        raise DataError(
            f"{len(empty)} objects of {source} have a box but no segmentation: ids {first_few(empty)}. "
            "Remove them from the file, or annotate them."
        )
    unlisted = sorted(objects.keys() - {image["id"] for image in content["images"]})
    if unlisted:
        raise DataError(f"{source} has objects of images that it does not list: {first_few(unlisted)}.")
    return {
        _id(image["file_name"]): Drawing(
            (int(image["height"]), int(image["width"])), objects.get(image["id"], [])
        )
        for image in content["images"]
    }


def _id(file_name: str) -> str:
    return str(PurePosixPath(file_name).with_suffix(""))


def _plain(name: str) -> str:
    """Without letter case, spaces and hyphens, and in VOC's spelling, to compare category names."""
    plain = "".join(filter(str.isalnum, name.lower()))
    return AS_VOC.get(plain, plain)
