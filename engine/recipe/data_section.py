"""The `data` section of a recipe: formats, their defaults, and which keys go together.

Knows nothing of files and overrides, nor of how a format is read.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from engine.options import Count, Section, Text, key, mistake

# What a format works with: the only value of each key. Formats that write void themselves need 255.
NEEDS: dict[str, dict[str, Any]] = {
    "synthetic": {"root": None, "classes": "scenes6", "ignore_index": 255},
    "coco": {"ignore_index": 255},
    "coco_stuff": {"classes": "coco_stuff171", "ignore_index": 255},
    "ade20k": {"classes": "ade150", "ignore_index": 255},
    "cityscapes": {"classes": "cityscapes19", "ignore_index": 255},
    "camvid": {"classes": "camvid11", "ignore_index": 255},
}
FORMAT_DEFAULTS: dict[str, dict[str, Any]] = {
    "synthetic": {"train": "train", "classes": "scenes6", "synthetic": {}},
    "folder": {"train": "train", "classes": [], "folder": {}},
    "coco": {"train": "train2017", "val": "val2017"},
    "coco_stuff": {"train": "train2017", "val": "val2017", "classes": "coco_stuff171"},
    "ade20k": {"train": "training", "val": "validation", "classes": "ade150"},
    "cityscapes": {"train": "train", "classes": "cityscapes19"},
    "camvid": {"train": "train", "classes": "camvid11"},
}
Colour = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


class Synthetic(Section):
    size: int = key(96, "side of a scene, px", ge=32)
    train_samples: Count = key(300, "scenes to train on")
    val_samples: Count = key(100, "scenes to score on")
    seed: int = key(0, "of the drawing; the run's own seed does not change the scenes", ge=0)


class Folder(Section):
    images: Text | None = key(None, "sub-folder of the images; null: the usual names are tried")
    masks: Text | None = key(None, "sub-folder of the masks; null: the usual names are tried")
    mask_suffix: Text | None = key(None, "how the names of masks end, such as _mask; null: it is found out")
    values: Literal["ids", "binary"] = key("ids", "label ids, or 0 and 255; colours stand in data.classes")
    void_colours: list[Colour] = key([], "colours of void pixels, where data.classes has colours")
    val_share: Annotated[float, Field(gt=0, lt=1)] | None = key(
        None, "share of the images for data.val, by the hash of their ids; null: the folder has splits"
    )


class ClassColour(Section):
    name: Annotated[Text, Field(description="of the class")]
    colour: Annotated[Colour, Field(description="of its pixels in the masks: [red, green, blue], 0 to 255")]


class Data(Section):
    format: Literal[
        "voc", "folder", "coco", "coco_stuff", "ade20k", "cityscapes", "camvid", "packed", "synthetic"
    ] = key("voc", "layout of the folder; packed: a file of engine.prepare pack; synthetic: drawn scenes")
    root: Text | None = key(
        None, "the folder of the data; of voc the one that holds JPEGImages; of packed, the file"
    )
    train: Text = key("trainaug", "split to train on; of voc ImageSets/Segmentation/<name>.txt")
    val: Text = key("val", "split to score on")
    select: Text | None = key(
        None, "split that chooses the checkpoints; null: val, which flatters val a little"
    )
    classes: (
        Literal["voc21", "ade150", "cityscapes19", "camvid11", "coco_stuff171", "scenes6"]
        | list[Text | ClassColour]
    ) = key("voc21", "a known table, or the names by label id, or {name, colour} by label id")
    ignore_index: int = key(255, "label id of void pixels", ge=0, le=255)
    sampler: Literal["uniform", "rare"] = key(
        "uniform", "how often each image is drawn: each alike, or those with rare classes more often"
    )
    resident: Literal["auto", "gpu", "ram", "disk"] = key("auto", "where the decoded images stay")
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = key(
        "auto", "decoding processes, where images stay on disk"
    )
    doctor: Literal["on", "off"] = key(
        "on", "check the files before training, and stop where it would be wasted"
    )
    on_error: Literal["raise", "skip"] = key(
        "raise", "an image that cannot be read ends the run, or is left out and named"
    )
    synthetic: Synthetic | None = key(None, "the drawn scenes; for format: synthetic only")
    folder: Folder | None = key(None, "names and masks; for format: folder only")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_format(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("format"), str):
            return values
        return {**FORMAT_DEFAULTS.get(values["format"], {}), **values}

    @field_validator("root", "classes", "ignore_index", "synthetic", "folder")
    @classmethod
    def _fits_the_format(cls, value: Any, info: ValidationInfo) -> Any:
        name, format_ = info.field_name or "", info.data.get("format")
        if format_ is None:  # a mistake of its own
            return value
        needed = NEEDS.get(format_, {}).get(name, value)
        if value != needed:
            raise mistake(f"format: {format_} works with {needed or 'null'} only")
        if format_ == name and value is None:
            raise mistake("expected a section; leave the key out for the defaults")
        if format_ == "packed":  # what the packed recipe says may stay
            return value
        if value == "scenes6" and format_ != "synthetic":
            raise mistake("this is for format: synthetic only")
        if name in ("synthetic", "folder") and name != format_ and value is not None:
            raise mistake(f"this is for format: {name} only")
        return value

    @field_validator("classes")
    @classmethod
    def _names_differ(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            return value
        if not value:
            raise mistake("expected the names by label id, such as [background, road]")
        names = [item if isinstance(item, str) else item.name for item in value]
        if len(names) < 2 or len({*names}) < len(names):
            raise mistake("expected at least 2 names, each different")
        colours = [tuple(item.colour) for item in value if isinstance(item, ClassColour)]
        if colours and info.data.get("format", "folder") not in ("folder", "packed"):
            raise mistake("colours are for format: folder only; here the names alone")
        if colours and (len(colours) < len(value) or len({*colours}) < len(colours)):
            raise mistake("expected a colour for each class, each different, or names alone")
        return value

    @field_validator("folder")
    @classmethod
    def _masks_fit_the_classes(cls, value: Folder | None, info: ValidationInfo) -> Folder | None:
        classes = info.data.get("classes")
        if value is None or classes is None:
            return value
        items = classes if isinstance(classes, list) else []
        colours = [item.colour for item in items if isinstance(item, ClassColour)]
        if value.values == "binary" and (len(items) != 2 or colours):
            raise mistake("values: binary needs the names of two classes in data.classes, without colours")
        if value.void_colours and not colours:
            raise mistake("void_colours is for classes with colours: data.classes: [{name, colour}, ...]")
        if any(colour in colours for colour in value.void_colours):
            raise mistake("void_colours holds a colour that a class has")
        if colours and info.data.get("ignore_index", 255) < len(colours):
            raise mistake("data.ignore_index is the label id of a class; with colours leave it at 255")
        return value
