"""Overlap losses: Dice, Jaccard and Tversky, and what they share with Lovasz.

The mean is over the classes that are present in the labels, weighted where there are class weights: an absent
class has no overlap to measure, and counting it as 0 or as 1 makes the loss depend on how many classes a
batch holds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from losses.pixel_sums import PixelSums
from losses.statistics import Reduce, class_weight_tensor, identity, num_counted, ratio_of_sums
from losses.terms import DiceOptions, JaccardOptions, TverskyOptions


def class_maps(logits: Tensor, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Probabilities and labels (bool) of each class, both (B, C, H, W) and 0 at void pixels.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU and trips a device assertion on CUDA.
    """
    valid = (labels != ignore_index).unsqueeze(1)  # (B, 1, H, W)
    index = labels.unsqueeze(1).masked_fill(~valid, 0)
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, index, valid)
    return logits.softmax(1) * valid, own


def overlap_sums(logits: Tensor, labels: Tensor, ignore_index: int, per_image: bool = False) -> Tensor:
    """Three sums for each class, void pixels ignored: (3, C), or (3, B, C) for each image.

    I sums the probability of the class over the pixels with its label, P over all labelled pixels, and Y
    counts the pixels with its label. The arguments are as in `class_maps`.
    """
    pixels = (2, 3) if per_image else (0, 2, 3)
    probabilities, own = class_maps(logits, labels, ignore_index)
    labelled = own.sum(pixels).to(logits.dtype)
    return torch.stack([(probabilities * own).sum(pixels), probabilities.sum(pixels), labelled])


