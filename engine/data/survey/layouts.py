"""Where images and masks lie below a folder, and how they are split: sections of a recipe's `data` to try."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.data import open_split
from engine.data.formats import Polygons
from engine.data.formats.categories import is_background
from engine.data.formats.coco import instance_files
from engine.data.formats.drawn import SOURCES, VOID_NAMES, NoAnnotations, source_of
from engine.data.formats.files import FileDataset, UnprintableNames
from engine.data.formats.folder import IMAGES, MASKS, lists_in
from engine.data.formats.listing import IMAGE_ENDINGS, folders_in, images_below, is_of_a_tool, names_in
from engine.data.formats.outlines import Source
from engine.data.formats.pairing import PHOTO_ENDINGS
from engine.data.formats.share import USUAL, EmptyShare, fitting_share
from engine.data.options import Data
from engine.data.sample import DataError, UnreadableSample
from engine.data.sequences import group_of_frames
from engine.data.survey.contents import pairs_by_content
from engine.data.survey.polygons import annotations_below
from engine.wording import quantity

TRAIN = ("trainaug", "train", "training", "trn", "train_val", "trainval")  # trainaug of VOC holds train
VAL = ("val", "valid", "validation", "dev", "test", "testing")
DEPTH = 2  # folders below the given one that are looked into
MAX_SEEN = 12  # folders that are listed where nothing is understood
SHARED = {"train": "train", "val": "val"}
MASK_WORDS = re.compile(r"mask|label|annot|gt|ground|seg|target|matte|^y_|_y$", re.I)


def candidates(root: Path) -> Iterator[dict[str, Any]]:
    """Sections to try, the likely ones first, in the folder and then in the folders below it."""
    bases = [root]
    for _ in range(DEPTH + 1):
        for base in bases:
            for section in _in_folder(base):
                yield {"root": str(base), **section}
        bases = [folder for base in bases for folder in _folders_to_search(base)]
        bases.sort(key=lambda folder: -len(images_below(folder)))


def _folders_to_search(base: Path) -> list[Path]:
    """The folders in a folder, without those of tools, and without images and masks that lie side by side."""
    names = [name for name in folders_in(base) if not is_of_a_tool(name)]
    parts = {name for a, b in permutations(names, 2) if _is_usual(a, b) for name in (a, b)}
    return [base / name for name in names if name not in parts]


def _in_folder(base: Path) -> Iterator[dict[str, Any]]:
    yield from _coco(base)
    folders = folders_in(base)
    lowered = {name.lower(): name for name in folders}
    lists = {path.stem for path in lists_in(base)}
    splits = [*_train_and_val({*folders, *lists, *(f for name in folders for f in folders_in(base / name))})]
    for split in splits:  # <split>/images, images/<split>, and images with <split>.txt
        yield {"format": "folder", **split}
        for images, masks in _other_pairs(base, folders):
            yield _folder(split, images, masks)
        yield _folder(split, "{split}", "{split}")
        if {*split.values()} <= lists:  # of paths from here
            yield _folder(split, ".", ".")
    # train with trainannot, train_images, set_train ...
    for train, images, masks in _named_by_split(folders):
        for val in VAL:
            if {images.replace("{split}", val).lower(), masks.replace("{split}", val).lower()} <= {*lowered}:
                yield _folder({"train": train, "val": val}, images, masks)
    usual = [(a, b) for a, b in permutations(folders, 2) if _is_usual(a, b)]
    here = [(".", ".")] if any(Path(name).suffix.lower() in IMAGE_ENDINGS for name in names_in(base)) else []
    per_sample = [(".", ".")] if not here and len(folders) > 1 else []  # a folder for each image
    for images, masks in [*usual, *_other_pairs(base, folders), *here, *per_sample]:
        yield _folder(SHARED, images, masks, val_share=USUAL)
    yield from _annotated(base, splits)
    yield from _by_content(base, folders, splits)


def _folder(split: dict[str, str], images: str, masks: str, **options: Any) -> dict[str, Any]:
    return {"format": "folder", **split, "folder": {"images": images, "masks": masks, **options}}


def _by_content(
    base: Path, folders: Sequence[str], splits: Sequence[dict[str, str]]
) -> Iterator[dict[str, Any]]:
    """Folders whose names say nothing, such as x and y."""
    for split in splits:  # x/<split>, x with <split>.txt, and <split>/x
        for place in (base, base / split["train"]):
            for images, masks in pairs_by_content(place, folders_in(place)):
                yield _folder(split, images, masks)
    for train, val in product(TRAIN, VAL):  # train_x
        of_train = [name for name in folders if train in name.lower()]
        for pair in pairs_by_content(base, of_train):
            images, masks = (re.sub(train, "{split}", name, count=1, flags=re.I) for name in pair)
            if all(name.replace("{split}", val) in folders for name in (images, masks)):
                yield _folder({"train": train, "val": val}, images, masks)
    for images, masks in pairs_by_content(base, folders):
        yield _folder(SHARED, images, masks, val_share=USUAL)


def _coco(base: Path) -> Iterator[dict[str, Any]]:
    sources = instance_files(base)
    for split in _train_and_val({*sources, *(re.sub(r"\d+$", "", name) for name in sources)}):
        named = {
            use: next(name for name in sources if name.startswith(split[use])) for use in ("train", "val")
        }
        yield {"format": "coco", **named, "classes": _categories(sources[named["train"]])}
    if len(sources) == 1:
        classes = _categories(*sources.values())
        yield {"format": "coco", **SHARED, "classes": classes, "polygons": {"val_share": USUAL}}


def _categories(source: Path) -> list[str]:
    try:
        categories = json.loads(source.read_bytes())["categories"]
        names = list(dict.fromkeys(str(category["name"]) for category in categories))
    except (ValueError, KeyError, TypeError):  # the format itself says what is wrong
        names = []
    return ["background", *([name for name in names if not is_background(name)] or ["object"])]


def _annotated(base: Path, splits: Sequence[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Outlines of annotation tools, split by what is there, or by a share."""
    own = [{"train": "train", "val": "val"}, {"train": "Train", "val": "Validation"}]
    for format in SOURCES:
        for split, share in (*((split, None) for split in (*splits, *own)), (SHARED, USUAL)):
            options = {"val_share": share} if share else {}
            try:
                sources = _sources(format, base, split, options)
            except NoAnnotations:
                continue
            except DataError:  # the format itself says what is wrong
                sources = []
            section = {"format": format, **split, "classes": _classes(_labels(sources))}
            yield {**section, "polygons": options} if options else section


