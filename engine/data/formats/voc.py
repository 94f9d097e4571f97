"""PASCAL VOC layout: JPEGImages/*.jpg, SegmentationClass/*.png of ids, ImageSets/Segmentation/*.txt.

Images and masks may have other endings, in capitals too, as annotation tools write them, and lists may name
images with their endings.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.listing import (
    IMAGE_ENDINGS,
    FileFinder,
    ids_in_list,
    no_folder,
    no_split,
    require_named_once,
    require_present,
)
from engine.data.formats.masks import encoding_of_ids
from engine.data.sample import DataError, Palette
from models.class_names import VOC


def voc_palette(num_colours: int = 256) -> Palette:
    """The VOC colour map: the bits of the id, three at a time, are the high bits of red, green, blue."""
    ids = np.arange(num_colours)
    rgb = np.zeros((num_colours, 3), dtype=np.int64)
    for bit in range(8):
        for channel in range(3):
            rgb[:, channel] |= ((ids >> (3 * bit + channel)) & 1) << (7 - bit)
    return tuple((int(r), int(g), int(b)) for r, g, b in rgb)


def open_voc(
    root: str | Path,
    split: str,
    class_names: tuple[str, ...] = VOC,
    ignore_index: int = 255,
    ids: Mapping[str, int | str] | None = None,
) -> FileDataset:
    """One split of a folder in VOC layout.

    Args:
        root: the folder that holds JPEGImages, SegmentationClass and ImageSets.
        split: a list in ImageSets/Segmentation, such as "trainaug".
        class_names: by label id.
        ignore_index: the id of void pixels.
        ids: label id, or "void", of each stored value, where those are no label ids.

    Raises:
        DataError: no such folder or split, or images or masks missing: all of them counted, the first few
            named.
    """
    folder = Path(root).expanduser()
    images = voc_images(folder, split)
    masks = _files(folder / "SegmentationClass", [*images], ".png")
    pairs = [Pair(id, image, mask) for (id, image), mask in zip(images.items(), masks, strict=True)]
    require_present("mask", masks)
    encoding = encoding_of_ids(len(class_names), ignore_index, ids)
    return FileDataset(pairs, class_names, voc_palette(len(class_names)), ignore_index, encoding)


def voc_images(root: Path, split: str) -> dict[str, Path]:
    """The image files of a split by id, in its order; the split needs no masks.

    Raises:
        DataError: no such folder or split, or images missing: all of them counted, the first few named.
    """
    path, folder, finder = _split_list(root, split), root / "JPEGImages", FileFinder()
    ids = ids_in_list(path)
    for place, id in enumerate(ids):
        ending = Path(id).suffix
        if ending.lower() in IMAGE_ENDINGS and finder.find(folder / id):
            ids[place] = id.removesuffix(ending)
    require_named_once(path, ids)
    images = _files(folder, ids, ".jpg")
    try:
        require_present("image", images)
    except DataError as error:
        if any("/" in id for id in ids):
            raise DataError(
                f"{error} {path} names paths, and in the layout of VOC ids, one a line. For a recipe that "
                f"reads these lines: trident new {shlex.quote(str(root))}"
            ) from None
        raise
    return dict(zip(ids, images, strict=True))


def _files(folder: Path, ids: list[str], ending: str) -> list[Path]:
    """The file of each id: with this ending, else with another one of images."""
    finder, endings = FileFinder(), [ending, *(other for other in IMAGE_ENDINGS if other != ending)]
    there = (next(filter(None, (finder.find(folder / f"{id}{e}") for e in endings)), None) for id in ids)
    return [path or folder / f"{id}{ending}" for id, path in zip(ids, there, strict=True)]


def _split_list(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise DataError(
            f"{no_folder(root)} It should hold JPEGImages, SegmentationClass and "
            "ImageSets. Add data.root=<your VOC2012 folder> to the command."
        )
    lists = root / "ImageSets" / "Segmentation"
    if not lists.is_dir():
        below = [path for up in ("*", "*/*") for path in root.glob(f"{up}/ImageSets/Segmentation")]
        hint = f"Did you mean data.root={below[0].parents[1]}?" if below else "Type data.root=<its folder>."
        raise DataError(f"data.root: {root} is not in VOC layout, {lists} is missing. {hint}")
    path = lists / f"{split}.txt"
    if not path.is_file():
        raise no_split(split, path, sorted(p.stem for p in lists.glob("*.txt")))
    return path
