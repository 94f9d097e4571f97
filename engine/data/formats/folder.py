"""A folder of images and masks: found by the usual names, paired by name, split in one of three ways.

- by sub-folders: <split>/images and <split>/masks, or images/<split> and masks/<split>
- by lists:       images and masks, and the ids of a split in <split>.txt or .csv, or pairs of files
- by a share:     images and masks; `val_share` of the ids, chosen by their hash, are for `data.val`

Masks hold ids (grey or palette), colours (where data.classes has them), or black and white.
"""

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from engine.data.bands import band_names
from engine.data.formats import LIST_ENDINGS, LIST_FOLDERS, Folder
from engine.data.formats.class_masks import class_files, class_mask_dataset
from engine.data.formats.files import FileDataset, Pair, colours_in_file
from engine.data.formats.listing import (
    ARRAY_ENDINGS,
    IMAGE_ENDINGS,
    folders_in,
    ids_in_list,
    images_below,
    is_of_a_tool,
    no_folder,
    require_named_once,
)
from engine.data.formats.masks import BlackAndWhite, Colours, encoding_of_ids
from engine.data.formats.pairing import pair_up
from engine.data.formats.share import Side, side_of
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError, Palette, UnreadableSample, first_few
from engine.wording import did_you_mean, some_of

IMAGES = ("images", "image", "imgs", "img", "photos", "JPEGImages")
MASKS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "segmentation", "SegmentationClass",
    "ground_truth", "groundtruth", "gt", "targets",
)  # fmt: skip
LISTED = (*IMAGE_ENDINGS, *ARRAY_ENDINGS)
NUM_PROBED = 16  # masks that are checked when the split is opened


@dataclass(frozen=True)
class SplitFolders:
    """Folders of images and masks, and which images are the split: all, those in a list, or a share."""

    images: Path
    masks: Path
    ids: Path | None = None
    share: Side | None = None


