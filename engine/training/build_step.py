"""Builds the step of a training from a recipe: loss, optimiser, moving average, discriminator."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from engine.data.bands import count_bands, model_inputs
from engine.recipe import Recipe, RecipeError
from engine.recipe.sections import Adversarial
from engine.scoring.trained import Trained
from engine.training.adversarial import AdversarialSettings, AdversarialStep, Watchdog
from engine.training.auxiliary import AuxiliaryBranch, AuxiliaryHead, build_auxiliary
from engine.training.distillation import Distillation
from engine.training.distributed import (
    Process,
    batch_sum,
    compiled,
    distribute,
    wait_for_all,
    with_global_norms,
)
from engine.training.optim import build_optimizer
from engine.training.power_average import PowerAverage
from engine.training.recorded import CudaGraphs, RecordedUpdates
from engine.training.schedule import factor
from engine.training.sharding import shard, without_values
from engine.training.step import Precision, StepSettings, SupervisedStep
from engine.training.unlabelled import MeanTeacher
from losses import build_loss
from models.discriminator import PatchDiscriminator

PIX2PIX_BETAS = (0.5, 0.999)  # of Adam, arXiv 1611.07004


def build_step(
    recipe: Recipe, model: nn.Module, num_classes: int, process: Process, teacher: Trained | None = None
) -> SupervisedStep:
    """The step of a recipe with durations in steps; the model is compiled, distributed or sharded by it.

    `teacher` is that of `distill`.
    """
    train = recipe.train
    shards = train.shard and not process.is_alone
    ema = None
    if train.ema is not None:
        ema = ModelEmaV3(model, decay=train.ema, use_warmup=True, foreach=not shards)
    averages = [PowerAverage(model, width, foreach=not shards) for width in train.ema_widths]
    align_corners = getattr(model, "align_corners", False)
    multi_label, void = recipe.data.labels == "multi", recipe.data.ignore_index
    loss = build_loss(recipe.loss, num_classes, void, align_corners, multi_label).to(process.device)
    loss.sum_over_processes = batch_sum(process)
    loss.gradient_norms = recipe.log.loss_gradients
    template = without_values(model) if shards else None
    if shards:
        _shard(recipe, model, [*([ema] if ema else []), *averages], process)
    forward = model if shards else _compiled_and_distributed(recipe, model, process)
    auxiliary = _build_branch(recipe, model, num_classes, process) if recipe.model.auxiliary else None
    optimizer = build_optimizer(model, recipe.optimizer, auxiliary.head if auxiliary else None)
    settings = StepSettings(
        seed=recipe.seed,
        rank=process.rank,
        world_size=process.world_size,
        ignore_index=void,
        precision=Precision.choose(train.precision, process.device),
        accumulate=int(train.accumulate),
        clip_norm=recipe.optimizer.clip_norm,
        batch_norm=train.batch_norm,
    )
    kind: Callable[..., SupervisedStep] = SupervisedStep
    opponent = None
    if recipe.adversarial:
        opponent = _build_adversarial(recipe.adversarial, num_classes, process, model_inputs(recipe.data))
        kind = partial(AdversarialStep, adversarial=opponent)
    lr_factor = partial(factor, recipe.schedule, recipe.optimizer.lr, num_steps=int(recipe.train.steps))
    mean_teacher = _build_mean_teacher(recipe, model, ema, opponent) if ema else None
    distillation = None
    if recipe.distill and teacher:
        distillation = Distillation(teacher, recipe.distill, settings.precision.autocast, batch_sum(process))
    step = kind(
        model,
        forward,
        loss,
        optimizer,
        lr_factor,
        settings,
        ema=ema,
        template=template,
        auxiliary=auxiliary,
        mean_teacher=mean_teacher,
        distillation=distillation,
        averages=averages,
    )
    if train.compile == "max":
        step.recorded = RecordedUpdates(step, CudaGraphs(process.device))
    return step


def _build_mean_teacher(
    recipe: Recipe, model: nn.Module, ema: ModelEmaV3, opponent: AdversarialSettings | None
) -> MeanTeacher | None:
    section = recipe.data.unlabelled
    if section is None:
        return None
    encoder = encoder_with_dropout(recipe, model)
    if opponent is None or section.discriminator is None:
        return MeanTeacher(ema.module, section, encoder=encoder)
    return MeanTeacher(ema.module, section, opponent.start, opponent.realness, encoder)


def encoder_with_dropout(recipe: Recipe, model: nn.Module) -> nn.Module | None:
    """The encoder for the feature dropout of `data.unlabelled`; None if there is none.

    Raises:
        RecipeError: the model has no encoder.
    """
    section = recipe.data.unlabelled
    if section is None or not section.feature_dropout:
        return None
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise RecipeError(
            f"data.unlabelled.feature_dropout: a model of {recipe.model.arch} has no module called encoder. "
            "Type data.unlabelled.feature_dropout=0"
        )
    return encoder


def _compiled_and_distributed(recipe: Recipe, model: nn.Module, process: Process) -> nn.Module:
    compiles: bool | str = recipe.train.compile
    if compiles == "auto":
        unlabelled = recipe.data.unlabelled
        has_hooks = recipe.model.auxiliary or (unlabelled and unlabelled.feature_dropout)
        compiles = process.device.type == "cuda" and not has_hooks
    mode = "max-autotune-no-cudagraphs" if compiles == "max" else None  # the whole update is recorded
    whole = compiled(model, process, mode=mode) if compiles else model
    return distribute(whole, process, recipe.train.batch_norm == "sync")


def new_auxiliary(recipe: Recipe, model: nn.Module, num_classes: int) -> AuxiliaryHead:
    """The head of `model.auxiliary`; raises RecipeError if it cannot be built."""
    num_bands = count_bands(recipe.data.bands)
    return build_auxiliary(recipe.model.auxiliary, model, num_classes, num_bands, recipe.augment.crops())


def _build_branch(recipe: Recipe, model: nn.Module, num_classes: int, process: Process) -> AuxiliaryBranch:
    section, head = recipe.model.auxiliary, new_auxiliary(recipe, model, num_classes)
    forward = distribute(head, process, recipe.train.batch_norm == "sync")
    return AuxiliaryBranch(head, forward, model.get_submodule(section.layer), section.weight)


def _shard(recipe: Recipe, model: nn.Module, averages: Sequence[ModelEmaV3], process: Process) -> None:
    wait_for_all(process)  # one may have downloaded weights
    num_bands, side = count_bands(recipe.data.bands), recipe.augment.crop
    image = torch.zeros(1, num_bands, side, side, device=process.device)
    shard(with_global_norms(model, process) if recipe.train.batch_norm == "sync" else model, image)
    for average in averages:
        shard(average.module, image)


def _build_adversarial(
    section: Adversarial, num_classes: int, process: Process, inputs: dict[str, Any]
) -> AdversarialSettings:
    discriminator = PatchDiscriminator(
        num_classes, section.channels, section.layers, section.sees_image, **inputs
    )
    discriminator.to(process.device)
    return AdversarialSettings(
        discriminator=discriminator,
        forward=distribute(discriminator, process),
        optimizer=torch.optim.Adam(discriminator.parameters(), section.lr, betas=PIX2PIX_BETAS, fused=True),
        watchdog=Watchdog(section.watchdog).to(process.device),
        objective=section.objective,
        weight=section.weight,
        start=int(section.start),
        ramp=int(section.ramp),
        batch_sum=batch_sum(process),
        at_logits=section.resolution == "logits",
    )
