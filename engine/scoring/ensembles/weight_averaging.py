"""Model soups: one model with the mean of several members' weights (Wortsman et al. 2022, arXiv 2203.05482).

It costs what one member costs.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import engine.data
from engine.data.augment import Augment
from engine.data.batches import TrainBatches
from engine.data.class_counts import CountsFile, count_classes
from engine.data.order import SampleOrder, WeightedOrder
from engine.data.rare_classes import probabilities_in_sets
from engine.data.sets import SeveralSets, shares_of_images
from engine.options import Section
from engine.recipe import Recipe

NOT_IN_WEIGHTS = {
    "from_scratch",
    "weights",
    "freeze",
    "drop_path",
    "encoder_drop_path",
    "dropout",
    "checkpointing",
}
DESCRIPTION = {"file", "licence", "others"}  # of weights; they say nothing of the values that were loaded
NUM_CALIBRATION_IMAGES = 128  # of the training split, augmented as in training


def averageable(starts: Sequence[str]) -> tuple[int, ...]:
    """The largest group of members with the same start; on a tie, the group of the earliest member."""
    groups: dict[str, list[int]] = {}
    for number, start in enumerate(starts):
        groups.setdefault(start, []).append(number)
    largest = max(groups.values(), key=len)
    return tuple(largest)


def start_of(recipe: Recipe, weights: Mapping[str, Any] | None) -> str:
    """Equal for models of one architecture that started from the same values; others have no useful mean.

    The seed determines all values that pretrained weights do not fill.

    Args:
        weights: from the manifest; None if the model started at random. Manifests of earlier versions have no
            `sha256`; then the source of the weights and what they filled are compared.
    """
    parts = (weights or {}).get("parts", {}).values()
    is_whole = bool(parts) and all(part["num_matched_values"] == part["num_values"] for part in parts)
    loaded = weights and (weights.get("sha256") or {k: weights[k] for k in weights if k not in DESCRIPTION})
    return json.dumps([architecture(recipe), loaded, None if is_whole else recipe.seed], sort_keys=True)


def architecture(recipe: Recipe) -> str:
    """The options that have to agree before the weights of two models can be averaged."""
    section: Section = recipe.model
    return section.model_dump_json(exclude=NOT_IN_WEIGHTS)


def average_weights(models: Sequence[nn.Module]) -> nn.Module:
    """A new model in eval mode with the mean of all floating-point tensors; others are those of the first.

    BatchNorm statistics are averaged, too. They fit the mean of moving averages of one training, as those are
    means with averaged statistics themselves; for other models see `recalibrate`.
    """
    soup = copy.deepcopy(models[0]).eval()
    states = [model.state_dict() for model in models]
    soup.load_state_dict({key: _mean([state[key] for state in states]) for key in states[0]})
    return soup


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor], models: Sequence[nn.Module] = ()) -> None:
    """Compute the running statistics of each BatchNorm from images (B, 3, h, w); each batch counts alike.

    Like `torch.optim.swa_utils.update_bn`, but dropout and stochastic depth stay off, as in inference, so the
    result is repeatable.

    Args:
        models: whose mean the model is; statistics that are the same in all of them were frozen, and stay.
    """
    norms = [
        module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and not _are_equal(name, models)
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    for images in batches:
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _are_equal(name: str, models: Sequence[nn.Module]) -> bool:
    """Whether a BatchNorm has the same statistics in all of several models."""
    means = [model.get_buffer(f"{name}.running_mean") for model in models]
    return bool(means) and all(torch.equal(means[0], mean) for mean in means)


def training_images(recipe: Recipe, device: torch.device) -> Iterator[Tensor]:
    """(B, 3, crop, crop) of the first epoch, drawn and augmented as in the training, but not mixed.

    Raises:
        DataError: the training images are missing.
    """
    train = engine.data.open_split(recipe.data, recipe.data.train)
    batch = min(int(recipe.train.batch), NUM_CALIBRATION_IMAGES)
    shares = shares_of_images(recipe.data, train)
    if recipe.data.sampler == "rare":
        file = CountsFile(Path(recipe.data.root), train) if recipe.data.root else None
        counts = (file.read() if file else None) or count_classes(train, lambda *_: None)
        sets = [len(part.dataset) for part in train.parts] if isinstance(train, SeveralSets) else []
        shares = probabilities_in_sets(counts, shares, sets)
    order = SampleOrder(len(train), batch, recipe.seed)
    if shares is not None:
        order = WeightedOrder.of(shares, batch, recipe.seed)
    augment = Augment(recipe.augment, recipe.seed, train.ignore_index, train.bands)
    batches = TrainBatches(train, order, augment, device, workers=0)
    for update in range(NUM_CALIBRATION_IMAGES // batch):
        yield batches.of(order.update(update, 0, 1)).images


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack(list(tensors)).mean(dim=0)
