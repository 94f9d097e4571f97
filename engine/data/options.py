"""The `data` and `augment` sections of a recipe: each key with its type, range, default and meaning.

A check of two keys together is done at the later one, so that all mistakes are found at once. This module and
those that it imports do not import torch.
"""

import math
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from engine.data.bands import MAX_BANDS, RGB, band_names
from engine.data.set_options import FurtherSet, ImageSet, with_a_name
from engine.options import (
    Count,
    Duration,
    Interval,
    NotNegative,
    PathText,
    Positive,
    Section,
    Share,
    Text,
    key,
    mistake,
)

LabelId = Annotated[int, Field(ge=0, le=255)]


class Normalisation(Section):
    mean: list[float] = key([], "mean of each band, of pixels in 0..255")
    std: list[Positive] = key([], "standard deviation of each band, of pixels in 0..255")


class Unlabelled(Section):
    """Images without masks, from which the model learns what its moving average predicts on them."""

    root: PathText | None = key(None, "folder of the images, with its sub-folders; give this or split")
    split: Text | None = key(
        None, "split of this data set whose images are used; for format: voc it needs no masks"
    )
    ratio: Positive = key(1.0, "unlabelled images for each labelled one in an update")
    weight: Positive = key(1.0, "factor of the loss on unlabelled images")
    ramp: Duration = key("10%", "how long the weight takes to rise from 0")
    threshold: Share = key(
        0.95, "minimum confidence of the teacher with which a pixel is used as a label, arXiv 2208.09910"
    )
    discriminator: Share | None = key(
        None,
        "minimum probability, by the discriminator of `adversarial`, that a prediction is a label, "
        "such as 0.2, arXiv 1802.07934; null is off",
    )
    views: Count = key(2, "number of strongly augmented views of each image")
    feature_dropout: float = key(
        0.0,
        "share of the encoder's feature channels that are dropped in one more view, such as 0.5, "
        "arXiv 2208.09910; 0: there is no such view",
        ge=0,
        lt=1,
    )
    cutmix: Share = key(0.5, "share of the strong views with a box of another image, arXiv 1905.04899")
    brightness: Share = key(0.25, "of the strong views; as in augment")
    contrast: Share = key(0.5, "of the strong views; as in augment")
    saturation: Share = key(0.5, "of the strong views; as in augment")
    hue: float = key(0.25, "of the strong views; as in augment", ge=0, le=0.5)
    grayscale: Share = key(0.2, "share of the strong views that lose their colour")
    blur: NotNegative = key(1.0, "of the strong views; as in augment")

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if (self.root is None) == (self.split is None):
            raise mistake(
                "expected one of root, a folder, and split, a split of this data set; the other is null"
            )
        return self


