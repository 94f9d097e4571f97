"""Masks of classes that may overlap, in the layouts that `data.labels: multi` reads.

A folder or a suffix for each class gives its name; a band for each class has none.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.formats import Folder
from engine.data.formats.bands import read_bands
from engine.data.formats.class_masks import VOID
from engine.data.formats.files import FileDataset
from engine.data.formats.folder import names_below, place_of_split
from engine.data.formats.images import TIFF_ENDINGS
from engine.data.formats.listing import ARRAY_ENDINGS
from engine.data.ranges import probed
from engine.data.sample import DataError, UnreadableSample, first_few
from engine.data.survey.class_files import class_table
from engine.wording import quantity, some_of

NUM_PROBED = 8  # masks whose bands are looked at
MAX_CHANNELS = 4  # of an image of colours


def with_named_classes(section: dict[str, Any]) -> dict[str, Any] | None:
    """The section with labels: multi, where masks lie in folders of their classes or end with their names.

    None where they do not: at least one image has masks of two classes then.
    """
    if section["format"] != "folder":
        return None
    root, folder = Path(section["root"]), section.get("folder", {})
    owners: dict[str, set[str]] = {}
    shared = (section["train"], section["val"])
    try:
        places = {place_of_split(root, split, shared, Folder.model_validate(folder)) for split in shared}
    except DataError:  # the format itself says what is wrong
        return None
    for images, masks in {(place.images, place.masks) for place in places}:
        if images == masks:
            return None
        names = {*names_below(images).values()}
        for mask in names_below(masks).values():
            of_mask = _in_folder_of_class(mask, names) or _with_suffix_of_class(mask, names)
            if of_mask is None:
                return None
            owners.setdefault(of_mask[0], set()).add(of_mask[1])
    classes = _ordered([*owners], root)
    if sum(map(len, owners.values())) == len(set().union(*owners.values())):  # one mask an image
        return None
    return {**section, "labels": "multi", "classes": classes, "folder": {**folder, "missing_masks": "empty"}}


def _in_folder_of_class(mask: str, images: set[str]) -> tuple[str, str] | None:
    """The class and the image of <class>/<image>."""
    first, _, rest = mask.partition("/")
    return (first, rest) if rest in images else None


def _with_suffix_of_class(mask: str, images: set[str]) -> tuple[str, str] | None:
    """The class and the image of <image>_<class> or <image>-<class>; numbers are those of objects."""
    for place in range(len(mask) - 1, 0, -1):
        image, name = mask[:place], mask[place + 1 :]
        if mask[place] in "_-" and image in images:
            return (name, image) if "/" not in name and not name.isdecimal() else None
    return None


def _ordered(names: list[str], root: Path) -> list[str]:
    """As a file of the data set lists them, else sorted."""
    listed = class_table(root).classes
    return listed if {*listed} == {*names} else sorted(names)


def with_bands_of_classes(section: dict[str, Any], datasets: Sequence[FileDataset]) -> dict[str, Any] | None:
    """The section with labels: multi, where each mask has a band for each class; else None."""
    number = _bands_of_classes(datasets[0]) if section["format"] == "folder" else None
    if number is None:
        return None
    names = class_table(Path(section["root"])).classes
    classes = names if len(names) == number else [f"class_{place}" for place in range(1, number + 1)]
    return {**section, "labels": "multi", "classes": classes}


def _bands_of_classes(dataset: FileDataset) -> int | None:
    """How many bands the first masks have, where each band holds a class.

    Three or four bands of 0 and 255 are taken for colours, and one that is 255 everywhere for transparency.
    """
    bands = []
    for index in probed(len(dataset))[:NUM_PROBED]:
        path = dataset.mask_path(index)
        if path.suffix.lower() not in (".png", *ARRAY_ENDINGS, *TIFF_ENDINGS):
            return None
        try:
            bands.append(read_bands(path).values)
        except UnreadableSample:  # the doctor names it
            continue
        except DataError:  # it needs rasterio, which is not installed
            return None
    numbers = {len(values) for values in bands}
    if len(numbers) != 1 or numbers == {1}:
        return None
    has_value = np.array([[np.isin([0, 1, VOID], band) for band in mask] for mask in bands])
    values: NDArray[np.bool_] = np.logical_or.reduce(has_value)  # (bands, 3)
    are_masks = all(np.isin(mask, (0, 1, VOID)).all() for mask in bands)
    has_opaque_band = not values[:, :2].any(axis=1).all()
    are_grey = all((mask == mask[0]).all() for mask in bands)
    [number] = numbers
    may_be_colours = 2 < number <= MAX_CHANNELS and not values[:, 1].any()
    return number if are_masks and not (has_opaque_band or are_grey or may_be_colours) else None


def with_values(
    section: dict[str, Any], datasets: Sequence[FileDataset], progress: Callable[[int, int], None]
) -> tuple[dict[str, Any], list[str]]:
    """The section with what the masks hold and may lack, and a line about each; every mask is read.

    Raises:
        DataError: masks that hold other values than 0, 1 and 255.
    """
    classes, folder = section["classes"], dict(section.get("folder", {}))
    has_files = "missing_masks" in folder
    number, each = quantity(len(classes), "class", "classes"), "file" if has_files else "band"
    lines = [f"masks of {number} that may overlap, a {each} for each: {first_few(classes, 12)}"]
    if _are_black_and_white(datasets, len(classes), progress):
        folder["values"] = "binary"
        lines.append("masks of 0 and 255: 255 is where the class is")
    if has_files:
        counts = [len(dataset.mask_files(i)) for dataset in datasets for i in range(len(dataset))]
        lacking = sum(count < len(classes) for count in counts)
        if not lacking:
            del folder["missing_masks"]
        else:
            some = some_of(lacking, len(counts), "image", "has", "have")
            lines.append(
                f"{some} no mask file of a class, {counts.count(0)} of them of none: the class is not on it "
                "(data.folder.missing_masks: empty)"
            )
    section = {key: value for key, value in section.items() if key != "folder"}
    return {**section, **({"folder": folder} if folder else {})}, lines


def _are_black_and_white(
    datasets: Sequence[FileDataset], num_classes: int, progress: Callable[[int, int], None]
) -> bool:
    """Whether 255 is where a class is: it occurs, and with no class that has 1, too."""
    found: list[set[int]] = [set() for _ in range(num_classes)]
    total = sum(map(len, datasets))
    for done, stored in enumerate(_masks(datasets), 1):
        for values, band in zip(found, stored, strict=False):
            values |= {int(value) for value in np.unique(band)}
        progress(done, total)
    return any(VOID in values for values in found) and not any({1, VOID} <= values for values in found)


def _masks(datasets: Sequence[FileDataset]) -> Iterator[Sequence[NDArray[Any]]]:
    """The bands of each mask, checked; none of those that cannot be read."""
    for dataset in datasets:
        for index in range(len(dataset)):
            try:
                stored = dataset.stored_mask(index)
                dataset.encoding(stored, dataset.mask_path(index))
            except UnreadableSample:  # the doctor names it
                yield []
            else:
                yield [*stored]
