"""The data and augmentation of a configuration of MMSegmentation, as `data` and `augment` of a recipe."""

import os
import re
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from engine.data.formats import LIST_ENDINGS, LIST_FOLDERS
from engine.recipe.mmseg.model import decode_head
from engine.recipe.mmseg.settings import NUMBER, Notes, Settings

LAYOUTS = {  # dataset -> format, its class table, and how its folders of images begin
    "ADE20KDataset": ("ade20k", "ade150", "images/"),
    "CityscapesDataset": ("cityscapes", "cityscapes19", "leftImg8bit/"),
    "COCOStuffDataset": ("coco_stuff", "coco_stuff171", ""),
    "PascalVOCDataset": ("voc", "voc21", "JPEGImages"),
}
OWN_SIZE = [2048, 1024]  # of the images of Cityscapes
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
COLOURS_OFF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
JOINED = "several are not joined; write one list of their images"
SILENT_STEPS = (  # they read, pad and collect, or normalise as the model does here
    *("LoadImageFromFile", "LoadAnnotations", "Pad", "Normalize", "ImageToTensor", "ToTensor"),
    *("DefaultFormatBundle", "Collect", "PackSegInputs"),
)


class Split(NamedTuple):
    """A dataset of the configuration; its paths are relative to `root`, or to the working folder."""

    settings: Settings
    root: str
    images: str
    masks: str
    ids: str  # the list of the split, or ""
    is_joined: bool  # of several folders or lists


def data_section(values: Settings, notes: Notes) -> dict[str, Any]:
    """`data`: layout, folder, splits, classes and void."""
    train, val = (_split(values, name, notes) for name in ("train", "val"))
    kind = train.settings.take("type", str, "").rpartition(".")[2]
    val.settings.taken.add("type")
    format_, table, start = LAYOUTS.get(kind, ("folder", "", ""))
    class_names = _class_names(train.settings)
    val.settings.taken |= {"metainfo", "classes", "img_suffix", "seg_map_suffix", "reduce_zero_label"}
    if table and (class_names or not (train.images or start).startswith(start)):
        format_ = "folder" if kind != "PascalVOCDataset" or not train.images.startswith(start) else "voc"
    section: dict[str, Any] = {"format": format_, "root": train.root or "."}
    if format_ == "folder":
        section |= _folder_splits(train, val, notes)
    else:
        names = [
            PurePosixPath(split.ids if format_ == "voc" else split.images).stem for split in (train, val)
        ]
        names[0] = "trainaug" if format_ == "voc" and train.is_joined else names[0]
        section |= {key: name for key, name in zip(("train", "val"), names, strict=True) if name}
    num_classes = decode_head(values).take("num_classes", int, 19)
    zero_is_void = train.settings.take("reduce_zero_label", bool, False)
    if format_ in ("voc", "folder"):
        section["classes"] = class_names or table or _numbered(num_classes, train.settings, notes)
        if zero_is_void:
            section["ids"] = {0: "void", **{id + 1: id for id in range(num_classes)}, 255: "void"}
    ignore = decode_head(values).take("ignore_index", int, train.settings.take("ignore_index", int, 255))
    return section | ({"ignore_index": ignore} if ignore != 255 and format_ in ("voc", "folder") else {})


def _dataset(values: Settings, split: str, notes: Notes) -> tuple[Settings, bool]:
    """The dataset "train" or "val", without what repeats datasets around it; whether several are joined."""
    loader = values.section(f"{split}_dataloader")
    dataset = (loader or values.section("data")).take("dataset" if loader else split, (Settings, list))
    is_joined = False
    while dataset:
        if isinstance(dataset, list):
            is_joined = len(dataset) > 1
            dataset = dataset[0] if isinstance(dataset[0], Settings) else None
            continue
        inner = next((key for key in ("dataset", "datasets") if key in dataset), None)
        if inner is None:
            return dataset, is_joined
        dataset.taken |= {"type", "times"}
        joined = dataset.take(inner, (Settings, list))
        if isinstance(joined, list) and len(joined) > 1:
            place = dataset.places[inner]
            notes.add(dataset, inner, JOINED)
            dataset.put(inner, joined[:1], place)
            dataset.taken.add(inner)
        dataset = joined
    return Settings(), False


