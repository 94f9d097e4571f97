"""COCO instances: photos and one JSON file of objects per split, drawn into masks; classes are matched by
name.

The first class is the background: pixels of no object, and of objects whose category is not among the
classes. Of overlapping objects the smaller is on top. Crowds (iscrowd: 1) of a known class are void, below
all objects. An object without an outline is void in its box.
"""

import json
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.formats import Polygons
from engine.data.formats.categories import labels_of_categories, require_ids_once
from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.listing import FileFinder, no_folder, no_split, require_different_ids, require_files
from engine.data.formats.masks import SameIds
from engine.data.formats.outlines import damaged, told
from engine.data.formats.shapes import Area, area_of, require_inside
from engine.data.formats.share import side_of
from engine.data.formats.tiff import any_header
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError, first_few
from engine.wording import quantity
from models.class_names import VOC

Outline = list[NDArray[np.float64]] | dict[str, Any]  # polygons, or run lengths

BESIDE = "_annotations.coco.json"  # in the folder of the photos, as Roboflow writes it
MOST_BYTES = 1 << 16  # of a file, which are looked at


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
    by_area: bool = True

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
        """(h, w): class 0, over it void, over that the objects from large to small, or in their order."""
        drawing = self.by_id[pair.id]
        try:
            areas = [(label, _area(outline, *drawing.size)) for label, outline in drawing.objects]
        except DataError as error:
            raise damaged(pair, error) from error
        areas.sort(key=lambda area: (area[0] != self.ignore_index, -np.count_nonzero(area[1]) * self.by_area))
        mask = np.zeros(drawing.size, np.uint8)
        for label, area in areas:
            mask[area] = label
        return mask


def open_coco(
    root: str | Path,
    split: str,
    class_names: tuple[str, ...] = VOC,
    ignore_index: int = 255,
    polygons: Polygons | None = None,
    train: str = "train",
    val: str = "val",
) -> FileDataset:
    """One split, such as "train2017": annotations/instances_<split>.json and the photos in <split>.

    Args:
        root: the folder that holds both; images/<split> is accepted too, and what `instance_files` finds.
        class_names: by label id; all but the first are names of categories, in COCO's or VOC's spelling.
        polygons: what is on top; with `val_share` the only instances file is divided into `train` and `val`.

    Raises:
        DataError: no such split, no instances file, a class without category, no object with an outline, or
            images missing.
    """
    options, side = polygons or Polygons(), None
    where = Path(root).expanduser()
    stored = split
    if options.val_share is not None:
        side = side_of(split, (train, val), options.val_share, options.group, "data.polygons")
        stored = _only_split(where)
    source, images = _find(where, stored)
    try:
        content = json.loads(source.read_bytes())
        files = _files(content, images, where)
        drawings, note = _by_image(
            content,
            [_size(image, file) for image, (_, file) in zip(content["images"], files, strict=True)],
            labels_of_categories(content["categories"], class_names, source),
            ignore_index,
            source,
            ignore_index if options.other == "void" else None,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{source} is not a COCO instances file: {told(error)}. Export it again, with images, "
            "annotations and categories."
        ) from error
    if not files:
        raise DataError(f"Split {split!r} is empty: {source} lists no image.")
    pairs = [Pair(_id(name), file, source) for name, file in files]
    require_different_ids(pairs, str(source))
    try:
        require_files(pairs)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    by_id = {pair.id: drawing for pair, drawing in zip(pairs, drawings, strict=True)}
    if side is not None:
        pairs = side.of(pairs, source)
    masks = Drawings(by_id, ignore_index, options.overlap != "order")
    palette = voc_palette(len(class_names))
    encoding = SameIds(len(class_names), ignore_index)
    dataset = FileDataset(pairs, class_names, palette, ignore_index, encoding, masks.mask, masks.content)
    dataset.note = note
    return dataset


def _find(root: Path, split: str) -> tuple[Path, Path]:
    """The instances file of a split and the folder of its photos."""
    if not root.is_dir():
        raise DataError(f"{no_folder(root)} It should hold annotations/instances_{split}.json and {split}.")
    there = instance_files(root)
    if split not in there:
        raise no_split(split, root / "annotations" / f"instances_{split}.json", [*there])
    source = there[split]
    if source.name == BESIDE:
        return source, source.parent
    images = root / "images" / split
    places = (images, root / split, root / "images")  # the last is CVAT's, without subsets
    return source, next((place for place in places if place.is_dir()), root / split)


def instance_files(root: Path) -> dict[str, Path]:
    """By split: annotations/instances_<split>.json and <split>/_annotations.coco.json; where there are none,
    annotations/<split>.json, or else <split>.json."""
    found = {path.stem.removeprefix("instances_"): path for path in root.glob("annotations/instances_*.json")}
    found |= {path.parent.name: path for path in root.glob(f"*/{BESIDE}")}
    for folder in (root / "annotations", root):
        if not found:
            found = {path.stem: path for path in folder.glob("*.json") if _is_of_coco(path)}
    return dict(sorted(found.items()))


