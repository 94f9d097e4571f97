"""Precision and recall of each class over thresholds of its probability, from a sample of the pixels.

Shapes: B images, strips of h x w pixels, C classes, T thresholds.
"""

import torch
from torch import Tensor

NUM_THRESHOLDS = 51  # 0, 0.02, ... 1
ONE_IN = 64  # pixels of a strip, and at least this many: all would cost more than the scores


class PrecisionRecall:
    """Counts sampled pixels by class, by whether the label is that class, and by probability.

    Args:
        num_classes: C.
        ignore_index: the label of pixels that are not counted.
        device: of the counts.
    """

    def __init__(self, num_classes: int, ignore_index: int, device: torch.device):
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, 2, NUM_THRESHOLDS, dtype=torch.int64, device=device)
        self._generator = torch.Generator().manual_seed(0)  # the same pixels at every evaluation

    def add(self, labels: Tensor, probabilities: Tensor) -> None:
        """One strip of a batch: integer labels (B, h, w) or (B, C, h, w), probabilities (B, C, h, w)."""
        C = len(self.counts)
        chosen = self._places(labels.shape[-2:].numel()).to(labels.device)  # (n,)
        classes = torch.arange(C, device=labels.device)
        if labels.dim() == 3:
            labels = labels.flatten(1)[:, chosen].flatten().long()[:, None]  # (B*n, 1)
            own = labels == classes
        else:
            labels = labels.flatten(2)[:, :, chosen].movedim(1, -1).reshape(-1, C).long()  # (B*n, C)
            own = labels == 1
        shares = probabilities.flatten(2)[:, :, chosen].movedim(1, -1).reshape(-1, C)  # (B*n, C)
        place = (shares * (NUM_THRESHOLDS - 1)).floor().long().clamp(0, NUM_THRESHOLDS - 1)
        cell = (classes * 2 + own) * NUM_THRESHOLDS + place  # (B*n, C)
        cell = torch.where(labels == self.ignore_index, self.counts.numel(), cell)
        found = torch.bincount(cell.flatten(), minlength=self.counts.numel() + 1)[:-1]
        self.counts += found.view_as(self.counts)

    def _places(self, num_pixels: int) -> Tensor:
        """Indices of all pixels of a small strip, of a random sample of a larger one."""
        if num_pixels <= ONE_IN:
            return torch.arange(num_pixels)
        num_drawn = max(ONE_IN, num_pixels // ONE_IN)
        return torch.randint(num_pixels, (num_drawn,), generator=self._generator)

    def curve(self, class_id: int) -> dict[str, Tensor] | None:
        """Of one class, by threshold, each (T,) on the CPU: "tp", "fp", "tn", "fn", "precision", "recall".

        A pixel is predicted as the class if its probability reaches the threshold. None where no sampled
        pixel has the label.
        """
        negative, positive = self.counts[class_id].cpu()  # (T,) each
        if not positive.any():
            return None
        tp, fp = _from_above(positive), _from_above(negative)
        return {
            "tp": tp,
            "fp": fp,
            "tn": fp[0] - fp,
            "fn": tp[0] - tp,
            "precision": tp / (tp + fp).clamp(min=1),
            "recall": tp / tp[0],
        }


def _from_above(counts: Tensor) -> Tensor:
    """How many lie at or above each threshold."""
    return counts.flip(0).cumsum(0).flip(0)
