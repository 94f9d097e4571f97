"""Online hard example mining (Shrivastava et al. 2016, arXiv 1604.03540), of pixels as in MMSegmentation.

Pixels are left out whose label has a probability above a threshold, but a minimum number of the hardest ones
is always kept. That number is given per image and applied to the batch as a whole: of B images the
`min_kept * B` hardest pixels are kept, wherever in the batch they are.
"""

import math

import torch
from torch import Tensor

from losses.terms import Ohem


@torch.no_grad()
def hard_pixels(costs: Tensor, valid: Tensor, ohem: Ohem) -> Tensor:
    """(B, H, W) bool: the pixels to keep; `min_kept * B` or more, or all valid ones if there are fewer.

    Pixels with the same loss as the last one kept are kept, too. Each process chooses among its own images.

    Args:
        costs: (B, H, W), -log of the probability of the label; any value at void pixels.
        valid: (B, H, W), bool, not void.
    """
    costs = costs.masked_fill(~valid, -math.inf)
    num_kept = min(ohem.min_kept * len(costs), costs.numel())
    lowest = costs.flatten().topk(num_kept, sorted=False).values.amin()  # scalar; -inf keeps all valid pixels
    if ohem.thresh > 0:
        lowest = lowest.clamp(max=-math.log(ohem.thresh))
    return valid & (costs >= lowest)