def _split(values: Settings, split: str, notes: Notes) -> Split:
    dataset, is_joined = _dataset(values, split, notes)
    prefix = dataset.section("data_prefix")
    images = prefix.take("img_path", str) or dataset.take("img_dir", str, "")
    masks = prefix.take("seg_map_path", str) or dataset.take("ann_dir", str, "")
    several = [
        key for key in ("img_dir", "ann_dir", "ann_file", "split") if isinstance(dataset.get(key), list)
    ]
    for key in several:
        notes.add(dataset, key, JOINED)
    lists = [dataset.take("ann_file", str, ""), dataset.take("split", str, "")]
    ids = lists[0] or lists[1]
    root = dataset.take("data_root", str, "")
    if not root and images and masks:
        root = os.path.commonpath([images, masks]) if images[:1] == masks[:1] else ""
    images, masks, ids = (_below(path, root) for path in (images, masks, ids))
    return Split(dataset, root.rstrip("/"), images, masks, ids, is_joined or bool(several))


def _below(path: str, root: str) -> str:
    """The path relative to the root, where the root is a part of it."""
    return path.removeprefix(root).strip("/") if root and path.startswith(root) else path.rstrip("/")


def _folder_splits(train: Split, val: Split, notes: Notes) -> dict[str, Any]:
    """The folders of any other data set, and how they name the splits."""
    folder: dict[str, Any] = {"images": train.images or "images", "masks": train.masks or "masks"}
    splits: dict[str, Any] = {}
    found = [_pattern(train.images, val.images), _pattern(train.masks, val.masks)]
    if train.ids and val.ids:
        splits = {"train": PurePosixPath(train.ids).stem, "val": PurePosixPath(val.ids).stem}
        for split in (train, val):
            key = "ann_file" if "ann_file" in split.settings else "split"
            name = PurePosixPath(split.ids)
            if str(name.parent) not in LIST_FOLDERS or name.suffix not in LIST_ENDINGS:
                where = f"{train.root or '.'}/{name.stem}.txt"
                notes.add(split.settings, key, f"put this list where it is looked for: {where}")
    elif found[0] and found[1] and found[0][1:] == found[1][1:]:
        folder = {"images": found[0][0], "masks": found[1][0]}
        splits = {"train": found[0][1], "val": found[0][2]}
    else:
        folder["val_share"] = 0.2
        splits = {"train": "train", "val": "val"}
        notes.append(
            f"{_place(val.settings)}: the validation data is not found by one name of the split, as in "
            "images/<split> and masks/<split>; data.folder.val_share takes a share of the training data"
        )
    suffix = train.settings.take("seg_map_suffix", str, ".png").rpartition(".")[0]
    if str(train.settings.get("img_suffix")).startswith("."):
        train.settings.taken.add("img_suffix")
    return splits | {"folder": folder | ({"mask_suffix": suffix} if suffix else {})}


def _place(settings: Settings) -> str:
    return next(iter(settings.places.values()), "no validation data")


def _pattern(train: str, val: str) -> tuple[str, str, str] | None:
    """("images/{split}", "train", "val") of images/train and images/val; None where they do not agree so."""
    words = [re.split(r"([/_.-])", path) for path in (train, val)]
    if len(words[0]) != len(words[1]):
        return None
    different = {(a, b) for a, b in zip(*words, strict=True) if a != b}
    if len(different) != 1:
        return None
    name, other = different.pop()
    return (
        "".join("{split}" if (a, b) == (name, other) else a for a, b in zip(*words, strict=True)),
        name,
        other,
    )


def _class_names(dataset: Settings) -> list[str] | None:
    meta = dataset.section("metainfo")
    names = meta.take("classes", list) or dataset.take("classes", list)
    return [str(name) for name in names] if names and len(names) > 1 else None


def _numbered(num_classes: int, dataset: Settings, notes: Notes) -> list[str]:
    place = dataset.places.get("type", "no training data")
    notes.append(
        f"{place}: the names of the classes are in code, which is not run; write them in data.classes"
    )
    return [f"class_{id}" for id in range(max(2, num_classes))]


def augment_section(values: Settings, notes: Notes) -> dict[str, Any]:
    """`augment`: what the steps of the training pipeline do; all that is not one of them is off."""
    preprocessor = values.section("model").section("data_preprocessor")
    preprocessor.taken |= {"type", "test_cfg"} | ({"mean", "std"} if _is_usual(preprocessor) else set())
    section: dict[str, Any] = {"rotate_deg": 0.0, "flip": 0.0, "scale": [1.0, 1.0], **COLOURS_OFF}
    dataset = _dataset(values, "train", notes)[0]
    for step in dataset.take("pipeline", list, []):
        if not isinstance(step, Settings):
            continue
        kind = step.take("type", str, "").rpartition(".")[2]
        if kind in SILENT_STEPS:
            step.taken |= {*step} - (set() if _is_usual(step) else {"mean", "std"})
        elif kind in STEPS:
            section |= STEPS[kind](step, notes)
        elif "type" in step:
            notes.whole(step, "there is no such step")
    return {"crop": 512, **section}


