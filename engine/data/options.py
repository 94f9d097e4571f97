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
from engine.data.bands import MAX_BANDS, RGB, band_names
from engine.data.formats import (
    CLASS_TABLES,
    FORMATS,
    OF_POLYGONS,
    Colour,
    Folder,
    Polygons,
    Synthetic,
    format_of,
)
from engine.options import Count, NotNegative, Positive, Section, Share, Text, key, mistake
from engine.wording import quantity


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


MAX_CLASSES = 255  # labels have 8 bits, and 255 is void
FormatName = Annotated[str, *_one_of(FORMATS, IMPORT_PATH)]
TableName = Annotated[str, *_one_of(CLASS_TABLES)]
StoredValue = Annotated[str, Field(pattern=r"^(-?\d+(\.\d+)?(e[+-]?\d+)?|-?inf|nan)$")]


Ends = Annotated[list[float], Field(min_length=2, max_length=2)]


class Normalisation(Section):
    mean: list[float] = key([], "mean of each band, of pixels in 0..255")
    std: list[Positive] = key([], "standard deviation of each band, of pixels in 0..255")


class ClassColour(Section):
    name: Annotated[Text, Field(description="name of the class")]
    colour: Annotated[Colour, Field(description="its colour in the masks: [red, green, blue], 0 to 255")]


