"""Soft Dice (Milletari et al. 2016, arXiv 1606.04797; without their squares in the denominator)."""

from torch import Tensor, nn

from losses.overlap import mean_over_groups, mean_over_present, overlap_costs, overlap_sums
from losses.pixel_sums import PixelSums
from losses.statistics import Reduce, identity
from losses.terms import DiceOptions


def dice(
    logits: Tensor, labels: Tensor, ignore_index: int, reduce: Reduce = identity, *, per_image: bool = False
) -> Tensor:
    """1 - 2 I / (P + Y), averaged over the classes with a label in the batch; 0 if all pixels are void.

    Void pixels are ignored. For each class, I is the sum of its probability where it is the label, P the sum
    of its probability, and Y the number of its labels.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU and trips a device assertion on CUDA.
        reduce: sums over all processes.
        per_image: sums and means are taken in each image, and then the mean of the images that have a label.
    """
    sums = overlap_sums(logits, labels, ignore_index, per_image)
    if per_image:
        return mean_over_groups(*overlap_costs(sums, 0.5, 0.5), reduce)
    return mean_over_present(*overlap_costs(reduce(sums), 0.5, 0.5))


class Dice(nn.Module):
    """`dice` as a module; `losses.terms.DiceOptions` explains its options."""

    def __init__(self, ignore_index: int = 255, per_image: bool = DiceOptions.per_image):
        super().__init__()
        self.ignore_index = ignore_index
        self.per_image = per_image

    @property
    def takes_sums(self) -> bool:
        """Sums are over the batch."""
        return not self.per_image

    def of_sums(self, sums: PixelSums, reduce: Reduce = identity) -> Tensor:
        """The same loss from sums over the batch; scalar."""
        return mean_over_present(*overlap_costs(reduce(sums.overlap()), 0.5, 0.5))

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return dice(logits, labels, self.ignore_index, reduce, per_image=self.per_image)
