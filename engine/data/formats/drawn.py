"""A data set of annotated shapes, which are drawn into masks when they are read.

The first class is the background: pixels of no shape. A shape labelled background, or void, is drawn as such.
"""

import difflib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data.formats import Polygons
from engine.data.formats.categories import is_background
from engine.data.formats.cvat import cvat
from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.folder import list_of, listed, rows_of
from engine.data.formats.label_studio import label_studio
from engine.data.formats.labelme import labelme
from engine.data.formats.listing import (
    names_in,
    no_folder,
    require_different_ids,
    require_files,
    require_present,
)
from engine.data.formats.masks import SameIds
from engine.data.formats.outlines import NOT_READABLE, Source, damaged
from engine.data.formats.rle_csv import rle_csv
from engine.data.formats.share import side_of
from engine.data.formats.tiff import any_header
from engine.data.formats.voc import voc_palette
from engine.data.formats.yolo import yolo
from engine.data.sample import DataError, UnreadableSample, first_few
from engine.wording import quantity

VOID_NAMES = ("void", "ignore", "__ignore__", "unlabelled", "unlabeled")
SOURCES: dict[str, Callable[[Path, str], Source | None]] = {
    "labelme": labelme,
    "yolo": yolo,
    "cvat": cvat,
    "label_studio": label_studio,
    "rle_csv": rle_csv,
}
LOOKED_FOR = {
    "labelme": "images with a .json file of shapes each",
    "yolo": "images/ and labels/, with data.yaml",
    "cvat": "annotations.xml, of CVAT for images 1.1",
    "label_studio": "a .json file of annotated tasks, exported as JSON, not as JSON-MIN",
    "rle_csv": "a .csv file with headings such as ImageId and EncodedPixels",
}


class NoAnnotations(DataError):
    """There are no annotations of the format."""


@dataclass(frozen=True)
class Drawn:
    """Draws the shapes of an image; `by_area`: the smaller on top, else in their order."""

    source: Source
    class_names: tuple[str, ...]
    ignore_index: int
    by_area: bool
    other: str | None

    def mask(self, pair: Pair) -> NDArray[np.uint8]:
        """(h, w) label ids.

        Raises:
            UnreadableSample: a damaged annotation.
            DataError: a label that is no class, or an image of another size.
        """
        annotation = self.source.annotation(pair)
        labels = [self._label(shape.label, pair) for shape in annotation.shapes]
        shown, orientation = any_header(pair.image)
        h, w = annotation.size or shown
        if (h, w) != shown and not (orientation >= 5 and (w, h) == shown):
            raise DataError(
                f"{pair.mask} was made on an image of {w}x{h} px, but {pair.image} has "
                f"{shown[1]}x{shown[0]}. Use the image that was annotated, or annotate this one."
            )
        try:
            areas = [shape.area(h, w) for shape in annotation.shapes]
        except UnreadableSample as error:
            raise damaged(pair, str(error)) from error
        except (OSError, *NOT_READABLE) as error:
            raise damaged(pair, error) from error
        sizes = [-np.count_nonzero(area) if self.by_area else 0 for area in areas]
        layers = [shape.layer for shape in annotation.shapes]
        mask = np.zeros((h, w), np.uint8)
        for place in sorted(range(len(areas)), key=lambda i: (sizes[i], layers[i])):
            mask[areas[place]] = labels[place]
        return mask

    def _label(self, name: str, pair: Pair) -> int:
        if name in self.class_names:
            return self.class_names.index(name)
        if is_background(name):
            return 0
        if name.lower() in VOID_NAMES:
            return self.ignore_index
        if self.other:
            return self.ignore_index if self.other == "void" else 0
        close = difflib.get_close_matches(name, self.class_names, n=1)
        classes = shlex.quote(f"data.classes={json.dumps([*self.class_names, name], ensure_ascii=False)}")
        raise DataError(
            f"{pair.mask}: {pair.image.name} has the label {name!r}, which data.classes does not name"
            f"{f' (it names {close[0]!r})' if close else ''}. Type {classes} to train on it, or, for "
            "all such labels, data.polygons.other=background or data.polygons.other=void."
        )


