"""Recipe lines that may solve a problem of a training, each defined once.

They are suggested at the start of a training (`engine.training.imbalance`), while it runs
(`engine.reporting.advisor`) and after it (`recommendations.py`). A remedy is text: `key.path=value` as it is
typed after a recipe, several with spaces between them where they belong together, or a command.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from engine.recipe import Recipe
from engine.recipe.contradictions import contradictions
from engine.recipe.contradictions import pretrained_weights as weights_for
from engine.recipe.text import parse_yaml

CHECK_DATA = "trident doctor <recipe>"
FIND_LR = "trident lr_find <recipe>"
PACK_DATA = "trident prepare pack <recipe> --out data.h5"
SAMPLE_RARE = "data.sampler=rare"
CROP_ON_RARE = "augment.crop_on=rare"
AVERAGE_WEIGHTS = "train.ema=0.999"
COSTLY = ("elastic", "jpeg", "hue", "blur", "mosaic", "copy_paste")  # augmentations that are slow
BETWEEN = re.compile(r" +(?=[a-z_]+(?:\.\w+)*=)")  # recipe lines that belong together
DATA_WAIT_SHARE = 0.2  # of the time of an update: above it, training waits too long for data


def not_followed(recipe: Recipe, remedies: Iterable[str]) -> tuple[str, ...]:
    """The remedies that are commands, or that make another recipe, which can be trained."""
    return tuple(remedy for remedy in remedies if "=" not in remedy or changing(recipe, _lines(remedy)))


def changing(recipe: Recipe, lines: Sequence[str]) -> list[str]:
    """Of lines that are typed together those that change the recipe; none where it could not be trained."""
    values, before = recipe.to_dict(), recipe.to_dict()
    for line in lines:
        key, _, text = line.partition("=")
        *path, last = _path(key)
        section: Any = values
        for part in path:
            if section[part] is None:  # a section that is switched off
                section[part] = {}
            section = section[part]
        section[last] = parse_yaml(f"value: {text}", "a remedy").values["value"]
    try:
        changed = type(recipe).model_validate(values)
    except ValidationError:
        return []
    if any(contradictions(changed)):
        return []
    after = changed.to_dict()
    return [line for line in lines if _value(before, line) != _value(after, line)]


def _lines(remedy: str) -> list[str]:
    return BETWEEN.split(remedy)


def _path(key: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in key.split(".")]


def _value(values: Any, line: str) -> Any:
    for part in _path(line.partition("=")[0]):
        values = None if values is None else values[part]
    return values


def lower_lr(recipe: Recipe, factor: float) -> str:
    """The learning rate divided by `factor`; the schedule's floor goes to 0 where it would be above that."""
    lr = recipe.optimizer.lr / factor
    floor = " schedule.min_lr=0" if recipe.schedule.min_lr > lr else ""
    return f"optimizer.lr={lr:.1e}{floor}"


def help_rare_classes(recipe: Recipe) -> tuple[str, ...]:
    """Draw their images more often, and crops that show them.

    Class weights are not among them: on photos they cost three points on top of the sampler
    (docs/experiments.md).
    """
    crops = [CROP_ON_RARE] if recipe.augment.crop_on == "none" else []  # else they are chosen already
    return not_followed(recipe, (SAMPLE_RARE, *crops))


def keep_images_in_memory(recipe: Recipe) -> tuple[str, ...]:
    """Keep decoded images where they fit; empty unless the recipe forbids it, as that is the default."""
    return ("data.resident=auto",) if recipe.data.resident == "disk" else ()


def can_be_packed(recipe: Recipe) -> bool:
    """Whether PACK_DATA works: a pack holds one set."""
    data = recipe.data
    return not (data.format == "packed" or data.also)


def average_weights(recipe: Recipe) -> tuple[str, ...]:
    """A moving average of the weights; empty where the recipe has one."""
    return () if recipe.train.ema else (AVERAGE_WEIGHTS,)


def cheaper_augmentation(recipe: Recipe) -> tuple[str, ...]:
    """Switch off what is slow of the augmentation."""
    return tuple(f"augment.{name}=0" for name in COSTLY if getattr(recipe.augment, name))


def pretrained_weights(recipe: Recipe, variant: str) -> str:
    """Of ImageNet, for the encoder of this recipe; `variant` is that of SegFormer, b0 to b5."""
    return f"model.weights={weights_for(recipe.model.model_copy(update={'variant': variant}))}"
