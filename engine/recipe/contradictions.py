"""Values of a recipe that contradict each other, or with which a training cannot start."""

from collections.abc import Collection, Iterator
from copy import deepcopy
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from engine.data.bands import band_names, colour_bands
from engine.recipe.source import Document, dotted
from engine.recipe.text import Path
from losses.terms import LossError, require_multi
from models.architectures import ARCHITECTURES, PRETRAINED_PACKAGES

AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)


class Contradiction(NamedTuple):
    """What is wrong, at the first of the keys that it depends on."""

    keys: tuple[Path, ...]
    text: str

    def depends_on(self, paths: Collection[Path]) -> bool:
        return any(key[: len(path)] == path for key in self.keys for path in paths)


COLOUR_OPERATORS = ("brightness", "contrast", "saturation", "hue", "grayscale", "jpeg")
STEPS, WARMUP, START = ("train", "steps"), ("schedule", "warmup"), ("adversarial", "start")
EVERY, GRADIENTS = ("log", "every"), ("log", "gradients")
LR, MIN_LR = ("optimizer", "lr"), ("schedule", "min_lr")


def contradictions(recipe: Any, trains: bool = True) -> Iterator[Contradiction]:
    """Of a recipe whose durations are in steps; one whose training is given in epochs has fewer.

    Args:
        trains: whether a training will start from it; the recipe of a finished run may have what was
            refused only later.
    """
    yield from _colours_without_bands(recipe)
    yield from _range_of_other_bands(recipe.data)
    yield from _sets_that_do_not_fit(recipe.data)
    yield from _unlabelled_images(recipe)
    yield from _ways_to_train(recipe)
    if trains:
        yield from _large_patches(recipe)
    if recipe.data.labels == "multi":
        yield from _single_labels_only(recipe)
    yield from _rates_and_logs(recipe)
    if isinstance(recipe.train.steps, int):
        yield from _outside_the_training(recipe, recipe.train.steps)
        yield from _crops_that_do_not_grow(recipe.augment.progressive, recipe.train.steps)
        yield from _short_cycles(recipe.schedule, recipe.train.steps)


def _ways_to_train(recipe: Any) -> Iterator[Contradiction]:
    """Options of `train` that do not go together with each other or with the model."""
    train = recipe.train
    if train.batch_norm == "frozen" and recipe.model.from_scratch:
        text = (
            "frozen keeps the statistics of the encoder's weights, and there are none with "
            "model.from_scratch=true. Type train.batch_norm=sync."
        )
        yield Contradiction((("train", "batch_norm"), ("model", "from_scratch")), text)
    if recipe.model.auxiliary and (train.compile in (True, "max") or train.shard):
        text = (
            "a model with this head is neither compiled nor sharded. Type "
            "train.compile=auto train.shard=false"
        )
        yield Contradiction((("model", "auxiliary"), ("train", "compile"), ("train", "shard")), text)
    if train.compile == "max" and (train.accumulate != 1 or recipe.data.unlabelled):
        text = (
            "a CUDA graph draws other random numbers for each part of the batch, and the parts of an update "
            "have to draw the same. Type train.compile=true, or train.accumulate=1 data.unlabelled=null"
        )
        yield Contradiction((("train", "compile"), ("train", "accumulate"), ("data", "unlabelled")), text)
    if train.compile == "max" and getattr(recipe.model, "checkpointing", False):
        text = (
            "the state of the random numbers, which the repeated layers need, cannot be read while a CUDA "
            "graph is recorded. Type train.compile=true or model.checkpointing=false"
        )
        yield Contradiction((("train", "compile"), ("model", "checkpointing")), text)
    if train.ema_widths and not recipe.keep.tail:
        text = "the averages are kept with the latest states. Type keep.tail=8 or train.ema_widths=[]"
        yield Contradiction((("train", "ema_widths"), ("keep", "tail")), text)


def _rates_and_logs(recipe: Any) -> Iterator[Contradiction]:
    """A learning rate that would rise; gradients that would be logged between the log steps."""
    lowest, peak = recipe.schedule.min_lr, recipe.optimizer.lr
    if lowest > peak:
        text = (
            f"{lowest} is above optimizer.lr, {peak}: the rate would rise. Type a smaller one, such as "
            "schedule.min_lr=0."
        )
        yield Contradiction((MIN_LR, LR), text)
    every, gradients = recipe.log.every, recipe.log.gradients
    if isinstance(every, int) and gradients % every:
        text = f"expected a multiple of log.every, {every}: {-(-gradients // every) * every}, got {gradients}"
        yield Contradiction((GRADIENTS, EVERY), text)