def _is_usual(settings: Settings) -> bool:
    """Whether images are normalised as for weights of ImageNet, which the model does here."""
    return [settings.get("mean", MEAN), settings.get("std", STD)] == [MEAN, STD]


def _resize(step: Settings, notes: Notes) -> dict[str, Any]:
    """Resize and RandomResize: a size to fit first, then a random factor."""
    step.taken.add("keep_ratio")
    size = "scale" if "scale" in step else "img_scale"
    if step.take(size, list) not in (None, OWN_SIZE):
        notes.add(
            step, size, "there an image is first resized to fit; augment.scale is relative to its own size"
        )
    ratio = step.numbers("ratio_range", [1.0, 1.0])
    return {"scale": [ratio[0], ratio[-1]]}


def _choice_of_sizes(step: Settings, notes: Notes) -> dict[str, Any]:
    """RandomChoiceResize: one of several lengths of the shorter side; the ratio of the extremes is kept."""
    step.taken |= {"resize_type", "max_size"}
    sizes = [size if isinstance(size, list) else [size] for size in step.take("scales", list, [])]
    sides = [min(size) for size in sizes if size and all(isinstance(side, int) for side in size)]
    if not sides or min(sides) <= 0:
        return {}
    middle = (min(sides) * max(sides)) ** 0.5
    notes.add(
        step, "scales", "lengths of the shorter side; augment.scale is the same range around the own size"
    )
    return {"scale": [round(min(sides) / middle, 3), round(max(sides) / middle, 3)]}


def _crop(step: Settings, notes: Notes) -> dict[str, Any]:
    size = step.get("crop_size")
    sides = size if isinstance(size, list) else [size]
    section: dict[str, Any] = {}
    if sides and all(isinstance(side, int) for side in sides):
        step.taken.add("crop_size")
        section["crop"] = min(sides)
        if min(sides) < max(sides):
            notes.add(step, "crop_size", f"crops are square: {min(sides)} px")
    ratio = step.take("cat_max_ratio", NUMBER, 1.0)
    return section | ({"category_max_ratio": float(ratio)} if ratio < 1 else {})


def _flip(step: Settings, notes: Notes) -> dict[str, Any]:
    if step.get("direction") == "horizontal":
        step.taken.add("direction")
    share = step.take("prob", NUMBER, step.take("flip_ratio", NUMBER, 0.0))
    return {"flip": float(share)} if step.get("direction", "horizontal") == "horizontal" else {}


def _colours(step: Settings, notes: Notes) -> dict[str, Any]:
    """PhotoMetricDistortion; its defaults are those of the original."""
    contrast, saturation = (
        step.numbers(f"{key}_range", [0.5, 1.5])[-1] - 1 for key in ("contrast", "saturation")
    )
    return {
        "brightness": round(step.take("brightness_delta", NUMBER, 32) / 255, 3),
        "contrast": round(contrast, 3),
        "saturation": round(saturation, 3),
        "hue": round(step.take("hue_delta", NUMBER, 18) / 180, 3),  # of OpenCV's 180 degrees
    }


def _rotate(step: Settings, notes: Notes) -> dict[str, Any]:
    degree = step.get("degree")
    limit = degree[-1] if isinstance(degree, list) and degree else degree
    if not isinstance(limit, int | float):
        return {}
    step.taken |= {"degree", "pad_val", "seg_pad_val"}
    return {"rotate_deg": abs(float(limit))}


def _mosaic(step: Settings, notes: Notes) -> dict[str, Any]:
    return {"mosaic": float(step.take("prob", NUMBER, 1.0))}


STEPS = {
    "PhotoMetricDistortion": _colours,
    "RandomChoiceResize": _choice_of_sizes,
    "RandomCrop": _crop,
    "RandomFlip": _flip,
    "RandomMosaic": _mosaic,
    "RandomResize": _resize,
    "RandomRotate": _rotate,
    "Resize": _resize,
}
