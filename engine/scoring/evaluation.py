"""Runs models over a split and counts: each of them alone, and what is combined from them.

All of them see the same decoded images, the same views and the same counting. Knows nothing of runs or files.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.scoring.combining import Combination
from engine.scoring.confusion import Scores, confusion_matrices
from engine.scoring.predictor import Predictor

ENSEMBLE = "mean"  # of probabilities: the combination that a run makes of its members


class ScoringBatch(Interface):
    """images (B, 3, h, w) uint8, labels (B, h, w) integer, ids: one an image."""

    @property
    def images(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def ids(self) -> list[str]: ...


@dataclass
class Tally:
    """Counts of one predictor over a split: the confusion matrix, void pixels, and the log-loss."""

    confusion: Tensor  # (C, C) int64
    num_void: Tensor  # () int64
    log_loss: Tensor  # () float64, summed over labelled pixels

    @classmethod
    def empty(cls, num_classes: int, device: torch.device) -> "Tally":
        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return cls(
            zeros(num_classes, num_classes, dtype=torch.int64),
            zeros(dtype=torch.int64),
            zeros(dtype=torch.float64 if device.type != "mps" else torch.float32),
        )

    def tensors(self) -> list[Tensor]:
        """What several processes sum to make one tally."""
        return [self.confusion, self.num_void, self.log_loss]

    def scores(self, class_names: tuple[str, ...]) -> Scores:
        """The scores of what has been counted."""
        matrix: NDArray[np.int64] = self.confusion.cpu().numpy()
        return Scores.of(matrix, class_names, int(self.num_void))

    def mean_log_loss(self) -> float:
        """Cross-entropy of the probabilities, in nats a labelled pixel."""
        return float(self.log_loss / self.confusion.sum().clamp(min=1))


@torch.no_grad()
def evaluate(
    models: dict[str, nn.Module],
    batches: Iterable[ScoringBatch],
    predictor: Predictor,
    num_classes: int,
    ignore_index: int,
    device: torch.device,
    on_batch: Callable[[list[str], dict[str, Tensor]], None] | None = None,
    combinations: Mapping[str, Combination] = MappingProxyType({}),
    on_pixels: Callable[[Tensor, dict[str, Tensor]], None] | None = None,
) -> dict[str, Tally]:
    """Tallies by name: one for each model, then one for each combination of them.

    Args:
        models: by name; put into eval mode, and back afterwards where they were training.
        batches: every image of the split once, with its labels.
        on_batch: called with the ids of a batch and, by name, its (B, C, C) confusion matrices.
        combinations: of all models, in their order; every model runs once.
        on_pixels: called with the labels of a batch (B, h, w) and, by name, its probabilities (B, C, h, w).
    """
    tallies = {name: Tally.empty(num_classes, device) for name in (*models, *combinations)}
    were_training = {name: model.training for name, model in models.items()}
    for model in models.values():
        model.eval()
    for batch in batches:
        outputs = {name: predictor(model, batch.images) for name, model in models.items()}  # (B, C, h, w)
        of_models = list(outputs.values())
        outputs |= {name: combine(of_models) for name, combine in combinations.items()}
        matrices = {
            name: _count(tallies[name], probabilities, batch.labels, ignore_index)
            for name, probabilities in outputs.items()
        }
        if on_batch:
            on_batch(batch.ids, matrices)
        if on_pixels:
            on_pixels(batch.labels, outputs)
    for name, model in models.items():
        model.train(were_training[name])
    return tallies


def _count(tally: Tally, probabilities: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Adds one batch to the tally; gives its (B, C, C) confusion matrices."""
    labels = labels.long()  # (B, h, w)
    matrices = confusion_matrices(probabilities.argmax(dim=1), labels, probabilities.shape[1], ignore_index)
    void = labels == ignore_index
    chosen = probabilities.gather(1, labels.masked_fill(void, 0)[:, None])[:, 0]  # (B, h, w)
    tally.confusion += matrices.sum(dim=0)
    tally.num_void += void.sum()
    tally.log_loss -= chosen.clamp(min=1e-12).log().masked_fill(void, 0).sum(dtype=tally.log_loss.dtype)
    return matrices
