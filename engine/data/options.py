"""The `data` and `augment` sections of a recipe: each key with its type, range, default and meaning.

A check of two keys together is done at the later one, so that all mistakes are found at once. This module and
those that it imports do not import torch.
"""

import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from engine.components import IMPORT_PATH
from engine.data.formats import CLASS_TABLES, FORMATS, Colour, Folder, Synthetic, format_of
from engine.options import Count, NotNegative, Positive, Section, Share, Text, key, mistake


def _one_of(names: Iterable[str], or_pattern: str | None = None) -> tuple[BeforeValidator, WithJsonSchema]:
    """Accepts `names`, and text of the pattern; the JSON schema lists the names."""
    names = list(names)

    def check(value: Any) -> str:
        if isinstance(value, str) and (value in names or (or_pattern and re.fullmatch(or_pattern, value))):
            return value
        expected = ", ".join(map(repr, names))
        raise PydanticCustomError("literal_error", "expected {expected}", {"expected": expected})

    schema: dict[str, Any] = {"enum": names, "type": "string"}
    if or_pattern:
        schema = {"anyOf": [schema, {"type": "string", "pattern": f"^{or_pattern}$"}]}
    return BeforeValidator(check), WithJsonSchema(schema)


def _takes_colours(format_: str) -> bool:
    return format_ in ("folder", "packed") or ":" in format_


FormatName = Annotated[str, *_one_of(FORMATS, IMPORT_PATH)]
TableName = Annotated[str, *_one_of(CLASS_TABLES)]


class ClassColour(Section):
    name: Annotated[Text, Field(description="of the class")]
    colour: Annotated[Colour, Field(description="of its pixels in the masks: [red, green, blue], 0 to 255")]


class Data(Section):
    format: FormatName = key(
        "voc",
        "layout of the folder; packed: a file of trident prepare pack; synthetic: drawn scenes; "
        "or package.module:function of your own",
    )
    root: Text | None = key(
        None, "the folder of the data; of voc the one that holds JPEGImages; of packed, the file"
    )
    train: Text = key("trainaug", "split to train on; of voc ImageSets/Segmentation/<name>.txt")
    val: Text = key("val", "split to score on")
    select: Text | None = key(
        None, "split that chooses the checkpoints; null: val, which flatters val a little"
    )
    classes: TableName | list[Text | ClassColour] = key(
        "voc21", "a known table, or the names by label id, or {name, colour} by label id"
    )
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
        return {**format_of(values["format"]).defaults, **values}

    @field_validator("root", "classes", "ignore_index", "synthetic", "folder")
    @classmethod
    def _fits_the_format(cls, value: Any, info: ValidationInfo) -> Any:
        name, format_ = info.field_name or "", info.data.get("format")
        if format_ is None:  # a mistake of its own
            return value
        needed = format_of(format_).fixed.get(name, value)
        if value != needed:
            raise mistake(f"format: {format_} works with {needed or 'null'} only")
        if format_ == name and value is None:
            raise mistake("expected a section; leave the key out for the defaults")
        if format_ == "packed":  # what the packed recipe says may stay
            return value
        if value == "scenes6" and format_ != "synthetic":
            raise mistake("this is for format: synthetic only")
        if name in FORMATS and name != format_ and value is not None:
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
        if colours and not _takes_colours(info.data.get("format", "folder")):
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


class Augment(Section):
    crop: Count = key(512, "side of the square that the model sees, px")
    scale: list[Positive] = key([0.5, 2.0], "random scale: from, to", min_length=2, max_length=2)
    rotate_deg: float = key(10.0, "random rotation up to this, either way", ge=0, le=180)
    aspect: float = key(1.0, "width : height changes by up to this factor, either way; 1 is off", ge=1, le=4)
    shear_deg: float = key(0.0, "shear of both axes up to this, either way", ge=0, le=45)
    translate: Share = key(0.0, "the crop moves on by up to this share of its side, either way")
    category_max_ratio: float = key(
        1.0, "a crop is drawn again where one class fills this share of it, as 0.75; 1 is off", gt=0, le=1
    )
    flip: Share = key(0.5, "share of images that are mirrored")
    brightness: Share = key(0.12, "added, of 0..1 pixels, up to this, either way")
    contrast: Share = key(0.5, "factor 1 minus to 1 plus this")
    saturation: Share = key(0.5, "factor 1 minus to 1 plus this")
    hue: float = key(0.07, "turns of the colour circle, up to this, either way", ge=0, le=0.5)
    blur: NotNegative = key(0.0, "sigma of a Gaussian up to this, px; 0 is off")
    elastic: NotNegative = key(0.0, "bends up to this, px; 0 is off")
    grayscale: Share = key(0.0, "share of images that lose their colour")
    noise: Share = key(0.0, "sigma of Gaussian noise up to this, of 0..1 pixels; 0 is off")
    jpeg: Share = key(0.0, "share of images that are compressed, at a quality of 30 to 95")
    cutmix: Share = key(0.0, "share of images with a box of another one, arXiv 1905.04899")
    classmix: Share = key(0.0, "share of images with half of the classes of another one, arXiv 2007.07936")
    mosaic: Share = key(0.0, "share of images made of four, arXiv 2004.10934")
    copy_paste: Share = key(0.0, "share of images with a rare class of another one, arXiv 2012.07177")

    @field_validator("blur", "elastic")
    @classmethod
    def _small_beside_the_crop(cls, value: float, info: ValidationInfo) -> float:
        most = info.data.get("crop", math.inf) / 16  # above, blur leaves nothing to see and bends fold over
        if value > most:
            raise mistake(f"expected at most a sixteenth of augment.crop, {most:g}")
        return value

    @field_validator("scale")
    @classmethod
    def _grows(cls, value: list[float]) -> list[float]:
        if value[0] > value[1]:
            raise mistake(f"expected the smaller scale first, as in [{value[1]}, {value[0]}]")
        return value