def open_folder(
    root: str | Path,
    split: str,
    class_names: tuple[str, ...],
    ignore_index: int = 255,
    palette: Palette | None = None,
    folder: Folder = Folder(),  # noqa: B008  (frozen)
    train: str = "train",
    val: str = "val",
    ids: Mapping[str, int | str] | None = None,
    labels: str = "single",
    bands: int | Sequence[str] | None = None,
) -> FileDataset:
    """One split of a folder of images and masks.

    Args:
        root: of all splits.
        split: its name; that of a sub-folder or list, or with `folder.val_share` one of `train` and `val`.
        class_names: by label id.
        ignore_index: the label of unlabelled pixels.
        palette: colours by label id, where the masks hold colours instead of ids.
        folder: names of sub-folders and masks, and what the masks hold.
        train, val: the splits that `folder.val_share` makes.
        ids: label id, or "void", of each stored value, where those are no label ids.
        labels: "multi" for a mask of each class, as `class_masks` reads them.
        bands: of the images, as data.bands has them.

    Raises:
        DataError: no images and masks in the usual places, several such places, names that do not match in
            pairs, an empty split, or black and white masks that would be read as ids.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"{no_folder(root)} It should hold images and masks.")
    place = place_of_split(root, split, (train, val), folder)
    if labels == "multi":
        pairs = _class_pairs(place, split, class_names, folder)
        return class_mask_dataset(pairs, class_names, folder.values == "binary", band_names(bands))
    pairs = _pairs(place, split, folder.mask_suffix)
    if palette is not None:
        void = tuple((r, g, b) for r, g, b in folder.void_colours)
        encoding = Colours((*palette, *void), (*range(len(palette)), *[ignore_index] * len(void)))
        return FileDataset(pairs, class_names, palette, ignore_index, encoding, colours_in_file)
    palette = voc_palette(len(class_names))
    if folder.values == "binary":
        return FileDataset(pairs, class_names, palette, ignore_index, BlackAndWhite())
    of_values = encoding_of_ids(len(class_names), ignore_index, ids)
    dataset = FileDataset(pairs, class_names, palette, ignore_index, of_values)
    if ids is None:
        _refuse_black_and_white(dataset)
    return dataset


def place_of_split(root: Path, split: str, shared: tuple[str, str], options: Folder) -> SplitFolders:
    """Where the images and masks of a split lie, as `open_folder` finds them; raises DataError as it does."""
    places = [*_split_by_folders(root, split, options), *_split_of_one(root, split, shared, options)]
    if len(places) > 1:
        listed = " or ".join(f"{place.images} with {place.masks}" for place in places)
        raise DataError(
            f"data.root: images and masks of {split!r} could be {listed}. Name the right ones: "
            "data.folder.images=<its sub-folder> data.folder.masks=<its sub-folder>."
        )
    if not places:
        folders = [name for name in folders_in(root) if not is_of_a_tool(name)]
        hint = did_you_mean(split, [*folders, *(path.stem for path in lists_in(root))])
        raise DataError(
            f"data.root: no images and masks of split {split!r} in {root}. Looked for {split}/images with "
            f"{split}/masks, images/{split} with masks/{split}, and images with masks next to {split}.txt. "
            f"Folders there: {first_few(folders, 12) or 'none'}.{hint} Name the sub-folders with "
            "data.folder.images= and data.folder.masks=, or type data.folder.val_share=0.1 to take a tenth "
            "of one folder for val."
        )
    return places[0]


def _split_by_folders(root: Path, split: str, options: Folder) -> list[SplitFolders]:
    if "{split}" in f"{options.images}{options.masks}":
        images, masks = (
            root / str(name).replace("{split}", split) for name in (options.images, options.masks)
        )
        return [SplitFolders(images, masks)] if images.is_dir() and masks.is_dir() else []
    found = _image_and_mask_folders(root / split, options)
    found += [
        (images / split, masks / split)
        for images, masks in _image_and_mask_folders(root, options)
        if (images / split).is_dir() and (masks / split).is_dir()
    ]
    if found and options.val_share is not None:
        raise DataError(
            f"data.folder.val_share splits one folder, but {found[0][0]} is there: {root} has its splits "
            "already. Type data.folder.val_share=null."
        )
    # "." is found in both ways.
    return [SplitFolders(images, masks) for images, masks in dict.fromkeys(found)]


def _split_of_one(root: Path, split: str, shared: tuple[str, str], options: Folder) -> list[SplitFolders]:
    share, ids = options.val_share, list_of(root, split)
    both = [
        (images, masks)
        for images, masks in _image_and_mask_folders(root, options)
        if not (images / split).is_dir()
    ]
    if share is not None:
        side = side_of(split, shared, share, options.group, "data.folder")
        return [SplitFolders(i, m, share=side) for i, m in both]
    return [SplitFolders(i, m, ids) for i, m in both] if ids else []


def lists_in(root: Path) -> list[Path]:
    """The lists of ids of all splits, in the root and in the usual folders for lists."""
    return [path for at in LIST_FOLDERS for end in LIST_ENDINGS for path in (root / at).glob(f"*{end}")]


def list_of(root: Path, split: str) -> Path | None:
    """The list of a split, in the root or in a usual folder for lists."""
    paths = [root / place / f"{split}{ending}" for place in LIST_FOLDERS for ending in LIST_ENDINGS]
    return next((path for path in paths if path.is_file()), None)


def _image_and_mask_folders(base: Path, options: Folder) -> list[tuple[Path, Path]]:
    """Each folder of images with each folder of masks directly in `base`."""
    there = folders_in(base)

    def usual(names: Sequence[str]) -> list[Path]:
        return [base / name for usual in names for name in there if name.lower() == usual.lower()]

    images = [base / options.images] if options.images else usual(IMAGES)
    masks = [base / options.masks] if options.masks else usual(MASKS)
    return [(i, m) for i in images if i.is_dir() for m in masks if m.is_dir()]


def _pairs(place: SplitFolders, split: str, mask_suffix: str | None) -> list[Pair]:
    images, masks = names_below(place.images), names_below(place.masks)
    if place.images == place.masks:  # arrays for data.bands, each with its mask next to it
        arrays = names_below(place.images, ARRAY_ENDINGS)
        images = arrays if len(arrays) == len(masks) else images
    if not images:
        raise DataError(f"Split {split!r} is empty: {place.images} holds no image.")
    if place.ids is None:
        pairs = pair_up(images, masks, mask_suffix)
        return place.share.of(pairs, place.images) if place.share else pairs
    rows = rows_of(place.ids, images.values())
    wanted = listed(place.ids, [row[0] for row in rows], images, "image")
    chosen = {name: path for path, name in images.items() if name in wanted}
    if all(len(row) == 2 for row in rows):
        named = listed(place.ids, [row[1] for row in rows], masks, "mask")
        files = {name: path for path, name in masks.items()}
        return [Pair(id, chosen[id], files[mask]) for id, mask in zip(wanted, named, strict=True)]
    pairs = pair_up({path: name for name, path in chosen.items()}, masks, mask_suffix, all_masks=False)
    return sorted(pairs, key=lambda pair: wanted[pair.id])


def _class_pairs(
    place: SplitFolders, split: str, class_names: tuple[str, ...], options: Folder
) -> Sequence[Pair]:
    """The pairs of a split whose masks are named by their classes, or else have a band for each class."""
    images, masks = names_below(place.images), names_below(place.masks)
    wanted: Mapping[str, int] | None = None
    if place.ids is not None:
        wanted = listed(place.ids, [row[0] for row in rows_of(place.ids, images.values())], images, "image")
    pairs = class_files(
        images,
        masks,
        class_names,
        options.mask_suffix,
        options.missing_masks == "empty",
        lambda id: (wanted is None or id in wanted) and (place.share is None or place.share.has(id)),
    )
    if pairs is None:
        return _pairs(place, split, options.mask_suffix)
    if not pairs and place.share:
        raise place.share.empty([*images.values()], place.images)
    return pairs


def names_below(folder: Path, endings: Sequence[str] = IMAGE_ENDINGS) -> dict[Path, str]:
    """Images in a folder and below, with their relative paths, without extension."""
    # macOS writes an accent as a character of its own, which NFC joins with its letter.
    return {
        path: unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        for path in images_below(folder, endings)
    }


def rows_of(path: Path, names: Iterable[str]) -> list[list[str]]:
    """The entries of each line of a list: an image, or an image and its mask.

    The line of headings of a CSV file is left out. In a text file a line of two entries has an extension at
    the end of both, as ids may contain spaces.

    Args:
        names: of the images that are there, which tell a heading from an id.
    """
    lines = ids_in_list(path)
    if path.suffix == ".csv":
        delimiter = max(",;\t", key=lines[0].count)
        rows = [[entry.strip() for entry in row[:2]] for row in csv.reader(lines, delimiter=delimiter)]
        return rows[1:] if _is_heading(rows[0][0], set(names)) else rows
    ending = "|".join(map(re.escape, LISTED))
    both = re.compile(rf"(\S.*?(?:{ending}))[\s,;]+(\S.*(?:{ending}))", re.I)
    return [list(match.groups()) if (match := both.fullmatch(line)) else [line] for line in lines]


def _is_heading(entry: str, there: set[str]) -> bool:
    """Whether the first entry of a CSV file is a heading, such as image_id; pandas writes 0 or Unnamed: 0.

    An image that is missing must not be taken for one: names of images have digits or an ending.
    """
    has_digits = re.search(r"\d", entry) and not re.fullmatch(r"0|Unnamed: \d+", entry)
    is_file = Path(entry).suffix.lower() in LISTED
    return not has_digits and not is_file and name_among(entry, there) is None


def listed(path: Path, entries: list[str], files: dict[Path, str], what: str) -> dict[str, int]:
    """The names of the entries of a list, which may be paths, and their positions in it."""
    there = set(files.values())
    found = [name_among(entry, there) for entry in entries]
    names = [name for name in found if name is not None]
    missing = [entry for entry, name in zip(entries, found, strict=True) if name is None]
    if missing:
        raise DataError(
            f"{some_of(len(missing), len(entries), what, 'is', 'are')} missing that {path} names: "
            f"{first_few(missing)}."
        )
    require_named_once(path, names)
    return {name: place for place, name in enumerate(names)}


def name_among(entry: str, there: set[str]) -> str | None:
    """The name that an entry of a list means: itself, without extension, or without its first folders.

    None where none of these is among the names that are `there`.
    """
    entry = unicodedata.normalize("NFC", entry)
    parts = PurePosixPath(entry.replace("\\", "/").lstrip("/")).parts
    for start in range(len(parts)):
        path = PurePosixPath(*parts[start:])
        for name in (path.as_posix(), path.with_suffix("").as_posix()):
            if name in there:
                return name
    return None


def _refuse_black_and_white(dataset: FileDataset) -> None:
    """Raises DataError for masks that seem to be black and white: read as ids, white would be void."""
    indices = np.linspace(0, len(dataset) - 1, min(NUM_PROBED, len(dataset))).astype(int)
    values: set[int] = set()
    for index in indices:
        try:
            stored = dataset.stored_mask(int(index))
        except UnreadableSample:  # reported, or skipped, when it is read
            continue
        values |= set(np.unique(stored).tolist()) if stored.ndim == 2 else {-1}
    if values == {0, 255} and dataset.ignore_index == 255:
        raise DataError(
            f"The masks, such as {dataset.mask_path(0)}, hold only 0 and 255. Read as ids, 255 is void, "
            "and only class 0 is left. Type data.folder.values=binary if 255 is the second class."
        )