def _outside_the_training(recipe: Any, steps: int) -> Iterator[Contradiction]:
    """A warm-up, decay or discriminator that would begin or last beyond the end of the training."""
    schedule, adversarial = recipe.schedule, recipe.adversarial
    if isinstance(schedule.warmup, int) and schedule.warmup >= steps and schedule.name != "onecycle":
        text = (
            f"{schedule.warmup} steps, but the whole training has {steps}. Type schedule.warmup=5% for a "
            "share of it."
        )
        yield Contradiction((WARMUP, STEPS), text)
    elif schedule.name == "wsd" and steps < sum(
        duration for duration in (schedule.warmup, schedule.decay) if isinstance(duration, int)
    ):
        text = (
            f"{schedule.decay} steps after a warm-up of {schedule.warmup}, but the whole training has "
            f"{steps}. Type schedule.decay=20% schedule.warmup=5% for shares of it."
        )
        yield Contradiction((("schedule", "decay"), WARMUP, STEPS), text)
    if adversarial and isinstance(adversarial.start, int) and adversarial.start >= steps:
        text = (
            f"step {adversarial.start}, but the training ends at {steps}: the discriminator would never be "
            "used. Type adversarial.start=10%, or adversarial=null."
        )
        yield Contradiction((START, STEPS), text)


def _large_patches(recipe: Any) -> Iterator[Contradiction]:
    """A patch of the discriminator must not be larger than a crop; the crop would have to be padded."""
    section, crop = recipe.adversarial, recipe.augment.crop
    if section and section.layers >= crop.bit_length():  # 2^layers > crop
        text = (
            f"{section.layers} halvings make patches of {2 ** min(section.layers, 64):,} px and more, and "
            f"augment.crop is {crop}. Type adversarial.layers={max(1, crop.bit_length() - 1)}"
        )
        yield Contradiction((("adversarial", "layers"), ("augment", "crop")), text)


def _crops_that_do_not_grow(progressive: Any, steps: int) -> Iterator[Contradiction]:
    """Each smaller crop has updates of its own, and augment.crop has the last ones."""
    ends = [part.until for part in progressive]
    if all(isinstance(end, int) for end in ends) and sorted({0, *ends, steps}) != [0, *ends, steps]:
        text = (
            f"the smaller crops end at update {', '.join(map(str, ends))}: expected times that grow and stay "
            f"below train.steps, {steps}. Type augment.progressive=[] for crops of one size"
        )
        yield Contradiction((("augment", "progressive"), STEPS), text)


