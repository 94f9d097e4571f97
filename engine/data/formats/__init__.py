"""The data formats: where each one's code is, its defaults, and the values that it needs. Imports no torch.

A new format is one entry here and one function, its opener, which finds the files of a split and returns a
`Dataset`, usually a `FileDataset` (files.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from engine.options import Count, Section, Text, key, mistake

Colour = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise mistake(f"this is no regular expression: {error}") from None
    if groups != 1:
        raise mistake(r"expected a pattern with one group in parentheses, such as (.+)_\d+")
    return pattern


Pattern = Annotated[str, AfterValidator(_one_group)]


class Synthetic(Section):
    size: int = key(96, "side of a scene, px", ge=32)
    train_samples: Count = key(300, "scenes to train on")
    val_samples: Count = key(100, "scenes to score on")
    seed: int = key(0, "seed of the scenes; independent of the run's seed", ge=0)


class Folder(Section):
    images: Text | None = key(
        None, "sub-folder of the images, such as {split}_images; null: the usual names are tried"
    )
    masks: Text | None = key(None, "sub-folder of the masks; null: the usual names are tried")
    mask_suffix: Text | None = key(None, "suffix of the names of masks, such as _mask; null: detected")
    values: Literal["ids", "binary"] = key(
        "ids", "ids: label ids; binary: 0 and 255; colours: see data.classes"
    )
    void_colours: list[Colour] = key([], "colours of void pixels, where data.classes has colours")
    missing_masks: Literal["error", "empty"] = key(
        "error",
        "with labels: multi, an image without a mask file of a class: an error, or the class is not on it",
    )
    val_share: Annotated[float, Field(gt=0, lt=1)] | None = key(
        None,
        "share of the images used as data.val, by a hash of their ids; null: the folder has splits",
    )
    group: Pattern | None = key(
        None,
        r"with val_share: pattern of the part of an id that the images of one sequence share, such as "
        r"(.+)_\d+; they stay together",
    )


class Polygons(Section):
    overlap: Literal["order", "area"] | None = key(
        None,
        "what is on top where objects overlap; order: the later one, or the one of a higher layer; area: the "
        "smaller one; null: area for coco and yolo, order for the others",
    )
    other: Literal["background", "void"] | None = key(
        None, "what a label that is not in data.classes becomes; null: an error, and background for coco"
    )
    val_share: Annotated[float, Field(gt=0, lt=1)] | None = key(
        None, "share of the images used as data.val, by a hash of their ids; null: the data has splits"
    )
    group: Pattern | None = key(
        None, "with val_share: pattern of the part of an id that the images of one sequence share"
    )


@dataclass(frozen=True)
class Format:
    """One data format.

    opener: import path of a function, or class, that returns the `Dataset` of one split. Of `split`,
        `class_names`, `palette` (the colours in data.classes, or None) and the keys of the `data` section, it
        is called by keyword with those that it has as parameters.
    meaning: one line.
    fixed: keys of the `data` section with the only value that works. Formats that write void themselves need
        ignore_index 255.
    own_defaults: of keys whose default differs from VOC's.
    masks_beside: patterns of the names of a folder of images and of one of masks beside it, where these are
        not among the usual names of `folder`.
    """

    opener: str
    meaning: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    own_defaults: Mapping[str, Any] = field(default_factory=dict)
    masks_beside: tuple[tuple[str, str], ...] = ()

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of keys of the `data` section, where they differ from VOC's."""
        return {**self.fixed, **self.own_defaults}


