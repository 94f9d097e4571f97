"""Online hard example mining (Shrivastava et al. 2016, arXiv 1604.03540), of pixels as in MMSegmentation.

A pixel is dropped once its label has a probability above a threshold, but a number of the hardest always
stays. That number is given per image and applied to the batch as a whole: with B images, the `min_kept * B`
hardest pixels stay, wherever in the batch they are.
"""

import math

import torch
from torch import Tensor

from losses.terms import Ohem


@torch.no_grad()
def hard_pixels(costs: Tensor, valid: Tensor, ohem: Ohem) -> Tensor:
    """(B, H, W) bool: the pixels to keep; `min_kept * B` or more, or all valid ones if there are fewer.

    Pixels that cost the same as the last one kept are kept, too. Each process chooses among its own images.

    Args:
        costs: (B, H, W), -log of the probability of the label; any value at void pixels.
        valid: (B, H, W), bool, not void.
    """
    costs = costs.masked_fill(~valid, -math.inf)
    num_kept = min(ohem.min_kept * len(costs), costs.numel())
    bar = costs.flatten().topk(num_kept, sorted=False).values.amin()  # scalar; -inf keeps all that are valid
    if ohem.thresh > 0:
        bar = bar.clamp(max=-math.log(ohem.thresh))
    return valid & (costs >= bar)
