"""Predicts a split with a trained run and ranks its labels by how suspicious they are (`suspects.py`)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import engine.data
from engine.data import Dataset, Sample
from engine.data.batches import scoring_batches
from engine.data.sample import require_one_class_a_pixel
from engine.diagnosis.classes import BACKGROUND
from engine.diagnosis.suspects import Mask, Region, Suspect, Suspicion, find_regions
from engine.run_folder import RunFolderError
from engine.scoring.combining import Combination
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.trained import Trained, find_checkpoint, open_trained
from engine.scoring.training_images import num_trained_on

GRID = 128  # cells along the longer side, for finding a shift of the labels
FARTHEST = 0.2  # of a side: the longest shift that is tried
MUCH_BETTER = 0.5  # of the wrong pixels: no more may stay wrong after a shift that is reported
LEAST_GAIN = 0.03  # of the labelled pixels, that have to become right


@dataclass(frozen=True)
class ShownSuspect:
    """A suspect with its pixels. move: (right, down) px that would make its labels fit, if any would."""

    suspect: Suspect
    sample: Sample
    predictions: NDArray[np.int64]  # (h, w)
    regions: list[tuple[Region, Mask]]  # as in the suspect, highest first
    move: tuple[int, int] | None


class LabelCheck:
    """Every kept checkpoint of a run, or a saved ensemble, against the labels of one split.

    Whole images are checked: where `centercrop` would score a part, they are predicted under `native`.

    Args:
        path: a run folder, a checkpoint in its top/, or the folder of a saved ensemble.
        overrides: recipe values for the place of the data and how it is predicted.
        split: None means the recipe's `data.val`.

    Raises:
        RunFolderError, RecipeError, DataError: there is no such run, or its data cannot be read.
    """

    def __init__(self, path: Path, overrides: Sequence[str], split: str | None, device: torch.device):
        self.device = device
        self.trained = open_with_all_checkpoints(path, device, overrides)
        recipe = self.trained.recipe
        require_one_class_a_pixel(recipe.data, "A check of labels", "The doctor checks their masks.")
        self.split = split or recipe.data.val
        self.dataset: Dataset = engine.data.open_split(recipe.data, self.split)
        self.is_trained_on = num_trained_on(self.trained, self.dataset) > 0
        if tuple(self.dataset.class_names) != self.trained.class_names:
            raise RunFolderError(
                f"{path} was trained on the classes {', '.join(self.trained.class_names)}, but the data has "
                f"{', '.join(self.dataset.class_names)}. Use the data of the run."
            )
        self.workers = recipe.data.workers
        protocol = EvaluationProtocol.of(recipe.eval)
        self.sees_more_than_scored = not protocol.card()["whole_image"]
        protocol = replace(protocol, name="native") if self.sees_more_than_scored else protocol
        self._predictor = Predictor(protocol, nullcontext)

    @property
    def background(self) -> int | None:
        """The label id of the class called background."""
        names = self.trained.class_names
        return names.index(BACKGROUND) if BACKGROUND in names else None

    def run(self, progress: Callable[[int, int], None]) -> Suspicion:
        """Every image once; `progress` is called with (images done, all images)."""
        suspicion = Suspicion(len(self.trained.class_names), self.dataset.ignore_index)
        done = 0
        for batch in scoring_batches(self.dataset, self.device, workers=self.workers):
            probabilities = self.predict(batch.images)
            labels = batch.labels.cpu().numpy().astype(np.uint8)
            for id, of_image, its_labels in zip(batch.ids, probabilities, labels, strict=True):
                suspicion.add(id, of_image, its_labels)
            done += len(batch.ids)
            progress(done, len(self.dataset))
        progress(len(self.dataset), len(self.dataset))  # images that could not be read were in no batch
        return suspicion

    def show(self, suspects: Sequence[Suspect]) -> Iterator[ShownSuspect]:
        """Their pixels, predicted again, since keeping those of all images would take too much memory."""
        rows = {id: row for row, id in enumerate(self.dataset.ids)}
        for suspect in suspects:
            sample = self.dataset[rows[suspect.id]]
            labels = sample.labels.numpy().astype(np.uint8)
            probabilities = self.predict(sample.image[None].to(self.device))[0]  # (C, h, w)
            predictions = probabilities.argmax(axis=0)
            masks = {
                (region.label, region.prediction, region.box): mask
                for region, mask in find_regions(probabilities, labels, self.dataset.ignore_index)
            }
            found = [
                (region, masks[region.label, region.prediction, region.box])
                for _, region in suspect.regions
                if (region.label, region.prediction, region.box) in masks
            ]
            move = fitting_move(labels, predictions, self.dataset.ignore_index)
            yield ShownSuspect(suspect, sample, predictions, found, move)

    def predict(self, images: torch.Tensor) -> NDArray[np.float32]:
        """(B, 3, h, w) uint8 -> (B, C, h, w)"""
        together = self._predictor.together(self.trained.members, self.trained.combination, images)
        return together.float().cpu().numpy()


def open_with_all_checkpoints(path: Path, device: torch.device, overrides: Sequence[str]) -> Trained:
    """As `open_trained`, but of a run, all kept checkpoints with their mean probability."""
    best = open_trained(path, device, overrides=overrides)  # raises where no checkpoint was kept
    if (path / "combination.json").is_file() or path.is_file():
        return best
    _, manifest, _ = find_checkpoint(path)
    members: dict[str, nn.Module] = {}
    for member in manifest.members:
        members |= open_trained(path, device, member.step).members
    return replace(best, name=manifest.name, members=members, combination=Combination.mean(len(members)))


def fitting_move(
    labels: NDArray[np.uint8], predictions: NDArray[np.integer], ignore_index: int
) -> tuple[int, int] | None:
    """The shift, (right, down) in pixels, that makes (h, w) labels fit the prediction; None where they fit.

    It maximises the cross-correlation of the maps of all classes on a coarse grid that wraps at the edges.
    """
    step = -(-max(labels.shape) // GRID)
    coarse, predicted = labels[::step, ::step], predictions[::step, ::step]
    agreeing = np.zeros(coarse.shape)
    for id in np.unique(coarse[coarse != ignore_index]):
        label, prediction = (np.fft.rfft2(map_ == id) for map_ in (coarse, predicted))
        agreeing += np.fft.irfft2(label.conj() * prediction, coarse.shape)  # by move down, right
    rows, columns = (np.fft.fftfreq(side, 1 / side) for side in coarse.shape)
    too_far = (np.abs(rows)[:, None] > FARTHEST * len(rows)) | (np.abs(columns) > FARTHEST * len(columns))
    agreeing[too_far] = -1
    num_labelled = np.count_nonzero(coarse != ignore_index)
    wrong = num_labelled - agreeing
    best = np.unravel_index(wrong.argmin(), wrong.shape)
    is_believed = max(best) > 0 and wrong[best] <= MUCH_BETTER * wrong[0, 0]
    if not is_believed or wrong[0, 0] - wrong[best] < LEAST_GAIN * num_labelled:
        return None
    return step * int(columns[best[1]]), step * int(rows[best[0]])
