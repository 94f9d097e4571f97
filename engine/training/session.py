"""Builds the parts of a training from a recipe; `training/train.py` runs them."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.data.bands import RGB, band_names, ranges_of
from engine.data.batches import TrainBatches
from engine.data.options import Augment
from engine.data.sample import Dataset
from engine.data.sets import SeveralSets, scored_further, shares_of_images
from engine.recipe import Recipe
from engine.recipe.differences import explain
from engine.scoring.label_kinds import label_kind
from engine.scoring.numerics import float32_products
from engine.scoring.overrides import PACKED, of_a_pack
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.trained import Trained
from engine.training.batch_size import with_batch
from engine.training.build_batches import Counter, build_batches, place
from engine.training.build_step import build_step
from engine.training.distributed import Process
from engine.training.features import FeatureMaps, matching_layers, require_maps, spread
from engine.training.freed_memory import freed_memory_kept
from engine.training.imbalance import advice, count_labels, decided, training_order
from engine.training.inputs import new_model, open_inputs
from engine.training.options import Optimizer
from engine.training.schedule import without_effect as without_effect_on_rates
from engine.training.step import SupervisedStep
from engine.training.validation import Validation
from engine.wording import quantity
from models.build import without_effect
from models.load_report import LoadReport
from models.weights import initialise

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@dataclass
class Session:
    """The parts of one training, ready to run.

    `recipe` has durations in steps, and class weights, data.range and the batch as numbers. `chosen` has the
    numbers found for `auto` in train.batch or train.accumulate, by key. `further` has the scored splits of
    the sets after the first, by name.
    """

    recipe: Recipe
    process: Process
    train: Dataset
    val: Dataset
    further: dict[str, Dataset]
    unlabelled: Dataset | None
    batches: TrainBatches
    step: SupervisedStep
    validation: Validation
    weights: LoadReport | None
    notes: list[str]
    advice: list[str]
    chosen: dict[str, int]


def build_session(
    recipe: Recipe,
    process: Process,
    counter: Callable[[str], Counter],
    resume: bool = False,
    keep_counts: bool = True,
) -> Session:
    """Open the data, build the model and its step; call it under `torch_settings`.

    Args:
        recipe: as loaded.
        process: this process.
        counter: makes a progress callback `(done, total)` for a task of the given name.
        resume: a saved state will be loaded, so pretrained weights are not needed.
        keep_counts: whether the label counts of the training split may be written next to the data.

    Raises:
        RecipeError, DataError, ModelError, LossError: the user's input is wrong.
    """
    inputs = open_inputs(recipe, process)
    recipe, train, select = inputs.recipe, inputs.train, inputs.select
    data, further, unlabelled, teacher = recipe.data, inputs.further, inputs.unlabelled, inputs.teacher
    recipe, chosen = with_batch(recipe, [train, select, *further.values()], process, teacher)
    torch.manual_seed(recipe.seed)  # the search for the batch may have drawn random numbers
    recipe = recipe.in_steps(len(train))
    model, frozen = new_model(recipe, train, process)
    weights = None if resume else initialise(model, recipe.model, train.class_names, train.bands or RGB)
    model.to(process.device)
    counts, count_notes = count_labels(
        train, recipe.data.root, process, counter("counting labels"), keep_counts
    )
    asked = recipe
    recipe, decisions = decided(asked, counts, train.class_names)
    shares = shares_of_images(data, train)
    sets = {part.name: len(part.dataset) for part in train.parts} if isinstance(train, SeveralSets) else {}
    step = build_step(recipe, model, len(train.class_names), process, teacher)

    notes = [_on_the_batch(recipe, chosen, process)] if chosen else []
    notes += [frozen] if frozen else []
    notes += [*_notes_on_options(recipe.model), *_notes_on_a_pack(recipe)]
    notes += without_effect_on_rates(recipe.schedule, int(recipe.train.steps))
    notes += _on_the_crops(recipe.augment)
    notes += [_on_the_trained_teacher(teacher)] if teacher else []
    notes += _notes_on_pixels(recipe.data)

    def placed(dataset: Dataset, split: str, more: str = "") -> Dataset:
        dataset, note = place(dataset, data, process, counter)
        notes.append(f"{split}: {note}{more}")
        return dataset

    train = placed(train, "train")
    if unlabelled is not None:
        unlabelled = placed(unlabelled, "unlabelled", f"; {_on_the_teacher(recipe)}")
    notes += _notes_on_sets(data, sets)
    select = placed(select, data.evaluated_on)
    further = {name: placed(further[name], split) for name, split in scored_further(data).items()}

    order, order_notes = training_order(recipe, counts, shares, [*sets.values()])
    notes += [*count_notes, *decisions, *order_notes, *_rate_of_the_head(recipe.optimizer, step)]
    batches = build_batches(recipe, train, unlabelled, order, process, counts, shares)
    validation = _build_validation(recipe, process, step, select, further)
    is_multi = recipe.data.labels == "multi"
    hints = [] if is_multi else advice(recipe, counts, train.class_names, asked)
    parts = recipe, process, train, select, further, unlabelled, batches, step, validation
    return Session(*parts, weights, notes, hints, chosen)


def _notes_on_options(section: Any) -> list[str]:
    """Options of the architecture of another recipe, perhaps of its base, that have no effect here."""
    on = f" on {section.encoder}" if section.encoder else ""
    is_of_timm = str(section.encoder).startswith("tu-")
    on_timm = "; the drop path rate of encoders of timm is model.encoder_drop_path" * is_of_timm
    return [
        f"model.{option} has no effect: {section.arch}{on} does not take it, Trident's own SegFormer does"
        + on_timm * option.startswith("drop_path")
        for option in without_effect(section)
    ]


def _notes_on_a_pack(recipe: Recipe) -> list[str]:
    """Values that were typed, and that a pack ignores; those of the recipe that was packed are as usual."""
    typed = [key for key, _, source in explain(recipe) if source.startswith("override ")]
    unused = of_a_pack(typed) if recipe.data.format == "packed" else []
    return [f"{key} has no effect: {PACKED}" for key in unused]


def _notes_on_sets(data: Any, sets: Mapping[str, int]) -> list[str]:
    """The share of each of several sets."""
    weights = {data.name: data.weight} | {further.name: further.weight for further in data.also}
    drawn = {name: float(weights[name] or number) for name, number in sets.items()}
    total = sum(drawn.values())
    return [
        f"set {name}: {quantity(number, 'image')}, {drawn[name] / total:.1%} of the drawn samples"
        for name, number in sets.items()
    ]


def _notes_on_pixels(data: Any) -> list[str]:
    notes, ranges, bands = [], ranges_of(data), band_names(data.bands)
    if bands is not None:
        notes.append(f"bands: {', '.join(bands)}")
    if ranges is not None and isinstance(ranges[0], tuple):
        of_bands = ", ".join(f"{low:g} to {high:g}" for low, high in ranges)
        notes.append(f"images of more than 8 bits per channel, read with 8, from {of_bands}")
    elif ranges is not None:
        low, high = ranges
        notes.append(f"images of more than 8 bits per channel: {low:g} becomes black, {high:g} white")
    if bands is not None and data.normalisation != "auto":
        pairs = zip(data.normalisation.mean, data.normalisation.std, strict=True)
        notes.append(f"normalised by {', '.join(f'{mean:g} +- {std:g}' for mean, std in pairs)} of 0..255")
    return notes


def _on_the_batch(recipe: Recipe, chosen: dict[str, int], process: Process) -> str:
    train, pieces = recipe.train, process.world_size * int(recipe.train.accumulate)
    [(key, value)] = chosen.items()
    at_once = quantity(int(train.batch) // pieces, "image")
    if key == "train.accumulate":
        return f"{key} auto: {value}, so {at_once} of {train.batch} at once on {process.device}"
    rate = f"optimizer.lr is {recipe.optimizer.lr:g}, whatever the batch"
    return f"{key} auto: {value}, {at_once} at once on {process.device}; {rate}"


def _on_the_crops(section: Augment) -> list[str]:
    if not section.progressive:
        return []
    smaller = ", ".join(f"{part.crop} px up to update {part.until}" for part in section.progressive)
    return [f"crops: {smaller}, then {section.crop} px"]


def _on_the_teacher(recipe: Recipe) -> str:
    assert recipe.data.unlabelled
    ratio, decay = recipe.data.unlabelled.ratio, recipe.train.ema
    return f"{ratio:g} for each labelled one, taught by the moving average of weights (train.ema={decay:g})"


def _on_the_trained_teacher(teacher: Trained) -> str:
    models = quantity(len(teacher.members), "model")
    return f"teacher: {teacher.name}, {models} of {teacher.num_parameters:,} parameters in all"


def _rate_of_the_head(section: Optimizer, step: SupervisedStep) -> list[str]:
    groups = step.learning_rates()
    if not any(name.startswith("head") for name in groups):
        return []
    factor = section.head_lr_mult
    times = "the same" if factor == 1 else f"{factor:g} times that"
    return [f"learning rate {section.lr:g}, of the head {times} (optimizer.head_lr_mult)"]


def _build_validation(
    recipe: Recipe, process: Process, step: SupervisedStep, select: Dataset, further: dict[str, Dataset]
) -> Validation:
    protocol, autocast = EvaluationProtocol.of(recipe.eval), step.settings.precision.autocast
    predictor = Predictor(protocol, autocast, label_kind(recipe.data))
    features = None
    if recipe.log.features:
        layers = matching_layers(step.model, recipe.log.feature_layers)
        require_maps(step.model, layers, len(select.bands or RGB))
        features = FeatureMaps(layers, select, spread(recipe.log.features, len(select)), predictor)
    workers, num_pictures = recipe.data.workers, recipe.log.images
    return Validation(select, predictor, process, workers, num_pictures, features, further)


def num_parameters(model: nn.Module) -> int:
    """Of a model, trained or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def torch_settings(deterministic: bool, device: torch.device) -> Iterator[None]:
    """Global settings for a training: TF32 and cuDNN's benchmark on a GPU, or repeatable kernels; and, on the
    CPU, memory that stays with the process.

    They are restored afterwards.
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get(CUBLAS_WORKSPACE),
    )
    if deterministic:
        os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")  # cuBLAS needs it for repeatable sums
        torch.use_deterministic_algorithms(True)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
    try:
        with float32_products("high") if device.type == "cuda" else freed_memory_kept():
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = before[2]
        if before[3] is None:
            os.environ.pop(CUBLAS_WORKSPACE, None)
