"""The `optimizer` section of a recipe. Does not import torch, since the recipe reads it."""

from typing import Annotated

from pydantic import Field

from engine.options import NotNegative, Positive, Section, Text, key

Decay = Annotated[float, Field(ge=0, lt=1)]


class ParameterGroup(Section):
    lr_mult: Positive = key(1.0, "factor on the learning rate of these parameters")
    weight_decay: NotNegative | None = key(
        None, "weight decay of these parameters, 1-d ones included; null: the usual one"
    )


class Optimizer(Section):
    name: Text = key(
        "adamw",
        "adamw, sgd, lion, muon or another optimiser of timm; or an import path, my_package:MyOptimizer",
    )
    lr: Positive = key(6e-5, "peak learning rate of the encoder")
    weight_decay: NotNegative = key(0.01, "weight decay; norms, biases and other 1-d parameters have none")
    betas: Annotated[list[Decay], Field(min_length=2, max_length=3)] | None = key(
        None, "decay rates of the moments; null: the optimiser's default"
    )
    eps: Positive | None = key(None, "added to a denominator for stability; null: the optimiser's default")
    momentum: Decay | None = key(None, "momentum of sgd, muon, ...; null: the optimiser's default (sgd: 0.9)")
    head_lr_mult: Positive = key(
        10.0, "factor on the learning rate for the head; with model.from_scratch the default is 1"
    )
    layer_decay: float = key(
        1.0,
        "factor on the learning rate for each block before the last, of SegFormer or an encoder of timm "
        "(tu-...); 1 is off",
        gt=0,
        le=1,
    )
    groups: dict[Text, ParameterGroup] = key(
        {},
        "settings by pattern of names: {'encoder.*.norm*': {lr_mult: 0.1}}; the last match counts",
    )
    clip_norm: Positive | None = key(
        None, "maximum norm of the gradient, not counting the discriminator's; null is off"
    )
