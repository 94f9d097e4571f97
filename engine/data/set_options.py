"""The keys of a recipe that belong to one set of images and labels; a training may use several sets.

A check of two keys together is done at the later one, so that all mistakes are found at once. Imports no
torch.
"""

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from engine.components import IMPORT_PATH
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
from engine.options import PathText, Positive, Section, Text, key, mistake
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
VOID = "void"  # in place of a class: its pixels are unlabelled
REST = "other"  # in a class map: all classes that are not named, and have no equal in the model
FormatName = Annotated[str, *_one_of(FORMATS, IMPORT_PATH)]
TableName = Annotated[str, *_one_of(CLASS_TABLES)]
StoredValue = Annotated[str, Field(pattern=r"^(-?\d+(\.\d+)?(e[+-]?\d+)?|-?inf|nan)$")]
SetName = Annotated[str, Field(pattern=r"^[^/\s.][^/\s]*$")]  # also that of a folder


Ends = Annotated[list[float], Field(min_length=2, max_length=2)]


class ClassColour(Section):
    name: Annotated[Text, Field(description="name of the class")]
    colour: Annotated[Colour, Field(description="its colour in the masks: [red, green, blue], 0 to 255")]


class ImageSet(Section):
    """Where the images and labels of one set are, and what its masks mean."""

    format: FormatName = key(
        "voc",
        "layout of the data; packed: a file written by trident prepare pack; synthetic: drawn scenes; "
        "or an opener of your own, package.module:function",
    )
    root: PathText | None = key(
        None, "folder of the data (voc: the one that holds JPEGImages), or the file of packed data"
    )
    train: Text | None = key(
        "trainaug",
        "split to train on; for voc the name of a list in ImageSets/Segmentation; null: the set is only "
        "scored",
    )
    val: Text | None = key("val", "split to score on; null: the set is only trained on")
    labels: Literal["single", "multi"] = key(
        "single",
        "single: a pixel has one class; multi: each class has a mask of its own, and they may overlap (one "
        "class alone is binary segmentation); for format: folder, and packs of such folders",
    )
    classes: TableName | list[Text | ClassColour] = key(
        "voc21", "name of a class table, or the names by label id, or {name, colour} by label id"
    )
    ignore_index: int = key(255, "label id of void pixels", ge=0, le=255)
    synthetic: Synthetic | None = key(None, "size and number of the drawn scenes; for format: synthetic only")
    ids: dict[StoredValue, Annotated[int, Field(ge=0)] | Literal["void"]] | None = key(
        None,
        "label id, or void, of each value that the masks hold, such as {0: void, 85: 0, 170: 1}; "
        "for format: voc and folder. null: the values are the label ids",
    )
    range: Literal["auto"] | Ends | list[Ends] = key(
        "auto",
        "for more than 8 bits per channel: the [lowest, highest] stored value, which become black and "
        "white, or with data.bands one pair a band; auto: as many bits as the training images use",
    )
    folder: Folder | None = key(None, "names of sub-folders and values of masks; for format: folder only")
    polygons: Polygons | None = key(
        None, f"splits and overlaps of annotated outlines; for format: {', '.join(OF_POLYGONS)}"
    )
    name: SetName | None = key(
        None, "of several sets, what this one is called in logs and tables; null: by its root"
    )
    weight: Positive | None = key(
        None,
        "of several sets, the share of the training images that are drawn from this one, relative to the "
        "weights of the others; null, then in all sets: each image is drawn equally often",
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
        if format_ == "packed":  # the keys of the recipe that was packed are accepted: HELD_BY_PACKS
            return value
        if value == "scenes6" and format_ != "synthetic":
            raise mistake("this is for format: synthetic only")
        if name == "polygons" and value is not None and format_ not in OF_POLYGONS and ":" not in format_:
            raise mistake(f"this is for format: {', '.join(OF_POLYGONS)}; leave it out, or set it to null")
        if name in FORMATS and name != format_ and value is not None:
            raise mistake(f"this is for format: {name} only; leave it out, or set it to null")
        return value

    @field_validator("labels")
    @classmethod
    def _has_a_mask_for_each_class(cls, value: str, info: ValidationInfo) -> str:
        if value == "multi" and info.data.get("format", "folder") not in ("folder", "packed"):
            raise mistake(
                "multi is for format: folder, or a pack of such a folder; for another type data.labels=single"
            )
        return value

    @field_validator("ignore_index", "ids")
    @classmethod
    def _fits_a_mask_of_each_class(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("labels") != "multi":
            return value
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

    @field_validator("range")
    @classmethod
    def _range_grows(cls, value: Any) -> Any:
        if value == "auto":
            return value
        for ends in value if isinstance(value[:1][0] if value else [], list) else [value]:
            if ends[0] >= ends[1]:
                raise mistake(f"expected the lower value first, as in [0, 4095], not {ends}")
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


def with_a_name(values: Any) -> Any:
    """A set of a document, with its name: that of its folder, or its file without ending, or its format."""
    if not isinstance(values, dict) or values.get("name") is not None:
        return values
    root, format_ = values.get("root"), values.get("format", "voc")
    place = PurePath(root) if isinstance(root, str) else PurePath(str(format_).rpartition(":")[2])
    name = (place.stem if format_ == "packed" else place.name).lstrip(".") or str(format_)
    return {**values, "name": re.sub(r"\s+", "_", name)}


class FurtherSet(ImageSet):
    """A set besides that of the `data` section itself, whose classes are those of the model."""

    map: dict[Text, Text] | None = key(
        None,
        "class of the model, or void, that each class of this set becomes, such as {couch: sofa, other: "
        "void}; a class of the same name needs no entry; other: all that are left",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_named(cls, values: Any) -> Any:
        return with_a_name(values)

    @field_validator("val")
    @classmethod
    def _is_used(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("train", "") is None:
            raise mistake("train and val are both null, so this set would not be used; leave it out")
        return value
