"""The sections of a recipe: each key with its type, range, default and meaning.

A check between two keys stands at the later one, so that every mistake is found in one go. Knows nothing of
files and overrides.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from engine.recipe.durations import Duration, Interval, Length
from engine.recipe.fields import Count, NotNegative, Only, Positive, Section, Share, Text, key, mistake

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


class Model(Section):
    arch: Text = key("segformer", "segformer, or an architecture of segmentation-models-pytorch such as unet")
    variant: Literal["b0", "b1", "b2", "b3", "b4", "b5"] = key("b2", "size of SegFormer")
    encoder: Text | None = key(None, "builds model.arch from SMP on this encoder, such as resnet34")
    decoder_width: Count | None = key(None, "channels of SegFormer's decoder; null: as in the paper")
    head: Literal["paper", "mmseg"] = key(
        "paper", "SegFormer's decoder; mmseg is for weights of MMSegmentation"
    )
    from_scratch: bool = key(False, "start from random weights, knowingly")
    weights: Text | None = key(
        None, "where training starts: hf:<repository>, smp:<tag>, a file, or a run folder"
    )
    drop_path: float = key(0.1, "stochastic depth of SegFormer's last block", ge=0, lt=1)
    dropout: float = key(0.1, "of channels before SegFormer's classifier", ge=0, lt=1)
    checkpointing: bool = key(False, "SegFormer's blocks are computed again for the gradient: less memory")

    @field_validator("weights")
    @classmethod
    def _one_start(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("from_scratch"):
            raise mistake(
                "from_scratch: true and weights exclude each other: add model.weights=null, or drop the first"
            )
        return value


ClassWeights = Literal["none", "inverse", "median", "enet", "effective"] | list[NotNegative]


class Ramp(Section):
    begin: NotNegative = key(0.0, "the weight until `start`")
    end: NotNegative = key(1.0, "the weight from `ramp` steps after `start`")
    start: Duration = key(0, "when it begins to change")
    ramp: Duration = key("10%", "how long it takes")


Weight = NotNegative | Ramp


class Ohem(Section):
    thresh: float = key(0.7, "drop pixels whose label has more probability than this", ge=0, lt=1)
    min_kept: Count = key(100000, "but keep the hardest: this many times the images of a batch")


class CrossEntropy(Section):
    name: Literal["cross_entropy"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    class_weights: ClassWeights = key(
        "none", "a scheme that counts the training labels, or one number a class, by label id"
    )
    label_smoothing: float = key(0.0, "share of the target spread over all classes", ge=0, lt=1)
    ohem: Ohem | None = key(None, "only hard pixels count; null: all")


class Dice(Section):
    name: Literal["dice"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    per_image: bool = key(False, "each image by itself, then their mean; false: over the whole batch")


class Focal(Section):
    name: Literal["focal"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    gamma: NotNegative = key(2.0, "the higher, the less pixels count that are nearly right; 0: cross_entropy")
    class_weights: ClassWeights = key("none", "as of cross_entropy")


class Lovasz(Section):
    name: Literal["lovasz"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    per_image: bool = key(False, "each image by itself, then their mean; false: over the whole batch")


class Tversky(Section):
    name: Literal["tversky"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    alpha: NotNegative = key(0.3, "cost of false positives; alpha and beta 0.5: dice, 1: jaccard")
    beta: Positive = key(0.7, "cost of false negatives")
    gamma: Positive = key(1.0, "focal form: the power is 1 / gamma; 1: plain")


class Jaccard(Section):
    name: Literal["jaccard"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")


class Boundary(Section):
    name: Literal["boundary"]
    weight: Weight = key(1.0, "factor in the sum of losses; or {begin, end, start, ramp} over the training")
    sigma_px: float = key(5.0, "how far from a boundary pixels count", ge=1)


Loss = Annotated[
    CrossEntropy | Dice | Focal | Lovasz | Tversky | Jaccard | Boundary, Field(discriminator="name")
]


class Adversarial(Section):
    weight: Positive = key(0.01, "factor of the adversarial loss of the segmenter")
    objective: Literal["hinge", "bce", "lsgan", "wgan_gp"] = key("hinge", "of both players")
    start: Duration = key("10%", "when the discriminator joins")
    ramp: Duration = key("10%", "how long the weight rises from 0 after that")
    lr: Positive = key(1e-4, "learning rate of the discriminator")
    channels: Count = key(64, "of its first layer")
    layers: Count = key(4, "strided convolutions")
    watchdog: bool = key(True, "lowers the weight while the discriminator wins, raises it while it guesses")


class Optimizer(Section):
    name: Literal["adamw"] = key("adamw", "arXiv 1711.05101")
    lr: Positive = key(6e-5, "peak learning rate of the encoder")
    weight_decay: NotNegative = key(0.01, "none on norms, biases and other 1-d parameters")
    head_lr_mult: Positive = key(10.0, "learning rate of the head = lr times this")
    layer_decay: float = key(1.0, "lr of each block of SegFormer = lr of the next times this", gt=0, le=1)
    clip_norm: Positive | None = key(
        None, "largest norm of the gradient, the discriminator's apart; null is off"
    )


class Schedule(Section):
    name: Literal["poly", "cosine", "onecycle", "step", "constant"] = key(
        "poly", "how the learning rate falls"
    )
    power: Positive = key(1.0, "of poly")
    warmup: Duration = key(1500, "rise from 0 to the peak; onecycle rises by itself and takes none")
    min_lr: NotNegative = key(0.0, "where poly, cosine and onecycle end")
    milestones: list[Duration] = key([], "when step lowers the learning rate")
    gamma: float = key(0.1, "factor of step at each milestone", gt=0, le=1)

    @field_validator("milestones")
    @classmethod
    def _needed_by_step(cls, value: list[int | str], info: ValidationInfo) -> list[int | str]:
        if info.data.get("name") == "step" and not value:
            raise mistake("schedule: step needs milestones, for example [60%, 90%]")
        return value

    @field_validator("power", "milestones", "gamma")
    @classmethod
    def _belongs_to_name(cls, value: Any, info: ValidationInfo) -> Any:
        owner = "poly" if info.field_name == "power" else "step"
        default = cls.model_fields[info.field_name or ""].default
        if info.data.get("name", owner) != owner and value != default:
            raise mistake(f"only name: {owner} uses this; here it must be absent or {default}")
        return value


class Train(Section):
    steps: Length = key(40000, "updates of the weights")
    batch: Count = key(16, "images an update, over all processes")
    accumulate: Count = key(1, "parts in which each batch is computed")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key("auto", "of the forward pass")
    compile: Literal["auto"] | bool = key("auto", "torch.compile")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = key(
        None, "decay of averaged weights, such as 0.999; null is off"
    )
    deterministic: bool = key(False, "bitwise repeatable, slower")


class Eval(Section):
    every: Interval = key(2000, "steps between two evaluations")
    protocol: Annotated[str, Only("native")] = key("native", "each image at its original size")
    flip: bool = key(False, "average with the mirrored image")
    scales: list[Positive] = key([1.0], "average over these sizes", min_length=1)


class Keep(Section):
    top: Count = key(3, "checkpoints kept")
    metric: Literal["mIoU", "mAcc", "aAcc"] = key("mIoU", "by which the best are chosen")


class Log(Section):
    every: Count = key(50, "steps between two lines")
    images: int = key(8, "pictures at each evaluation", ge=0)
    features: Annotated[int, Only(0, "off")] = key(0, "not available yet")
    gradients: Annotated[int, Only(0, "off")] = key(0, "not available yet")
    loss_gradients: bool = key(
        False, "norm of each loss term's gradient; costs a backward pass of the loss each"
    )


class Output(Section):
    dir: Text = key("checkpoints", "the run lives in <dir>/<name>/")