def _is_of_coco(path: Path) -> bool:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES)
    start = content.decode(json.detect_encoding(content), "replace").lstrip()
    return start.startswith("{") and bool(re.search(r'"(images|annotations|categories)"\s*:\s*\[', start))


def _only_split(root: Path) -> str:
    """The split of the only instances file."""
    there = instance_files(root)
    if len(there) != 1:
        raise DataError(
            f"data.polygons.val_share divides one file annotations/instances_<name>.json, and {root} has "
            f"{len(there)}. Type data.polygons=null and name the splits in data.train and data.val."
        )
    return next(iter(there))


def _files(content: dict[str, Any], images: Path, root: Path) -> list[tuple[str, Path]]:
    """Name, with slashes, and file of each image: below its folder or the root, or by its last part."""
    finder, files = FileFinder(), []
    for image in content["images"]:
        name = image["file_name"]
        if "\\" in name and not (images / name).is_file():  # written on Windows
            name = name.replace("\\", "/")
        if not os.path.isfile(name):  # a path of another machine
            name = name.lstrip("/")
        file = finder.find(images / name) or finder.find(root / name)
        files.append((name, file or finder.find(images / PurePosixPath(name).name) or images / name))
    return files


def _size(image: dict[str, Any], file: Path) -> tuple[int, int]:
    """(h, w) as the file of COCO says, or as the photo has it where it does not.

    Raises:
        DataError: neither can be read.
    """
    if image.get("height") and image.get("width"):
        return int(image["height"]), int(image["width"])
    try:
        return any_header(file)[0] if file.is_file() else (0, 0)  # a missing one is named later
    except DataError as error:
        raise DataError(
            f"COCO does not say the height and width of {file}, and the photo cannot be read: "
            f"{error.__cause__ or error}. Replace the photo, or write its height and width into the file of "
            "COCO."
        ) from error


def _by_image(
    content: dict[str, Any],
    sizes: list[tuple[int, int]],
    labels: dict[str, int],
    ignore_index: int,
    source: Path,
    other: int | None,
) -> tuple[list[Drawing], str]:
    """The objects of each image, in the order of the file, and a note on those without an outline.

    sizes: (h, w) of the images. other: the label of categories that `labels` does not have; None leaves them
    out.
    """
    objects: dict[str, list[tuple[int, Outline]]] = defaultdict(list)
    without, num_outlines = [], 0
    for annotation in content["annotations"]:
        label = labels.get(str(annotation["category_id"]), other)
        if label is None:
            continue
        outline = _outline(annotation.get("segmentation"))
        if outline is None:
            without.append(annotation.get("id"))
            label, outline = ignore_index, _box(annotation.get("bbox"))
        else:
            num_outlines += 1
        objects[str(annotation["image_id"])].append(
            (ignore_index if _is_crowd(annotation) else label, outline)
        )
    if without and not num_outlines:
        raise DataError(
            f"{quantity(len(without), f'object of {source} has', f'objects of {source} have')} a "
            "box or two points and no segmentation, and none has one: ids "
            f"{first_few(without)}. Boxes alone are no masks; export the outlines."
        )
    used = {str(annotation["category_id"]) for annotation in content["annotations"]}
    unnamed = sorted(used - {str(category["id"]) for category in content["categories"]})
    if unnamed:
        raise DataError(f"{source} has objects of categories that it does not list: {first_few(unnamed)}.")
    ids = [str(image["id"]) for image in content["images"]]
    require_ids_once("image", ids, [image["file_name"] for image in content["images"]], source)
    unlisted = sorted(objects.keys() - {*ids})
    if unlisted:
        raise DataError(f"{source} has objects of images that it does not list: {first_few(unlisted)}.")
    drawings = [Drawing(size, objects.get(id, [])) for id, size in zip(ids, sizes, strict=True)]
    note = f"objects without an outline in {source}: {len(without)} (ids {first_few(without)}); their boxes "
    return drawings, note + "are void" if without else ""


def _is_crowd(annotation: dict[str, Any]) -> bool:
    """Whether an object is a crowd. CVAT writes iscrowd for each mask, and `is_crowd` for a crowd."""
    attributes = annotation.get("attributes")
    if isinstance(attributes, dict) and "occluded" in attributes:
        return bool(attributes.get("is_crowd"))
    return bool(annotation.get("iscrowd"))


def _outline(segmentation: Any) -> Outline | None:
    """Polygons, without those of one or two points, or run lengths; None where there are none."""
    if not segmentation or isinstance(segmentation, dict):
        return segmentation or None
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]  # one, not in a list
    return [np.asarray(polygon, np.float64) for polygon in polygons if len(polygon) not in (0, 2, 4)] or None


def _area(outline: Outline, h: int, w: int) -> Area:
    area = area_of(outline, h, w)
    for polygon in () if isinstance(outline, dict) else outline:
        require_inside(polygon.reshape(-1, 2), h, w)
    return area


def _box(box: Any) -> Outline:
    """The outline of [x, y, width, height]; nothing where there is no box."""
    if not box:
        return []
    x, y, w, h = map(float, box)
    return [np.array([x, y, x + w, y, x + w, y + h, x, y + h])]


def _id(file_name: str) -> str:
    return str(PurePosixPath(file_name).with_suffix(""))