class Data(ImageSet):
    train: Text = key("trainaug", "split to train on; for voc the name of a list in ImageSets/Segmentation")
    val: Text = key("val", "split to score on")
    select: Text | None = key(
        None, "split whose scores select the checkpoints; null: val, whose score is then slightly optimistic"
    )
    fold: PathText | None = key(
        None,
        "file that lists the images of data.train which are data.val of this run; the others are trained on. "
        "trident compare --folds writes it",
    )
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
    bands: Annotated[int, Field(ge=1, le=MAX_BANDS)] | list[Text] | None = key(
        None,
        "bands of the images: their number, or their names, such as [red, green, blue, nir]; "
        "null: RGB, to which other images are converted",
    )
    normalisation: Literal["auto"] | Normalisation = key(
        "auto",
        "{mean, std} by band, of pixels in 0..255; auto: for RGB those of the pretrained weights, for other "
        "bands counted in images of the training split",
    )
    unlabelled: Unlabelled | None = key(
        None, "images without masks that are learnt from too; see docs/unlabelled.md; null is off"
    )
    also: list[FurtherSet] = key(
        [], "further sets that are trained on and scored with this one; see docs/several_sets.md"
    )

    @property
    def evaluated_on(self) -> str:
        """The split that is scored during the training, by which checkpoints are chosen."""
        return self.select or self.val

    @model_validator(mode="before")
    @classmethod
    def _is_named(cls, values: Any) -> Any:
        return with_a_name(values) if isinstance(values, dict) and values.get("also") else values

    @field_validator("fold")
    @classmethod
    def _fold_has_a_name(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("train") == info.data.get("val"):
            raise mistake("data.val is the name of the fold here, and has to differ from data.train")
        return value

    @field_validator("sampler")
    @classmethod
    def _fits_several_classes_a_pixel(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("labels") != "multi":
            return value
        if value == "rare":
            raise mistake("rare is for labels: single; type data.sampler=uniform")
        return "uniform"

    @field_validator("also")
    @classmethod
    def _folds_are_of_one_set(cls, value: list[FurtherSet], info: ValidationInfo) -> list[FurtherSet]:
        if value and info.data.get("fold") is not None:
            raise mistake("data.fold works on one set. Type data.fold=null or data.also=[]")
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

    @field_validator("normalisation")
    @classmethod
    def _normalises_each_band(cls, value: Any, info: ValidationInfo) -> Any:
        if value != "auto":
            _require_one_a_band(len(value.mean), info, "means")
            _require_one_a_band(len(value.std), info, "deviations")
        return value


def _require_one_a_band(number: int, info: ValidationInfo, what: str) -> None:
    if "bands" not in info.data:  # reported as a mistake of `bands`
        return
    bands = band_names(info.data["bands"]) or RGB
    if number != len(bands):
        raise mistake(f"expected {len(bands)} {what}, one for each of {', '.join(bands)}")


class SmallerCrop(Section):
    """The crop of the updates before a time in the training."""

    crop: Count = Field(description="side of the square training crop, px")
    until: Interval = Field(description="when the next crop of the list takes over")


class Augment(Section):
    crop: Count = key(512, "side of the square training crop, px")
    progressive: list[SmallerCrop] = key(
        [],
        "smaller crops at the start of the training, each up to its time, such as "
        "[{crop: 256, until: 40%}, {crop: 384, until: 70%}]; scale, blur and elastic shrink with the crop "
        "(progressive learning, arXiv 2104.00298)",
    )
    scale: list[Positive] = key([0.5, 2.0], "random scale: [smallest, largest]", min_length=2, max_length=2)
    rotate_deg: float = key(10.0, "random rotation up to this, in either direction", ge=0, le=180)
    aspect: float = key(1.0, "the aspect ratio changes by up to this factor; 1 is off", ge=1, le=4)
    shear_deg: float = key(0.0, "shear along both axes up to this, in either direction", ge=0, le=45)
    translate: Share = key(0.0, "random shift of the crop up to this share of its side")
    category_max_ratio: float = key(
        1.0, "a crop is redrawn where one class fills this share of it, such as 0.75; 1 is off", gt=0, le=1
    )
    crop_on: Literal["none", "rare"] | list[LabelId] = key(
        "none",
        "a crop is redrawn until it shows the first of these classes that its image has: their ids, or "
        "rare: those under 1 % of the labelled pixels, rarest first, arXiv 2111.14887",
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

    def crops(self) -> list[int]:
        """The sides of the crops in px, in the order of the training, from the smallest to the largest."""
        return [*(smaller.crop for smaller in self.progressive), self.crop]

    def allows(self, crop: int) -> bool:
        """Whether `crop` can be this many px with the other keys as they are."""
        return 16 * max(self.blur, self.elastic) <= crop and all(side < crop for side in self.crops()[:-1])

    @field_validator("progressive")
    @classmethod
    def _grow(cls, value: list[SmallerCrop], info: ValidationInfo) -> list[SmallerCrop]:
        sides, most = [part.crop for part in value], info.data.get("crop", math.inf)
        if any(after <= before for before, after in pairwise([*sides, most])):
            raise mistake(
                f"expected crops that grow and stay below augment.crop, {most}, or [] for crops of one size"
            )
        return value

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
