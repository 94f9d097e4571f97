"""Where all members of an ensemble predict the same class, by the class of the label.

Shapes: B images, C classes; the scored region of an image is H x W pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.scoring.confusion import confusion_matrices
from engine.scoring.metrics import ratio


class Agreement:
    """Counts pixels on which all agree, over batches that `evaluate` gives to `add` as its `on_maps`.

    Args:
        members: their names among the maps; two at least.
    """

    def __init__(self, members: Sequence[str], num_classes: int, ignore_index: int):
        self.members, self.num_classes, self.ignore_index = members, num_classes, ignore_index
        self.labelled = np.zeros(num_classes, np.int64)
        self.agreed = np.zeros((num_classes, num_classes), np.int64)  # rows labels, columns what all predict

    def add(self, labels: Tensor, maps: Mapping[str, Any]) -> None:
        """A batch: labels (B, H, W), and by name maps with a `prediction` (B, H, W)."""
        first, *others = (maps[name].prediction for name in self.members)
        agree = torch.stack([first == other for other in others]).all(dim=0)  # (B, H, W)
        seen, same = (
            confusion_matrices(first, of_some, self.num_classes, self.ignore_index).sum(dim=0).cpu().numpy()
            for of_some in (labels, labels.masked_fill(~agree, self.ignore_index))
        )
        self.labelled += seen.sum(axis=1)
        self.agreed += same

    def shares(self, class_names: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Of the pixels of each class: `agree`, where all predict one class, and `right`, where that is it.

        None for a class that no pixel has.
        """
        agree, right = (
            ratio(part, self.labelled) for part in (self.agreed.sum(axis=1), self.agreed.diagonal())
        )
        return {
            name: {"agree": _share(one), "right": _share(other)}
            for name, one, other in zip(class_names, agree, right, strict=True)
        }


def _share(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
