"""Opens the data and the teacher of a training, and builds its network with random weights.

All mistakes in these, and in the parts that are built from them, are raised here, before weights are
downloaded, labels are counted or anything is trained.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from engine.data import open_split
from engine.data.bands import count_bands, model_inputs
from engine.data.normalisation import with_normalisation
from engine.data.ranges import with_range
from engine.data.resident import require_device
from engine.data.sample import Dataset, require_labels
from engine.data.sets import naming_set, scored_further
from engine.data.unlabelled import num_unlabelled, open_unlabelled
from engine.recipe import Recipe, RecipeError
from engine.scoring.trained import Trained
from engine.training.build_step import encoder_with_dropout, new_auxiliary
from engine.training.distillation import open_teacher
from engine.training.distributed import Process
from engine.training.features import matching_layers, outputs_of, require_maps
from engine.training.imbalance import without_schemes
from engine.training.optim import build_optimizer, freeze, in_eval_mode
from losses import build_loss
from models import build_model


@dataclass
class Inputs:
    """The inputs of a training; `recipe` has the range and the normalisation of the images as numbers.

    `further` has the scored splits of the sets after the first, by name.
    """

    recipe: Recipe
    train: Dataset
    val: Dataset
    select: Dataset
    further: dict[str, Dataset]
    unlabelled: Dataset | None
    teacher: Trained | None


def open_inputs(recipe: Recipe, process: Process) -> Inputs:
    """Open the data sets and the teacher of a recipe.

    Raises:
        RecipeError, DataError: the user's input is wrong.
    """
    _require_even_shares(recipe, process)
    _require_recordable(recipe, process)
    train = open_split(recipe.data, recipe.data.train)
    data = with_normalisation(with_range(recipe.data, train), train)
    val = open_split(data, data.val)
    select = open_split(data, data.select) if data.select else val
    further = {name: open_split(data, split) for name, split in scored_further(data).items()}
    for split, dataset in {data.val: val, data.evaluated_on: select}.items():
        require_labels(dataset, split, "name another split with data.val or data.select")
    for place, one in enumerate(data.also):
        if one.val is not None:
            with naming_set(one.name, place):
                remedy = f"name another split with data.val, or other classes in data.also.{place}.map"
                require_labels(further[one.name], one.val, remedy)
    return Inputs(
        recipe=recipe.model_copy(update={"data": data}),
        train=train,
        val=val,
        select=select,
        further=further,
        unlabelled=open_unlabelled(data) if data.unlabelled else None,
        teacher=open_teacher(recipe.distill, train, process.device) if recipe.distill else None,
    )


def new_model(recipe: Recipe, train: Dataset, process: Process) -> tuple[nn.Module, str | None]:
    """The network of a recipe, with random weights on the CPU, and a note on its frozen parameters.

    Args:
        recipe: from `Inputs`, with durations in steps. If train.batch or train.accumulate is `auto`, what
            depends on it is not checked.

    Raises:
        RecipeError, DataError, ModelError, LossError: the user's input is wrong.
    """
    model = build_model(recipe.model, train.class_names, **model_inputs(recipe.data))
    frozen = freeze(model, recipe.model.freeze)
    if "auto" not in (recipe.train.batch, recipe.train.accumulate):
        _require_statistics(recipe, model, len(train.class_names), process)
    _require_buildable_parts(recipe, model, len(train.class_names), process)
    return model, frozen


def _require_even_shares(recipe: Recipe, process: Process) -> None:
    if recipe.train.batch == "auto":
        return
    parts = 1 if recipe.train.accumulate == "auto" else int(recipe.train.accumulate)
    batch, pieces = int(recipe.train.batch), process.world_size * parts
    if batch % pieces:
        raise RecipeError(
            f"train.batch={batch} is the batch of all processes together and cannot be split evenly over "
            f"{process.world_size} processes x train.accumulate={parts}. "
            f"Type train.batch={max(1, round(batch / pieces)) * pieces}."
        )


def _require_recordable(recipe: Recipe, process: Process) -> None:
    if recipe.train.compile == "max" and not (process.device.type == "cuda" and process.is_alone):
        raise RecipeError(
            "train.compile: max records CUDA graphs of one process on a GPU. Type train.compile=auto."
        )


def _require_statistics(recipe: Recipe, model: nn.Module, num_classes: int, process: Process) -> None:
    """Raises RecipeError if a BatchNorm would get one value per channel, which has no variance.

    Found without computation, with a copy of the model on the device `meta`.
    """
    pieces = process.world_size * int(recipe.train.accumulate)
    if int(recipe.train.batch) > pieces:
        return
    copy = deepcopy(model).to("meta")
    section, side = recipe.model.auxiliary, recipe.augment.crops()[0]
    image = torch.empty(1, count_bands(recipe.data.bands), side, side, device="meta")
    try:
        with torch.random.fork_rng(devices=[]):
            auxiliary = new_auxiliary(recipe, copy, num_classes).train() if section else None
        copy.train()
        for module in in_eval_mode(copy, recipe.train.batch_norm):
            module.eval()
        found = outputs_of(copy, [section.layer] if section else [], lambda: copy(image))
        if auxiliary:
            auxiliary(found[section.layer])
    except (ValueError, RuntimeError, NotImplementedError) as error:  # a model of one's own may need values
        if "more than 1 value per channel" not in str(error):  # a layer without a map is reported later
            return
        shared = f", in {pieces} parts," if pieces > 1 else ""
        where = f"{recipe.model.arch} or model.auxiliary" if section else recipe.model.arch
        raise RecipeError(
            f"train.batch={recipe.train.batch}{shared} is one image at a time, so a BatchNorm of "
            f"{where} gets one value per channel; it needs two. Type train.batch={2 * pieces}."
        ) from None


def _require_buildable_parts(recipe: Recipe, model: nn.Module, num_classes: int, process: Process) -> None:
    """Build the other parts once, to raise their errors before weights are downloaded and labels counted."""
    require_device(recipe.data.resident, process.device)
    _require_classes(recipe.augment.crop_on, num_classes)
    if recipe.data.unlabelled:
        if recipe.train.batch != "auto":
            num_unlabelled(recipe.data.unlabelled, int(recipe.train.batch), process.world_size)
        encoder_with_dropout(recipe, model)
    in_eval_mode(model, recipe.train.batch_norm)
    auxiliary = None
    if recipe.model.auxiliary:
        with torch.random.fork_rng(devices=[]):
            auxiliary = new_auxiliary(recipe, model, num_classes)
    optimizer = build_optimizer(model, recipe.optimizer, auxiliary)
    if recipe.train.shard:
        _require_shardable(recipe, optimizer)
    with torch.random.fork_rng(devices=[]):  # a loss from outside may have parameters
        terms, multi_label = without_schemes(recipe).loss, recipe.data.labels == "multi"
        build_loss(terms, num_classes, recipe.data.ignore_index, multi_label=multi_label)
    if recipe.log.features:
        layers = matching_layers(model, recipe.log.feature_layers)
        require_maps(model, layers, count_bands(recipe.data.bands))


def _require_classes(ids: str | Sequence[int], num_classes: int) -> None:
    if not isinstance(ids, str) and (unknown := [id for id in ids if id >= num_classes]):
        raise RecipeError(
            f"augment.crop_on: {unknown[0]} is no class of this data set, whose ids are 0 to "
            f"{num_classes - 1}. Type augment.crop_on=rare, or other ids"
        )


def _require_shardable(recipe: Recipe, optimizer: torch.optim.Optimizer) -> None:
    if recipe.train.compile in (True, "max"):
        raise RecipeError("train.shard: a sharded model is not compiled. Type train.compile=auto.")
    if not optimizer.defaults.get("fused"):
        raise RecipeError(
            f"train.shard: the moments of optimizer.name={recipe.optimizer.name} cannot be sharded. Type one "
            "with a fused kernel of torch: adamw, adam, sgd."
        )