def _short_cycles(schedule: Any, steps: int) -> Iterator[Contradiction]:
    """A cycle of cyclic needs two updates, to fall and to rise."""
    if schedule.name != "cyclic" or not isinstance(schedule.warmup, int) or schedule.warmup >= steps:
        return
    updates = steps - schedule.warmup
    most = max(1, updates // 2)
    if schedule.cycles > most:
        text = (
            f"{schedule.cycles} cycles in {updates} updates after the warm-up, and each needs at least two. "
            f"Type schedule.cycles={most}, or a longer train.steps."
        )
        yield Contradiction((("schedule", "cycles"), WARMUP, STEPS), text)


def _colours_without_bands(recipe: Any) -> Iterator[Contradiction]:
    """Operators of colour need bands that are colours."""
    bands = band_names(recipe.data.bands)
    sections: dict[Path, Any] = {("augment",): recipe.augment}
    if recipe.data.unlabelled:
        sections["data", "unlabelled"] = recipe.data.unlabelled
    for path, section in sections.items():
        used = [(*path, name) for name in COLOUR_OPERATORS if getattr(section, name, 0) > 0]
        if used and not colour_bands(bands):
            off = " ".join(f"{dotted(key)}=0" for key in used)
            text = (
                f"none of {', '.join(bands or ())} is a colour, and {dotted(path)} changes the colours of "
                f"images. Name red, green and blue, or grey, or type {off}"
            )
            yield Contradiction((("data", "bands"), *used), text)


def _unlabelled_images(recipe: Any) -> Iterator[Contradiction]:
    """What images without masks do not go together with."""
    section, path = recipe.data.unlabelled, ("data", "unlabelled")
    if section is None:
        return
    if recipe.data.labels == "multi":
        text = "unlabelled images are for data.labels: single. Type data.unlabelled=null"
        yield Contradiction((path, ("data", "labels")), text)
    if section.split is not None and recipe.data.format in ("packed", "synthetic"):
        text = (
            f"format {recipe.data.format} has no image files. Name a folder of images instead: "
            "data.unlabelled.split=null data.unlabelled.root=<its folder>"
        )
        yield Contradiction(((*path, "split"), ("data", "format")), text)
    if recipe.train.shard:
        text = "the teacher of unlabelled images is not sharded. Type train.shard=false"
        yield Contradiction((("train", "shard"), path), text)
    if section.feature_dropout and recipe.train.compile in (True, "max"):
        text = "a model whose features are dropped is not compiled. Type train.compile=auto"
        yield Contradiction((("train", "compile"), (*path, "feature_dropout")), text)
    if section.discriminator is not None and getattr(recipe.adversarial, "objective", None) != "bce":
        text = (
            "the filter needs a discriminator whose output is a probability. Type adversarial.objective=bce, "
            "or data.unlabelled.discriminator=null"
        )
        yield Contradiction(((*path, "discriminator"), ("adversarial",)), text)


def _range_of_other_bands(data: Any) -> Iterator[Contradiction]:
    """A range of each band needs one for every band."""
    bands = band_names(data.bands)
    ranges: dict[Path, Any] = {("data",): data.range}
    ranges |= {("data", "also", place): further.range for place, further in enumerate(data.also)}
    for path, pairs in ranges.items():
        is_of_bands = isinstance(pairs, list) and not (pairs and isinstance(pairs[0], float))
        if is_of_bands and len(pairs) != len(bands or ()):
            text = "one pair a band is for data.bands; expected [lowest, highest]"
            if bands is not None:
                text = f"expected {len(bands)} pairs, one for each of {', '.join(bands)}, got {len(pairs)}"
            yield Contradiction(((*path, "range"), ("data", "bands")), text)


def _sets_that_do_not_fit(data: Any) -> Iterator[Contradiction]:
    """Names of several sets differ; a weight is given to all that are trained on, or to none."""
    names = [data.name]
    for place, further in enumerate(data.also):
        path: Path = ("data", "also", place, "name")
        if further.name in names:
            text = (
                f"another set is called {further.name}, too. Give this one another name: "
                f"{dotted(path)}={further.name}{place + 2}"
            )
            yield Contradiction((path, ("data", "name"), ("data", "also")), text)
        names.append(further.name)
    places: dict[Path, Any] = {("data",): data}
    places |= {("data", "also", place): further for place, further in enumerate(data.also)}
    trained = {path: of_set for path, of_set in places.items() if of_set.train is not None}
    without = [(*path, "weight") for path, of_set in trained.items() if of_set.weight is None]
    if without and len(without) < len(trained):
        lines = " ".join(f"{dotted(path)}=1" for path in without)
        text = (
            "null, while other sets have a weight. Give each set that is trained on one, such as "
            f"{lines}; or none of them, and each image is drawn equally often"
        )
        yield Contradiction((without[0], ("data", "also")), text)
    kinds = {of_set.labels for of_set in places.values()}
    if data.also and "multi" in kinds:
        text = "several sets are for data.labels: single. Type data.also=[] for the first one alone"
        yield Contradiction((("data", "also"), ("data", "labels")), text)


def _single_labels_only(recipe: Any) -> Iterator[Contradiction]:
    """What is defined only where a pixel has one class, in a recipe with data.labels: multi."""
    labels = ("data", "labels")
    if recipe.adversarial:
        text = "a discriminator is for data.labels: single. Type adversarial=null"
        yield Contradiction((("adversarial",), labels), text)
    if recipe.distill:
        text = "a teacher is for data.labels: single. Type distill=null"
        yield Contradiction((("distill",), labels), text)
    if recipe.keep.tail:
        widths = " train.ema_widths=[]" if recipe.train.ema_widths else ""  # which need them
        text = f"the latest states are for data.labels: single. Type keep.tail=0{widths}"
        yield Contradiction((("keep", "tail"), labels), text)
    for name, off in (("classmix", 0), ("copy_paste", 0), ("category_max_ratio", 1), ("crop_on", "none")):
        if (value := getattr(recipe.augment, name)) != off:
            text = f"{value} is for data.labels: single. Type augment.{name}={off}"
            yield Contradiction((("augment", name), labels), text)
    for term in recipe.loss:
        try:
            require_multi(term)
        except LossError as error:
            yield Contradiction((("loss",), labels), str(error))


def without_a_start(recipe: Any) -> Iterator[Contradiction]:
    """A training needs initial weights, or the word that it starts without."""
    if recipe.model.weights is None and not recipe.model.from_scratch:
        text = (
            "null, so the encoder would train from random values. Start from pretrained weights with "
            f"model.weights={pretrained_weights(recipe.model)}, or confirm that this is intended with "
            "model.from_scratch=true."
        )
        yield Contradiction((("model", "weights"), ("model", "from_scratch")), text)


def pretrained_weights(model: Any) -> str:
    """A source of ImageNet weights for the encoder of a `model` section."""
    if ":" in model.arch:
        return "<a file of its weights>"
    if model.arch in ARCHITECTURES and model.encoder is None:
        return f"hf:nvidia/mit-{model.variant}"
    package = PRETRAINED_PACKAGES.get(str(model.encoder))
    return f"package:{package}" if package else "smp:imagenet"


def of_the_rest(kind: type[AnyRecipe], document: Document, wrong: Collection[Path]) -> AnyRecipe | None:
    """The recipe with defaults in place of wrong values, to find more mistakes; None where it has none."""
    values = deepcopy(document.values)
    for path in wrong:
        *sections, last = takewhile(lambda part: isinstance(part, str), path)  # of a list, all of it
        section: Any = values
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section.pop(last, None)
    try:
        return kind.model_validate(values)
    except ValidationError:
        return None