FORMATS = {
    "voc": Format(
        "engine.data.formats.voc:open_voc",
        "PASCAL VOC: JPEGImages, SegmentationClass, ImageSets",
        masks_beside=(("JPEGImages", "SegmentationClass*"), ("JPEGImages", "SegmentationObject")),
    ),
    "folder": Format(
        "engine.data.formats.folder:open_folder",
        "any folder of images and masks, paired by name",
        own_defaults={"train": "train", "classes": [], "folder": {}},
    ),
    "coco": Format(
        "engine.data.formats.coco:open_coco",
        "COCO instances: photos and a JSON file of outlines",
        fixed={"ignore_index": 255},
        own_defaults={"train": "train2017", "val": "val2017"},
    ),
    **{
        name: Format(
            "engine.data.formats.drawn:open_drawn",
            meaning,
            fixed={"ignore_index": 255},
            own_defaults={"train": "train", "classes": []},
        )
        for name, meaning in (
            ("labelme", "LabelMe: a JSON file of polygons for each image"),
            ("yolo", "YOLO segmentation: data.yaml, images and labels"),
            ("cvat", "CVAT for images 1.1: annotations.xml"),
            ("label_studio", "Label Studio's JSON export"),
            ("rle_csv", "a CSV file of run lengths, as competitions publish masks"),
        )
    },
    "coco_stuff": Format(
        "engine.data.formats.coco_stuff:open_coco_stuff",
        "COCO-Stuff 164k: photos of COCO 2017 with masks of things and stuff",
        fixed={"classes": "coco_stuff171", "ignore_index": 255},
        own_defaults={"train": "train2017", "val": "val2017"},
        masks_beside=(("images", "stuffthingmaps"), ("*2017", "stuffthingmaps")),
    ),
    "ade20k": Format(
        "engine.data.formats.ade20k:open_ade20k",
        "ADE20K for scene parsing: images, annotations",
        fixed={"classes": "ade150", "ignore_index": 255},
        own_defaults={"train": "training", "val": "validation"},
    ),
    "cityscapes": Format(
        "engine.data.formats.cityscapes:open_cityscapes",
        "Cityscapes: leftImg8bit, gtFine",
        fixed={"classes": "cityscapes19", "ignore_index": 255},
        own_defaults={"train": "train"},
        masks_beside=(("leftImg8bit", "gtFine"), ("leftImg8bit", "gtCoarse")),
    ),
    "camvid": Format(
        "engine.data.formats.camvid:open_camvid",
        "CamVid with the 11 classes of SegNet",
        fixed={"classes": "camvid11", "ignore_index": 255},
        own_defaults={"train": "train"},
        masks_beside=(("*", "*annot"), ("*", "*_labels"), ("701_StillsRaw_full", "LabeledApproved_full")),
    ),
    "packed": Format("engine.data.packs.packed:PackedDataset", "a file that trident prepare pack wrote"),
    "synthetic": Format(
        "engine.data.synthetic:open_synthetic",
        "scenes drawn in memory, for the demo and the tests",
        fixed={"root": None, "classes": "scenes6", "ignore_index": 255},
        own_defaults={"train": "train", "synthetic": {}},
    ),
}

# Where lists of ids are looked for.
LIST_FOLDERS = (".", "ImageSets/Segmentation", "ImageSets", "splits", "lists")
LIST_ENDINGS = (".txt", ".csv")

# Keys that a pack ignores: their effect was stored when it was written.
HELD_BY_PACKS = ("data.ids", "data.folder", "data.polygons", "data.synthetic")

OF_POLYGONS = ("coco", "labelme", "yolo", "cvat", "label_studio", "rle_csv")  # that data.polygons is for

CLASS_TABLES = {  # name in data.classes -> import path of the class names by label id
    "voc21": "models.class_names:VOC",
    "ade150": "models.class_names:ADE20K",
    "cityscapes19": "models.class_names:CITYSCAPES",
    "camvid11": "engine.data.formats.camvid:CAMVID_CLASSES",
    "coco_stuff171": "models.class_names:COCO_STUFF",
    "scenes6": "engine.data.synthetic:SCENE_CLASSES",
}


def format_of(name: str) -> Format:
    """The format of a recipe's `data.format`: one of the table, or one from outside by its import path."""
    own_defaults = {"train": "train", "classes": []} if ":" in name else {}
    return FORMATS.get(name) or Format(name, "an opener from outside", own_defaults=own_defaults)
