"""The weighted sum of loss terms, on logits that are upsampled once for all of them.

Knows nothing of recipes, and of processes only that sums go through `sum_over_processes`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.statistics import Reduce, full_precision, identity


class MixedLoss(nn.Module):
    """Adds up terms, each a module called as `term(logits, labels, reduce)`.

    Args:
        terms: the log name of each term ("loss_ce") -> the term and its weight.
        num_classes: C.

    `sum_over_processes` takes every sum over the batch before a ratio is formed. Replace it by an all-reduce
    whose backward is an all-reduce too: each process then returns the loss of the whole batch, and the mean
    of their parameter gradients (what DDP computes) is that of one process with the whole batch.
    """

    def __init__(self, terms: Mapping[str, tuple[nn.Module, float]], num_classes: int):
        super().__init__()
        self.terms = nn.ModuleDict({name: term for name, (term, _) in terms.items()})
        self.weights = {name: weight for name, (_, weight) in terms.items()}
        self.num_classes = num_classes
        self.sum_over_processes: Reduce = identity

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The total and its terms; computed in float32 (float64 if given that), under autocast too.

        Args:
            logits: (B, C, h, w), any float type; upsampled bilinearly (align_corners=False) to the labels.
            labels: (B, H, W), int64.

        Returns:
            "loss", the weighted sum, and under its log name each term: unweighted, detached. All scalars.
        """
        assert logits.shape[1] == self.num_classes, f"{logits.shape[1]} logits for {self.num_classes} classes"
        with torch.autocast(logits.device.type, enabled=False):
            logits = full_precision(logits)
            if logits.shape[-2:] != labels.shape[-2:]:
                size = labels.shape[-2:]
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)  # (B, C, H, W)
            values = {
                name: term(logits, labels, self.sum_over_processes) for name, term in self.terms.items()
            }
            total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return {"loss": total, **{name: value.detach() for name, value in values.items()}}
