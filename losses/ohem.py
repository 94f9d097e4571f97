"""Online hard example mining: which pixels count (Shrivastava et al. 2016, arXiv 1604.03540).

For pixels, as MMSegmentation has it: a pixel is dropped once its label has a probability above a threshold,
but a number of the hardest always stays. That number is given for one image and holds for the batch as a
whole: with B images, the `min_kept * B` hardest pixels stay, wherever in the batch they are.

The host never waits for the device: how many pixels are void is not asked. Void pixels stand below all
others, so among the `min_kept * B` hardest of all there are void ones only if every other pixel is kept.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Ohem(NamedTuple):
    """Which pixels stay."""

    thresh: float = 0.7  # those whose label has at most this probability; 0 leaves the choice to min_kept
    min_kept: int = 100_000  # and the hardest, this many an image


@torch.no_grad()
def hard_pixels(costs: Tensor, valid: Tensor, ohem: Ohem) -> Tensor:
    """(B, H, W) bool: the pixels that count; `min_kept * B` or more, or all that are not void.

    Several pixels that cost the same as the last one kept are all kept. Processes choose apart, each from its
    own images.

    Args:
        costs: (B, H, W), -log of the probability of the label; anything where void.
        valid: (B, H, W), bool, not void.
    """
    costs = costs.masked_fill(~valid, -math.inf)
    num_kept = min(ohem.min_kept * len(costs), costs.numel())
    bar = costs.flatten().topk(num_kept, sorted=False).values.amin()  # scalar; -inf keeps all that are valid
    if ohem.thresh > 0:
        bar = bar.clamp(max=-math.log(ohem.thresh))
    return valid & (costs >= bar)
