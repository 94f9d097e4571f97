"""Scores the model in training on the split that selects checkpoints, over all processes."""

import math

import torch
from torch import nn

from engine.data.batches import scoring_batches
from engine.data.reading import read_or_error
from engine.data.sample import DataError, Dataset
from engine.data.skipping import note_or_raise
from engine.reporting.journal import Journal
from engine.reporting.pictures import Picture
from engine.scoring.confusion import Scores
from engine.scoring.evaluation import evaluate
from engine.scoring.predictor import Predictor
from engine.training.distributed import Process, sum_in_place
from engine.training.guards import diverged


class Validation:
    """Callable: (model, step, journal) -> Scores of the whole split, the same on every process.

    Raises RunError where the model's probabilities are no numbers any more.

    Args:
        dataset: the split.
        predictor: how images meet the model.
        num_pictures: samples, spread evenly, whose predictions the journal is shown.
    """

    def __init__(
        self, dataset: Dataset, predictor: Predictor, process: Process, workers: int | str, num_pictures: int
    ):
        self.dataset = dataset
        self.predictor = predictor
        self.process = process
        self.workers = workers
        self.picture_indices = spread(num_pictures, len(dataset))

    def __call__(self, model: nn.Module, step: int, journal: Journal) -> Scores:
        data, process = self.dataset, self.process
        num_share = len(range(process.rank, len(data), process.world_size))  # about: batches differ in size
        done = 0

        def count(ids: list[str], _: object) -> None:
            nonlocal done
            done += len(ids)
            journal.scoring(min(done, num_share), num_share)

        batches = scoring_batches(
            data, process.device, process.rank, process.world_size, workers=self.workers
        )
        num_classes = len(data.class_names)
        [tally] = evaluate(
            {"model": model}, batches, self.predictor, num_classes, data.ignore_index, process.device, count
        ).values()
        journal.scoring(num_share, num_share)
        sum_in_place(process, tally.tensors())
        if not math.isfinite(tally.mean_log_loss()):  # the last update can break what its loss did not show
            raise diverged(step)
        scores = tally.scores(data.class_names)
        pictures = self.pictures(model) if journal.listeners else []
        journal.evaluation(step, scores, tally.mean_log_loss(), pictures)
        return scores

    def pictures(self, model: nn.Module) -> list[Picture]:
        """The chosen samples with the model's prediction."""
        return predict_pictures(
            model, self.dataset, self.picture_indices, self.predictor, self.process.device
        )


def predict_pictures(
    model: nn.Module, dataset: Dataset, indices: list[int], predictor: Predictor, device: torch.device
) -> list[Picture]:
    """Samples of a set, without skipped ones, and the model's predictions at original size, on the CPU."""
    was_training = model.training
    model.eval()
    pictures = []
    for index in indices:
        sample = read_or_error(dataset, index)
        if isinstance(sample, DataError):
            note_or_raise(dataset, index, sample)
            continue
        prediction = predictor(model, sample.image[None].to(device)).argmax(dim=1)[0]  # (H, W)
        image, labels = (predictor.scored(x).cpu() for x in (sample.image, sample.labels))
        pictures.append(Picture(sample.id, image, labels, prediction.cpu()))
    model.train(was_training)
    return pictures


def spread(count: int, total: int) -> list[int]:
    """Up to `count` indices, evenly over 0..total-1."""
    count = min(count, total)
    return [index * total // count for index in range(count)]
