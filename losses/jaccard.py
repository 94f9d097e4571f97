"""Soft Jaccard, or soft IoU (Rahman and Wang 2016, doi 10.1007/978-3-319-50835-1_22)."""

from torch import Tensor, nn

from losses.overlap import mean_over_present, overlap_costs, overlap_sums
from losses.pixel_sums import PixelSums
from losses.statistics import Reduce, identity


def jaccard(logits: Tensor, labels: Tensor, ignore_index: int, reduce: Reduce = identity) -> Tensor:
    """1 - I / (P + Y - I), averaged over the classes with a label in the batch; 0 if all pixels are void.

    Void pixels are ignored. For each class, I is the sum of its probability where it is the label, P the sum
    of its probability, and Y the number of its labels.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU and trips a device assertion on CUDA.
        reduce: sums over all processes.
    """
    return mean_over_present(*overlap_costs(reduce(overlap_sums(logits, labels, ignore_index)), 1.0, 1.0))


class Jaccard(nn.Module):
    """`jaccard` as a module."""

    takes_sums = True

    def __init__(self, ignore_index: int = 255):
        super().__init__()
        self.ignore_index = ignore_index

    def of_sums(self, sums: PixelSums, reduce: Reduce = identity) -> Tensor:
        """The same loss from sums over the batch; scalar."""
        return mean_over_present(*overlap_costs(reduce(sums.overlap()), 1.0, 1.0))

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return jaccard(logits, labels, self.ignore_index, reduce)
