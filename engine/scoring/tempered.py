"""Calibration at a temperature that is fitted on the selection split (Guo et al. 2017, arXiv 1706.04599).

A temperature divides the logits of the combined prediction, so no predicted class changes.

Shapes: B images, C classes, P pixels.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data.batches import scoring_batches
from engine.data.sample import Dataset, skipped_ids
from engine.run_folder import RunFolderError
from engine.scoring.calibration import NUM_BINS, Calibration, reliability_counts
from engine.scoring.combining import LEAST
from engine.scoring.counting import exact_zeros, most_likely, summed_log_loss
from engine.scoring.ensembles.fitting import best_temperature
from engine.scoring.ensembles.observations import num_sampled_pixels, observe
from engine.scoring.evaluation import ImageProgress
from engine.scoring.numerics import full_float32
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.selection_split import open_apart
from engine.scoring.trained import Trained

REMEDY = "Name one that was neither trained on nor is scored: data.select=<a split of other images>"


@dataclass(frozen=True)
class Tempered:
    """temperature: fitted on `num_images` images of `split`. log_loss: in nats per labelled pixel."""

    temperature: float
    split: str
    num_images: int
    calibration: Calibration
    log_loss: float


class Tempering:
    """Counts what the calibration is at a temperature; `evaluate` calls it as its `on_pixels`.

    Args:
        name: of the predictor in `evaluate`.
        split, num_images: that the temperature was fitted on.
    """

    def __init__(
        self,
        name: str,
        temperature: float,
        split: str,
        num_images: int,
        ignore_index: int,
        device: torch.device,
    ):
        self.name, self.temperature, self.split, self.num_images = name, temperature, split, num_images
        self.ignore_index = ignore_index
        self.reliability = exact_zeros((3, NUM_BINS), device)
        self.log_loss = exact_zeros((), device)

    def __call__(self, labels: Tensor, outputs: Mapping[str, Tensor]) -> None:
        """Labels (B, rows, W); by name, probabilities (B, C, rows, W)."""
        probabilities = outputs[self.name]
        scaled = tempered(probabilities, self.temperature)
        ids, _ = most_likely(probabilities)
        labelled = labels != self.ignore_index
        confidence = scaled.amax(dim=1)
        self.reliability += reliability_counts(confidence, ids == labels, labelled).sum(dim=0)
        self.log_loss += summed_log_loss(scaled, labels, ~labelled, self.log_loss.dtype)

    def result(self) -> Tempered:
        """What was counted so far."""
        pixels = float(self.reliability[0].sum())
        return Tempered(
            self.temperature,
            self.split,
            self.num_images,
            Calibration.of(self.reliability.cpu().double().numpy()),
            float(self.log_loss) / pixels if pixels else float("nan"),
        )


def tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """(B, C, ...) -> (B, C, ...), whose logits are divided by the temperature."""
    return (probabilities.clamp(min=LEAST).log() / temperature).softmax(dim=1)


@full_float32()
def fitted_tempering(
    trained: Trained,
    scored: tuple[str, Dataset],
    protocol: EvaluationProtocol,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> Tempering:
    """With the temperature of least log-loss on the split that `data.select` names.

    Args:
        scored: the name and the images of the split whose calibration will be counted.

    Raises:
        RunFolderError: none is named, or it shares images with those that are scored or were trained on.
        DataError: it is not there.
    """
    data = trained.recipe.data
    if data.select is None:
        raise RunFolderError(f"No split is named to fit it on. {REMEDY}")
    seen = trained.training_data, trained.train_fingerprints
    select = open_apart(data, data.select, *seen, scored, REMEDY)
    num_members, num_classes = len(trained.members), len(trained.class_names)
    images = ImageProgress(len(select), progress)
    samples = observe(
        list(trained.members.values()),
        scoring_batches(select, device, workers=data.workers),
        Predictor(protocol, nullcontext, trained.kind),
        select.ignore_index,
        num_sampled_pixels(len(select), num_members, num_classes),
        images.add,
        with_losses=False,
    ).samples
    images.end()
    assert samples is not None, "they were asked for"
    together = trained.combination([samples.probabilities[:, member] for member in range(num_members)])
    temperature = best_temperature(together.clamp(min=LEAST).log(), samples.labels)
    num_images = len(select) - len(skipped_ids(select))
    return Tempering(protocol.name, temperature, data.select, num_images, scored[1].ignore_index, device)