def open_drawn(
    format: str,
    root: str | Path,
    split: str,
    class_names: tuple[str, ...],
    ignore_index: int = 255,
    polygons: Polygons | None = None,
    train: str = "train",
    val: str = "val",
) -> FileDataset:
    """One split of LabelMe, YOLO, CVAT, Label Studio or a CSV file of run lengths.

    Args:
        format: a key of `SOURCES`.
        class_names: by label id; the first is the background.
        polygons: how the data is split, and what is drawn over what.
        train, val: the splits that `polygons.val_share` makes.

    Raises:
        DataError: no such split, images missing, or two annotations of one image.
    """
    options = polygons or Polygons()
    source = source_of(format, Path(root).expanduser(), split, options, (train, val))
    by_area = (options.overlap or ("area" if format == "yolo" else "order")) == "area"
    drawn = Drawn(source, class_names, ignore_index, by_area, options.other)
    encoding, palette = SameIds(len(class_names), ignore_index), voc_palette(len(class_names))
    dataset = FileDataset(
        source.pairs, class_names, palette, ignore_index, encoding, drawn.mask, source.content
    )
    dataset.note = source.note
    return dataset


def source_of(format: str, root: Path, split: str, options: Polygons, shared: tuple[str, str]) -> Source:
    """The annotations of a split: by a share, its folder, a list, or as the format itself divides them.

    Raises:
        DataError: see `open_drawn`.
    """
    if not root.is_dir():
        raise DataError(f"{no_folder(root)} It should hold the images and their annotations.")
    read = SOURCES[format]
    if options.val_share is not None:
        side = side_of(split, shared, options.val_share, options.group, "data.polygons")
        source = read(root, "") or read(root, shared[0])
        pairs = side.of(source.pairs, root) if source and source.pairs else []
    else:
        source = _own_split(read, root, split)
        pairs = source.pairs if source else []
    if source is None:
        raise NoAnnotations(_nothing_found(format, root, split, options))
    if not pairs:
        raise DataError(
            f"Split {split!r} is empty: {root} has {quantity(len(source.pairs), 'annotated image')}, none in "
            "it."
        )
    if format == "yolo":
        require_present("image", [pair.image for pair in pairs])
    else:
        require_files(pairs)
    _require_one_each(pairs)
    require_different_ids(pairs, str(root))
    return replace(source, pairs=pairs)


def _nothing_found(format: str, root: Path, split: str, options: Polygons) -> str:
    there = f"There: {first_few(sorted(names_in(root)), 12) or 'nothing'}."
    if options.val_share is not None:
        return f"data.root: no annotations of {format} in {root}. Looked for {LOOKED_FOR[format]}. {there}"
    return (
        f"data.root: no annotations of {format} of split {split!r} in {root}. Looked for a folder {split}, "
        f"a list {split}.txt, and a split that the format itself names, with {LOOKED_FOR[format]}. {there} "
        "Type data.polygons.val_share=0.2 to take a fifth of one folder for val."
    )


def _own_split(read: Callable[[Path, str], Source | None], root: Path, split: str) -> Source | None:
    """Of a folder of the split's name, as the format itself names the split, or of a list."""
    if (root / split).is_dir() and (source := read(root / split, split)):
        return source
    source = read(root, split)
    if source is None or source.is_split:
        return source
    ids = list_of(root, split)
    if ids is None:
        return None
    names = {pair.image: pair.id for pair in source.pairs}
    wanted = listed(ids, [row[0] for row in rows_of(ids, names.values())], names, "image")
    return replace(source, pairs=[pair for pair in source.pairs if pair.id in wanted])


def _require_one_each(pairs: list[Pair]) -> None:
    """Raises DataError where two annotations are of the same image."""
    by_image: dict[Path, list[Pair]] = {}
    for pair in pairs:
        by_image.setdefault(pair.image, []).append(pair)
    for image, same in by_image.items():
        if len(same) > 1:
            raise DataError(
                f"{image} is annotated {len(same)} times, in {first_few([pair.mask for pair in same])}. "
                "Keep one of the annotations."
            )
