"""Watches how well the discriminator tells labels from predictions, and moves the adversarial weight.

A discriminator that is nearly always right has nothing to teach but how it was beaten, and one that guesses
has nothing to teach at all. Outside the band for `PATIENCE_STEPS` updates in a row, the weight is halved
where it wins and doubled where it guesses, within bounds; then the count begins again. All of it happens on
the device: nothing waits. Knows nothing of networks or losses.
"""

import torch
from torch import Tensor, nn

BAND = (0.55, 0.90)  # smoothed share of patches told right; 0.5 is guessing
MEMORY = 0.95  # of the smoothed share: the weight of what was before
PATIENCE_STEPS = 100
FACTORS = (1 / 8, 4.0)  # bounds of the factor on the recipe's weight


class Watchdog(nn.Module):
    """Its buffers are its whole state, so a checkpoint holds it.

    accuracy: smoothed share of patches that the discriminator takes for what they are.
    outside: updates in a row above the band, or below it as a negative number.
    factor: of the adversarial weight.

    Args:
        active: whether `factor` may move; it watches either way.
    """

    accuracy: Tensor
    outside: Tensor
    factor: Tensor

    def __init__(self, active: bool = True):
        super().__init__()
        self.active = active
        self.register_buffer("accuracy", torch.tensor(sum(BAND) / 2))
        self.register_buffer("outside", torch.tensor(0))
        self.register_buffer("factor", torch.tensor(1.0))

    @torch.no_grad()
    def observe(self, accuracy: Tensor) -> None:
        """Takes the accuracy of one update, a scalar in 0..1 that is the same on every process.

        NaN, for an update that was skipped, leaves the smoothed share as it is.
        """
        accuracy = torch.where(accuracy.isfinite(), accuracy, self.accuracy)
        self.accuracy.lerp_(accuracy, 1 - MEMORY)
        wins, guesses = self.accuracy > BAND[1], self.accuracy < BAND[0]
        longer = torch.where(wins, self.outside.clamp(min=0) + 1, self.outside.clamp(max=0) - 1)
        self.outside.copy_(torch.where(wins | guesses, longer, 0))
        if self.active:
            moved = torch.where(wins, self.factor / 2, self.factor * 2).clamp(*FACTORS)
            is_long = self.outside.abs() >= PATIENCE_STEPS
            self.factor.copy_(torch.where(is_long, moved, self.factor))
            self.outside.masked_fill_(is_long, 0)