def overlap_costs(sums: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """1 - I / (I + alpha (P - I) + beta (Y - I)) of each class, and whether it is present: both (..., C).

    P - I are the false positives, Y - I the false negatives. alpha = beta = 0.5 is Dice, alpha = beta = 1 is
    Jaccard. No smoothing constant is needed: a class that is present has Y >= 1.

    Args:
        sums: (3, ..., C), from `overlap_sums`.
        alpha: 0 or above.
        beta: above 0; with 0, a class that is not predicted at all would be 0 / 0.
    """
    intersection, predicted, labelled = sums.unbind()
    present = labelled > 0
    extent = alpha * predicted + beta * labelled + (1 - alpha - beta) * intersection
    return 1 - intersection / torch.where(present, extent, 1.0), present


def mean_over_present(costs: Tensor, present: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """(..., C) -> (...), weighted by (C,) class weights; 0 where no class with a weight is present."""
    weights = present.to(costs.dtype) if class_weights is None else present * class_weights.to(costs)
    total = weights.sum(-1)
    return (weights * costs).sum(-1) / torch.where(total > 0, total, 1.0)


def mean_over_groups(
    costs: Tensor, present: Tensor, reduce: Reduce = identity, class_weights: Tensor | None = None
) -> Tensor:
    """(G, C) -> scalar: the mean over the classes of each group, such as an image, then over the groups.

    Groups without a present class are left out.

    Args:
        reduce: sums over all processes, which may have groups of their own.
        class_weights: (C,), of the mean within a group; a class of weight 0 counts as absent.
    """
    counted = present if class_weights is None else present & (class_weights > 0)
    counts = counted.any(-1).to(costs.dtype)  # (G,)
    return ratio_of_sums(mean_over_present(costs, present, class_weights).sum(), counts.sum(), reduce)


def tversky(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    reduce: Reduce = identity,
    *,
    per_image: bool = False,
    class_weights: Tensor | None = None,
) -> Tensor:
    """(1 - I / (I + alpha (P - I) + beta (Y - I)))^(1 / gamma), averaged over the classes with a label.

    I, P and Y are those of `overlap_sums`; 0 if all pixels are void. Salehi et al. 2017, arXiv 1706.05721,
    whose alpha weights false positives (P - I) and whose beta false negatives (Y - I). The focal form is of
    Abraham and Khan 2018, arXiv 1810.07842, which swaps the two and whose power is 1 / gamma, as here; some
    libraries call the power itself gamma.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU and trips a device assertion on CUDA.
        alpha: 0 or above.
        beta: above 0.
        gamma: above 0; 1 is the plain form; above 1, classes that are nearly perfect get more weight.
        reduce: sums over all processes.
        per_image: the loss is computed for each image, and averaged over the images that have a label.
        class_weights: (C,), not negative, of the mean over the classes.
    """
    sums = overlap_sums(logits, labels, ignore_index, per_image)
    if per_image:
        return mean_over_groups(*_focal_costs(sums, alpha, beta, gamma), reduce, class_weights)
    return mean_over_present(*_focal_costs(reduce(sums), alpha, beta, gamma), class_weights)


def _focal_costs(sums: Tensor, alpha: float, beta: float, gamma: float) -> tuple[Tensor, Tensor]:
    """`overlap_costs`, to the power of 1 / gamma."""
    costs, present = overlap_costs(sums, alpha, beta)
    if gamma != 1:
        # Smaller costs are rounding errors, and at 0 the slope is infinite.
        least = torch.finfo(costs.dtype).eps
        costs = torch.where(costs > least, costs.clamp(min=least) ** (1 / gamma), 0.0)
    return costs, present


class ClassMean(nn.Module):
    """A loss that is a mean over the classes present, weighted if there are class weights."""

    class_weights: Tensor | None

    def __init__(
        self, ignore_index: int, class_weights: Sequence[float] | str | None, per_image: bool = False
    ):
        super().__init__()
        self.ignore_index = ignore_index
        self.per_image = per_image
        weights = class_weight_tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)  # the recipe holds them

    def denominator(self, labels: Tensor) -> Tensor:
        """The number of images in the mean; of a loss over the batch, its labelled pixels."""
        return num_counted(labels, self.ignore_index, self.class_weights, self.per_image)


class Overlap(ClassMean):
    """`tversky` as a module; its subclasses set alpha, beta and gamma."""

    alpha = beta = 0.5
    gamma = 1.0

    @property
    def takes_sums(self) -> bool:
        """Whether sums over the batch are enough: not for a loss per image."""
        return not self.per_image

    def of_sums(self, sums: PixelSums, reduce: Reduce = identity) -> Tensor:
        """The same loss, computed from sums over the batch; scalar."""
        costs, present = _focal_costs(reduce(sums.overlap()), self.alpha, self.beta, self.gamma)
        return mean_over_present(costs, present, self.class_weights)

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return tversky(
            logits,
            labels,
            self.ignore_index,
            self.alpha,
            self.beta,
            self.gamma,
            reduce,
            per_image=self.per_image,
            class_weights=self.class_weights,
        )


class Dice(Overlap):
    """Soft Dice: 1 - 2 I / (P + Y), averaged over the classes with a label; else as `tversky`.

    Milletari et al. 2016, arXiv 1606.04797, without the squares in its denominator.
    `losses.terms.DiceOptions` explains its options.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        per_image: bool = DiceOptions.per_image,
        class_weights: Sequence[float] | str | None = DiceOptions.class_weights,
    ):
        super().__init__(ignore_index, class_weights, per_image)


class Jaccard(Overlap):
    """Soft IoU: 1 - I / (P + Y - I), averaged over the classes with a label; else as `tversky`.

    Rahman and Wang 2016, doi 10.1007/978-3-319-50835-1_22.
    """

    alpha = beta = 1.0

    def __init__(
        self,
        ignore_index: int = 255,
        class_weights: Sequence[float] | str | None = JaccardOptions.class_weights,
    ):
        super().__init__(ignore_index, class_weights)


class Tversky(Overlap):
    """`tversky` as a module; `losses.terms.TverskyOptions` explains its options."""

    def __init__(
        self,
        ignore_index: int = 255,
        alpha: float = TverskyOptions.alpha,
        beta: float = TverskyOptions.beta,
        gamma: float = TverskyOptions.gamma,
        class_weights: Sequence[float] | str | None = TverskyOptions.class_weights,
    ):
        super().__init__(ignore_index, class_weights)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
