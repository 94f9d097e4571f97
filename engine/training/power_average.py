"""A moving average of weights over a share of the training so far, for the method `ema_post_hoc`."""

from timm.utils import ModelEmaV3
from torch import nn

from engine.scoring.ensembles.power_average import decay_of, exponent_of


class PowerAverage(ModelEmaV3):
    """The power-function average of arXiv 2312.02696; `width` is its sigma_rel."""

    def __init__(self, model: nn.Module, width: float, foreach: bool):
        super().__init__(model, foreach=foreach)
        self.width = width
        self._exponent = exponent_of(width)

    def get_decay(self, step: int | None = None) -> float:
        assert step is not None, "the number of the update, from 1"
        return decay_of(self._exponent, step)
