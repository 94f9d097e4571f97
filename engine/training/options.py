"""The `optimizer` section of a recipe. Does not import torch, since the recipe reads it."""

from typing import Literal

from engine.options import NotNegative, Positive, Section, key


class Optimizer(Section):
    name: Literal["adamw"] = key("adamw", "arXiv 1711.05101")
    lr: Positive = key(6e-5, "peak learning rate of the encoder")
    weight_decay: NotNegative = key(0.01, "none on norms, biases and other 1-d parameters")
    head_lr_mult: Positive = key(10.0, "learning rate of the head = lr times this")
    layer_decay: float = key(1.0, "lr of each block of SegFormer = lr of the next times this", gt=0, le=1)
    clip_norm: Positive | None = key(
        None, "largest norm of the gradient, the discriminator's apart; null is off"
    )
