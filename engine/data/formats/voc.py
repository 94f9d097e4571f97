"""PASCAL VOC layout: JPEGImages/*.jpg, SegmentationClass/*.png of ids, ImageSets/Segmentation/*.txt."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.listing import ids_in_list, no_split, require_present
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
    pairs = [Pair(id, image, folder / "SegmentationClass" / f"{id}.png") for id, image in images.items()]
    require_present("mask", [pair.mask for pair in pairs])
    encoding = encoding_of_ids(len(class_names), ignore_index, ids)
    return FileDataset(pairs, class_names, voc_palette(len(class_names)), ignore_index, encoding)


def voc_images(root: Path, split: str) -> dict[str, Path]:
    """The image files of a split by id, in its order; the split needs no masks.

    Raises:
        DataError: no such folder or split, or images missing: all of them counted, the first few named.
    """
    images = {id: root / "JPEGImages" / f"{id}.jpg" for id in ids_in_list(_split_list(root, split))}
    require_present("image", list(images.values()))
    return images


def _split_list(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise DataError(
            f"data.root: no folder {root}. It should hold JPEGImages, SegmentationClass and "
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