def _sources(format: str, base: Path, split: dict[str, str], options: dict[str, float]) -> list[Source]:
    """The annotations of both splits; a share that leaves one of them empty is replaced."""
    shared = split["train"], split["val"]
    try:
        polygons = Polygons.model_validate(options)
        return [source_of(format, base, name, polygons, shared) for name in shared]
    except EmptyShare as error:
        if error.share is None:
            raise
        options["val_share"] = error.share
        return _sources(format, base, split, options)


def _labels(sources: Sequence[Source]) -> list[str]:
    """The labels that the format declares, then others that are used.

    Raises:
        DataError: annotations that are no outlines, such as boxes of YOLO.
    """
    used = set()
    for source in sources:
        for pair in source.pairs:
            try:
                used |= {shape.label for shape in source.annotation(pair).shapes}
            except UnreadableSample:  # the doctor names it
                continue
    declared = [label for source in sources[:1] for label in source.label_names]
    return list(dict.fromkeys([*declared, *sorted(used)]))


def _classes(labels: Sequence[str]) -> list[str]:
    objects = [name for name in labels if not is_background(name) and name.lower() not in VOID_NAMES]
    return ["background", *(objects or ["object"])]


def _train_and_val(names: set[str]) -> Iterator[dict[str, str]]:
    """The splits among names of folders and lists; exact spellings first."""
    by_lower = {name.lower(): name for name in sorted(names, reverse=True)}
    for train in TRAIN:
        for val in VAL:
            if train in by_lower and val in by_lower:
                yield {"train": by_lower[train], "val": by_lower[val]}