class Data(Section):
    format: FormatName = key(
        "voc",
        "layout of the data; packed: a file written by trident prepare pack; synthetic: drawn scenes; "
        "or an opener of your own, package.module:function",
    )
    root: Text | None = key(
        None, "folder of the data (voc: the one that holds JPEGImages), or the file of packed data"
    )
    train: Text = key("trainaug", "split to train on; for voc the name of a list in ImageSets/Segmentation")
    val: Text = key("val", "split to score on")
    select: Text | None = key(
        None, "split whose scores select the checkpoints; null: val, whose score is then slightly optimistic"
    )
    labels: Literal["single", "multi"] = key(
        "single",
        "single: a pixel has one class; multi: each class has a mask of its own, and they may overlap (one "
        "class alone is binary segmentation); for format: folder",
    )
    classes: TableName | list[Text | ClassColour] = key(
        "voc21", "name of a class table, or the names by label id, or {name, colour} by label id"
    )
    ignore_index: int = key(255, "label id of void pixels", ge=0, le=255)
    sampler: Literal["auto", "uniform", "rare"] = key(
        "auto",
        "uniform: all images equally often; rare: images with rare classes more often; auto: rare where a "
        "class has under 1 % of the labelled training pixels",
    )
    resident: Literal["auto", "gpu", "ram", "disk"] = key("auto", "where the decoded images are kept")
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = key(
        "auto", "number of decoding processes, where images are read from disk"
    )
    doctor: Literal["on", "off"] = key(
        "on", "check the files before training, and stop if their faults would spoil it"
    )
    on_error: Literal["raise", "skip"] = key(
        "raise", "an image that cannot be read: raise ends the run, skip logs it and leaves it out"
    )
    synthetic: Synthetic | None = key(None, "size and number of the drawn scenes; for format: synthetic only")
    ids: dict[StoredValue, Annotated[int, Field(ge=0)] | Literal["void"]] | None = key(
        None,
        "label id, or void, of each value that the masks hold, such as {0: void, 85: 0, 170: 1}; "
        "for format: voc and folder. null: the values are the label ids",
    )
    bands: Annotated[int, Field(ge=1, le=MAX_BANDS)] | list[Text] | None = key(
        None,
        "bands of the images: their number, or their names, such as [red, green, blue, nir]; "
        "null: RGB, to which other images are converted",
    )
    range: Literal["auto"] | Ends | list[Ends] = key(
        "auto",
        "of images of more than 8 bits per channel: [lowest, highest] stored value, which become black and "
        "white, or with data.bands one pair a band; auto: as many bits as the training images use",
    )
    normalisation: Literal["auto"] | Normalisation = key(
        "auto",
        "{mean, std} by band, of pixels in 0..255; auto: of RGB those of the pretrained weights, of other "
        "bands counted in images of the training split",
    )
    folder: Folder | None = key(None, "names of sub-folders and values of masks; for format: folder only")
    polygons: Polygons | None = key(
        None, f"splits and overlaps of annotated outlines; for format: {', '.join(OF_POLYGONS)}"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_format(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("format"), str):
            return values
        return {**format_of(values["format"]).defaults, **values}

    @field_validator("root", "classes", "ignore_index", "synthetic", "folder", "polygons")
    @classmethod
    def _fits_the_format(cls, value: Any, info: ValidationInfo) -> Any:
        name, format_ = info.field_name or "", info.data.get("format")
        if format_ is None:  # reported as a mistake of `format`
            return value
        needed = format_of(format_).fixed.get(name, value)
        if value != needed:
            raise mistake(f"format: {format_} works with {needed or 'null'} only")
        if format_ == name and value is None:
            raise mistake("expected a section; leave the key out for the defaults")
        if format_ == "packed":  # the keys of the recipe that was packed are accepted
            return value
        if value == "scenes6" and format_ != "synthetic":
            raise mistake("this is for format: synthetic only")
        if name == "polygons" and value is not None and format_ not in OF_POLYGONS and ":" not in format_:
            raise mistake(f"this is for format: {', '.join(OF_POLYGONS)}")
        if name in FORMATS and name != format_ and value is not None:
            raise mistake(f"this is for format: {name} only")
        return value

    @field_validator("labels")
    @classmethod
    def _has_a_mask_for_each_class(cls, value: str, info: ValidationInfo) -> str:
        if value == "multi" and info.data.get("format", "folder") != "folder":
            raise mistake("multi is for format: folder; for another type data.labels=single")
        return value

    @field_validator("ignore_index", "sampler", "ids")
    @classmethod
    def _fits_several_classes_a_pixel(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("labels") != "multi":
            return value
        if info.field_name == "sampler":
            if value == "rare":
                raise mistake("rare is for labels: single; type data.sampler=uniform")
            return "uniform"
        if info.field_name == "ids" and value is not None:
            raise mistake("this is for labels: single; leave it out, or type data.ids=null")
        if info.field_name == "ignore_index" and value != 255:
            raise mistake("labels: multi has 255 for void in each mask; type data.ignore_index=255")
        return value

    @field_validator("classes")
    @classmethod
    def _names_differ(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            return value
        if not value:
            raise mistake("expected the names by label id, such as [background, road]")
        names = [item if isinstance(item, str) else item.name for item in value]
        is_multi = info.data.get("labels") == "multi"
        least = 1 if is_multi else 2
        if len(names) < least or len({*names}) < len(names):
            raise mistake(f"expected at least {quantity(least, 'name')}, each different")
        if len(names) > MAX_CLASSES:
            raise mistake(
                f"{len(names)} classes are too many: label ids go from 0 to {MAX_CLASSES - 1}, as 255 is void"
            )
        colours = [tuple(item.colour) for item in value if isinstance(item, ClassColour)]
        if colours and not _takes_colours(info.data.get("format", "folder")):
            raise mistake("colours are for format: folder only; give the names alone")
        if colours and is_multi:
            raise mistake("colours are for labels: single; give the names alone")
        if colours and (len(colours) < len(value) or len({*colours}) < len(colours)):
            raise mistake("expected a colour for each class, each different, or names alone")
        return value

    @field_validator("bands")
    @classmethod
    def _bands_differ(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("format") == "synthetic":
            raise mistake("drawn scenes are RGB; this is for images in files")
        if isinstance(value, list):
            if not 1 <= len(value) <= MAX_BANDS:
                raise mistake("expected the names of the bands, such as [red, green, blue, nir]")
            if twice := [name for name in value if value.count(name) > 1]:
                raise mistake(f"{twice[0]} is there {value.count(twice[0])} times; each name differs")
        return value

    @field_validator("range")
    @classmethod
    def _range_grows(cls, value: Any, info: ValidationInfo) -> Any:
        if value == "auto":
            return value
        of_bands = value if isinstance(value[:1][0] if value else [], list) else [value]
        for ends in of_bands:
            if ends[0] >= ends[1]:
                raise mistake(f"expected the lower value first, as in [0, 4095], not {ends}")
        if of_bands is value:
            _require_one_a_band(len(value), info, "pairs")
        return value

    @field_validator("normalisation")
    @classmethod
    def _normalises_each_band(cls, value: Any, info: ValidationInfo) -> Any:
        if value != "auto":
            _require_one_a_band(len(value.mean), info, "means")
            _require_one_a_band(len(value.std), info, "deviations")
        return value

    @field_validator("ids")
    @classmethod
    def _ids_fit_the_classes(cls, value: dict[str, int | str] | None, info: ValidationInfo) -> Any:
        classes, format_ = info.data.get("classes"), info.data.get("format")
        if value is None or classes is None:
            return value
        if format_ not in ("voc", "folder", "packed"):
            raise mistake("this is for format: voc and format: folder")
        if any(isinstance(item, ClassColour) for item in classes if isinstance(classes, list)):
            raise mistake("this is for masks of values; data.classes has colours")
        if isinstance(classes, list) and (
            above := [id for id in value.values() if id != "void" and int(id) >= len(classes)]
        ):
            raise mistake(f"label id {above[0]} has no name: data.classes has {len(classes)}, from id 0 on")
        return value

    @field_validator("folder")
    @classmethod
    def _masks_fit_the_classes(cls, value: Folder | None, info: ValidationInfo) -> Folder | None:
        classes = info.data.get("classes")
        if value is None or classes is None:
            return value
        items = classes if isinstance(classes, list) else []
        colours = [item.colour for item in items if isinstance(item, ClassColour)]
        is_multi = info.data.get("labels") == "multi"
        if value.missing_masks == "empty" and not is_multi:
            raise mistake("missing_masks is for labels: multi")
        if value.values == "binary" and not is_multi and (len(items) != 2 or colours):
            raise mistake("values: binary needs the names of two classes in data.classes, without colours")
        if value.void_colours and not colours:
            raise mistake("void_colours is for classes with colours: data.classes: [{name, colour}, ...]")
        if value.values == "binary" and info.data.get("ids"):
            raise mistake("values: binary and data.ids exclude each other; leave one of them out")
        if any(colour in colours for colour in value.void_colours):
            raise mistake("void_colours holds a colour that a class has")
        if colours and info.data.get("ignore_index", 255) < len(colours):
            raise mistake("data.ignore_index is the label id of a class; with colours leave it at 255")
        return value


def _require_one_a_band(number: int, info: ValidationInfo, what: str) -> None:
    if "bands" not in info.data:  # reported as a mistake of `bands`
        return
    bands = band_names(info.data["bands"])
    if bands is None and what == "pairs":
        raise mistake("one pair a band is for data.bands; expected [lowest, highest]")
    if number != len(bands or RGB):
        raise mistake(f"expected {len(bands or RGB)} {what}, one for each of {', '.join(bands or RGB)}")


class Augment(Section):
    crop: Count = key(512, "side of the square training crop, px")
    scale: list[Positive] = key([0.5, 2.0], "random scale: [smallest, largest]", min_length=2, max_length=2)
    rotate_deg: float = key(10.0, "random rotation up to this, in either direction", ge=0, le=180)
    aspect: float = key(1.0, "the aspect ratio changes by up to this factor; 1 is off", ge=1, le=4)
    shear_deg: float = key(0.0, "shear along both axes up to this, in either direction", ge=0, le=45)
    translate: Share = key(0.0, "random shift of the crop up to this share of its side")
    category_max_ratio: float = key(
        1.0, "a crop is redrawn where one class fills this share of it, such as 0.75; 1 is off", gt=0, le=1
    )
    flip: Share = key(0.5, "share of images that are flipped horizontally")
    brightness: Share = key(0.12, "offset added to pixels in 0..1: up to this, plus or minus")
    contrast: Share = key(0.5, "random factor between 1 minus this and 1 plus this")
    saturation: Share = key(0.5, "random factor between 1 minus this and 1 plus this")
    hue: float = key(0.07, "hue shift up to this, plus or minus, in turns of the colour circle", ge=0, le=0.5)
    blur: NotNegative = key(0.0, "Gaussian blur with a sigma up to this, px; 0 is off")
    elastic: NotNegative = key(0.0, "elastic deformation up to this, px; 0 is off")
    grayscale: Share = key(0.0, "share of images that lose their colour")
    noise: Share = key(0.0, "sigma of Gaussian noise up to this, of 0..1 pixels; 0 is off")
    jpeg: Share = key(0.0, "share of images that are compressed as JPEG, at a quality of 30 to 95")
    cutmix: Share = key(0.0, "share of images with a box of another image pasted in, arXiv 1905.04899")
    classmix: Share = key(
        0.0, "share of images with half of another image's classes pasted in, arXiv 2007.07936"
    )
    mosaic: Share = key(0.0, "share of images composed of four, arXiv 2004.10934")
    copy_paste: Share = key(
        0.0, "share of images with another image's rare class pasted in, arXiv 2012.07177"
    )

    @field_validator("blur", "elastic")
    @classmethod
    def _small_relative_to_the_crop(cls, value: float, info: ValidationInfo) -> float:
        most = info.data.get("crop", math.inf) / 16  # above, blur removes all detail and bends fold over
        if value > most:
            raise mistake(f"expected at most a sixteenth of augment.crop, {most:g}")
        return value

    @field_validator("scale")
    @classmethod
    def _grows(cls, value: list[float]) -> list[float]:
        if value[0] > value[1]:
            raise mistake(f"expected the smaller scale first, as in [{value[1]}, {value[0]}]")
        return value
