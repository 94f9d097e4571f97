"""The `optimizer` section of a recipe. Does not import torch, since the recipe reads it."""

from typing import Annotated

from pydantic import Field

from engine.options import NotNegative, Positive, Section, Text, key

Decay = Annotated[float, Field(ge=0, lt=1)]


class ParameterGroup(Section):
    lr_mult: Positive = key(1.0, "learning rate of these parameters = what it would be, times this")
    weight_decay: NotNegative | None = key(
        None, "of these parameters, 1-d ones included; null: as without the group"
    )


class Optimizer(Section):
    name: Text = key(
        "adamw",
        "adamw, sgd, lion, muon or another name in timm; or an import path, my_package:MyOptimizer",
    )
    lr: Positive = key(6e-5, "peak learning rate of the encoder")
    weight_decay: NotNegative = key(0.01, "none on norms, biases and other 1-d parameters")
    betas: Annotated[list[Decay], Field(min_length=2, max_length=3)] | None = key(
        None, "decays of the moments; null: the optimiser's own"
    )
    eps: Positive | None = key(None, "added to a denominator; null: the optimiser's own")
    momentum: Decay | None = key(None, "of sgd, muon, ...; null: the optimiser's own (sgd: 0.9)")
    head_lr_mult: Positive = key(10.0, "learning rate of the head = lr times this")
    layer_decay: float = key(1.0, "lr of each block of SegFormer = lr of the next times this", gt=0, le=1)
    groups: dict[Text, ParameterGroup] = key(
        {},
        "pattern of names, as 'encoder.*.norm*' -> {lr_mult, weight_decay}; the last match counts",
    )
    clip_norm: Positive | None = key(
        None, "largest norm of the gradient, the discriminator's apart; null is off"
    )
