"""What a folder of images and masks holds: its layout, its splits, and what the values of its masks mean.

The layouts are tried in turn with the formats' own code, so a section that is returned can be opened.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bands import band_names
from engine.data.formats import OF_POLYGONS
from engine.data.formats.files import FileDataset
from engine.data.formats.folder import lists_in
from engine.data.formats.listing import images_below
from engine.data.sample import DataError, first_few
from engine.data.survey.bands import bands_of
from engine.data.survey.class_masks import with_bands_of_classes, with_named_classes, with_values
from engine.data.survey.layouts import candidates, not_understood, opened
from engine.data.survey.meaning import meaning
from engine.data.survey.values import read_values
from engine.wording import near_path, quantity

MAX_LOOKED_FOR = 50  # names of images of a split, in a table
MAX_TABLE_BYTES = 50_000_000
TABLES = (".csv", ".tsv", ".json", ".txt")
Splits = tuple[FileDataset, FileDataset]  # train and val


class OneValue(DataError):
    """All masks hold the same single value."""


@dataclass(frozen=True)
class Survey:
    """section: of a recipe's `data` that opens. findings: one line each. num_train, num_val: images.

    size: (h, w), the medians over the images. are_named: the data itself names the classes.
    """

    section: dict[str, Any]
    findings: list[str]
    num_train: int
    num_val: int
    size: tuple[int, int]
    class_names: list[str]
    are_named: bool


def survey(root: Path, progress: Callable[[int, int], None]) -> Survey:
    """Find images and masks below a folder, and read every mask once.

    Raises:
        DataError: no layout fits, or the masks hold what no class can be; what was looked for and what was
            seen.
    """
    root = Path(os.path.abspath(root.expanduser()))
    if not root.is_dir():
        what = f"{root} is no folder." if root.exists() else f"No folder {root}.{near_path(root)}"
        raise DataError(f"{what} Type the folder that holds your images and masks.")
    reasons: list[DataError] = []
    alike: list[DataError] = []
    for found in candidates(root):
        for section in (with_named_classes(found), found):
            datasets = opened(section, reasons) if section else None
            if section and datasets:
                try:
                    result = _of_layout(section, datasets, root, progress)
                except OneValue as error:  # of the field of view, say: the classes may lie elsewhere
                    alike.append(error)
                    continue
                unused = [*_unused_lists(section, datasets, reasons), *_unused_images(datasets, root)]
                return replace(result, findings=[*result.findings, *unused])
    raise alike[0] if alike else DataError(not_understood(root, reasons))


def _of_layout(
    section: dict[str, Any], datasets: Splits, root: Path, progress: Callable[[int, int], None]
) -> Survey:
    num_train, num_val = map(len, datasets)
    findings = [_where(section, num_train, num_val)]
    section, datasets = _with_class_bands(section, datasets)
    if bands := bands_of(datasets[0]):
        section = {**section, "bands": bands.number}
        findings.append(bands.finding)
        for dataset in datasets:
            dataset.bands = band_names(bands.number)
    are_named = section["format"] in OF_POLYGONS or "missing_masks" in section.get("folder", {})
    section, lines = _with_classes(section, datasets, root, progress)
    names = [item if isinstance(item, str) else item["name"] for item in section["classes"]]
    sizes = np.array([size for dataset in datasets for size in dataset.sizes() if all(size)])
    findings += lines
    if not len(sizes):
        raise DataError(f"None of the images in {section['root']} can be read.")
    h, w = (int(n) for n in np.median(sizes, axis=0))
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    if (low == high).all():
        findings.append(f"every image has {w}x{h} px")
    else:
        findings.append(f"images of {low[1]}x{low[0]} to {high[1]}x{high[0]} px, median {w}x{h}")
    return Survey(section, findings, num_train, num_val, (h, w), names, are_named)


def _with_class_bands(section: dict[str, Any], datasets: Splits) -> tuple[dict[str, Any], Splits]:
    """The section and its data sets, opened again where each mask has a band for each class."""
    of_bands = with_bands_of_classes(section, datasets)
    reopened = opened(of_bands, []) if of_bands else None
    return (of_bands, reopened) if of_bands and reopened else (section, datasets)


def _with_classes(
    section: dict[str, Any], datasets: Splits, root: Path, progress: Callable[[int, int], None]
) -> tuple[dict[str, Any], list[str]]:
    """The section with its classes and what the values of its masks mean, and lines about both."""
    if section["format"] in OF_POLYGONS:
        names = section["classes"][1:]
        number = quantity(len(names), "class", "classes")
        return section, [f"{section['format']}: outlines of {number}, {first_few(names, 12)}"]
    if section.get("labels") == "multi":
        return with_values(section, datasets, progress)
    values, base = read_values(datasets, progress), Path(section["root"])
    if len(values.pixels) == 1 and np.isfinite([*values.pixels]).all():
        alpha = " Only their transparency differs: save that as the masks." if values.has_alpha else ""
        raise OneValue(
            f"All masks, such as {datasets[0].mask_path(0)}, hold the same single value, so there is nothing "
            f"to learn.{alpha} If the classes are in other files, move {datasets[0].mask_path(0).parent} "
            "away, or write a recipe with data.format: folder and data.folder.masks (docs/data.md)."
        )
    meant, line = meaning(values, base, root, base / section["train"])
    folder = {**section.get("folder", {}), **meant.pop("folder", {})}
    return {**section, **meant, **({"folder": folder} if folder else {})}, [line]


def _unused_lists(section: dict[str, Any], datasets: Splits, reasons: list[DataError]) -> list[str]:
    """Lines about lists and tables that were not used, where the split is a share instead."""
    if "val_share" not in section.get("folder", {}):
        return []
    root = Path(section["root"])
    lists = [str(path) for path in lists_in(root)]
    of_lists = [
        reason for reason in dict.fromkeys(map(str, reasons)) if any(path in reason for path in lists)
    ]
    if of_lists or section["format"] != "folder":
        return [f"the lists of train and val were not used: {reason}" for reason in of_lists[:1]]
    names = {Path(id).name for dataset in datasets for id in dataset.ids[:MAX_LOOKED_FOR]}
    tables = [
        path
        for path in sorted(root.glob("*"))
        if path.suffix.lower() in TABLES and path.is_file() and path.stat().st_size < MAX_TABLE_BYTES
        if 2 * len(names.intersection(_words(path))) > len(names)
    ]
    if not tables:
        return []
    not_used = f"{quantity(len(tables), 'file')} with names of images not used: {first_few(tables)}."
    return [
        f"{not_used} A split is a pair of files, train.txt and val.txt, with one name per line; for folds "
        "see docs/folds.md"
    ]


def _words(path: Path) -> Iterator[str]:
    """What may be names of images in a table: its words, without folders and endings."""
    for word in re.findall(r"[^\s,;\"'/\\:]+", path.read_text("utf-8", "replace")):
        yield from (word, Path(word).stem)


def _unused_images(datasets: Splits, root: Path) -> list[str]:
    """How many images below the folder are in neither split, and where."""
    used = {
        Path(os.path.normpath(file))
        for dataset in datasets
        for index in range(len(dataset))
        for file in (dataset.image_path(index), *dataset.mask_files(index))
    }
    others = Counter(path.parent for path in images_below(root) if path not in used)
    if not others:
        return []
    where = first_few([f"{number} in {folder}" for folder, number in others.most_common()])
    return [f"{quantity(others.total(), 'image')} below {root} not used: {where}"]


def _where(section: dict[str, Any], num_train: int, num_val: int) -> str:
    folder = section.get("folder") or section.get("polygons") or {}
    text = f"{quantity(num_train, 'image')} to train on and {num_val} to score on, in {section['root']}"
    if "images" in folder and folder["images"] != folder["masks"]:
        text += f": images in {folder['images']}, masks in {folder['masks']}"
    if "val_share" in folder:
        text += "; divided by a hash of their names"
        if "group" in folder:
            text += ", with the frames of one sequence on the same side"
    return text