def _named_by_split(folders: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(train, pattern of the images' folder, of the masks'), of folders whose names have the split inside."""
    for train in TRAIN:
        patterns = [re.sub(train, "{split}", name, count=1, flags=re.I) for name in folders]
        patterns = [pattern for pattern in patterns if "{split}" in pattern]
        masks = [pattern for pattern in patterns if MASK_WORDS.search(pattern)]
        images = [pattern for pattern in patterns if pattern not in masks]
        yield from ((train, image, mask) for image in images for mask in [*masks, image])


def _other_pairs(base: Path, folders: Sequence[str]) -> list[tuple[str, str]]:
    """Folders of images and of masks by words in their names, such as road_photos and road_labels_v2."""
    holding = [name for name in folders if not is_of_a_tool(name)]
    masks = [name for name in holding if MASK_WORDS.search(name)]
    pairs = [(a, b) for a, b in permutations(holding, 2) if b in masks and a not in masks]
    return sorted(
        [(a, b) for a, b in pairs if not _is_usual(a, b)], key=lambda pair: _is_jpeg(base / pair[1])
    )


def _is_jpeg(folder: Path) -> bool:
    """Whether masks are stored with a loss: the same ones as PNG in another folder are better."""
    return any(path.suffix.lower() in PHOTO_ENDINGS for path in images_below(folder)[:1])


def _is_usual(images: str, masks: str) -> bool:
    """Whether the format tries these names by itself."""
    names = ((images, IMAGES), (masks, MASKS))
    return all(name.lower() in {usual.lower() for usual in known} for name, known in names)


def opened(section: dict[str, Any], reasons: list[DataError]) -> tuple[FileDataset, FileDataset] | None:
    """Both splits, if the section opens; else the reason is noted."""
    if section["format"] == "folder":  # binary: so that no value of a mask is refused yet
        folder = {**section.get("folder", {}), "values": "binary"}
        trial = {"classes": ["no", "yes"], **section, "folder": folder}
    else:
        trial = section
    trial = {**trial, "on_error": "skip"}  # the doctor names what is damaged
    try:
        data = Data.model_validate(trial)
        train, val = open_split(data, data.train), open_split(data, data.val)
    except ValidationError as error:
        first = error.errors()[0]
        odd = "the name of a folder has bytes that are no UTF-8. Rename it."
        why = odd if first["type"] == "string_unicode" else first["msg"]
        reasons.append(DataError(f"{section['root']!a}: {why}"))
        return None
    except UnprintableNames:  # the layout fits
        raise
    except EmptyShare as error:
        if error.share is None:
            reasons.append(error)
            return None
        (section.get("folder") or section["polygons"])["val_share"] = error.share
        return opened(section, reasons)
    except DataError as error:
        reasons.append(error)
        return None
    assert isinstance(train, FileDataset) and isinstance(val, FileDataset)
    options = section.get("folder") or section.get("polygons") or {}
    if "val_share" in options:
        ids = [*train.ids, *val.ids]
        group = group_of_frames(ids)
        fitting = {"val_share": fitting_share(ids, group), **({"group": group} if group else {})}
        if fitting != {key: options[key] for key in ("val_share", "group") if key in options}:
            options.update(fitting)
            return opened(section, reasons)
    return train, val


def _seen(root: Path) -> list[str]:
    """A line for each folder that holds files, down to the deepest that are looked into."""
    seen, level = [], [root]
    for _ in range(DEPTH + 2):
        for folder in level:
            endings = Counter(path.suffix.lower() for path in folder.iterdir() if path.is_file())
            files = ", ".join(f"{number} {ending or 'files'}" for ending, number in endings.most_common(4))
            if files or folder == root:
                seen.append(f"  {folder}: {files or 'no files'}")
        level = [folder / name for folder in level for name in folders_in(folder) if not is_of_a_tool(name)]
    return seen


def _beside(root: Path, num_images: int) -> list[str]:
    """A line where the folder above may hold the masks, too."""
    if not num_images or len(folders_in(root.parent)) < 2:
        return []
    above = shlex.quote(str(root.parent))
    return [f"If the masks are in a folder beside this one, type the folder of both: trident new {above}"]


def not_understood(root: Path, reasons: list[DataError]) -> str:
    """What was looked for, and what is there."""
    there = ["There are:", *_seen(root)[:MAX_SEEN]]
    if single := [reason for reason in reasons if isinstance(reason, EmptyShare)]:
        return "\n".join([str(single[0]), *there, *annotations_below(root)])
    num_images = len(images_below(root))
    near = [text for text in dict.fromkeys(map(str, reasons)) if "no images and masks" not in text][:2]
    below = quantity(num_images, "image")
    title = f"{root} is not understood: no images with masks were found ({below} below it)."
    annotated = [text for text in near if any(str(path) in text for path in instance_files(root).values())]
    if annotated:  # the layout fits
        return "\n".join([title, *annotated, *there])
    return "\n".join(
        [
            title,
            "Looked for VOC, COCO, LabelMe, YOLO, CVAT, Label Studio, run lengths in CSV files, train/images "
            "with train/masks, images/train with masks/train, train with trainannot, images and masks with "
            "train.txt and val.txt, images with masks next to them or in a folder of their own, a folder of "
            "masks for each class in masks.",
            *there,
            *annotations_below(root),
            *(f"The nearest attempt said: {reason}" for reason in near),
            *_beside(root, num_images),
            "If the folders have other names, write a recipe with data.format: folder and "
            "data.folder: {images: <folder>, masks: <folder>, val_share: 0.2} (docs/data.md).",
        ]
    )
