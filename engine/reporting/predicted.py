"""Samples of a data set with what a model makes of them, to be looked at. Knows no files of runs."""

from collections.abc import Sequence

import torch
from torch import nn

from engine.data.sample import DataError, Dataset, note_or_raise, read_or_error
from engine.reporting.pictures import Picture
from engine.scoring.predictor import Predictor


def predict_pictures(
    model: nn.Module, dataset: Dataset, indices: Sequence[int], predictor: Predictor, device: torch.device
) -> list[Picture]:
    """Samples of a set, without skipped ones, and the model's predictions as they are scored, on the CPU."""
    was_training = model.training
    model.eval()
    pictures = []
    for index in indices:
        sample = read_or_error(dataset, index)
        if isinstance(sample, DataError):
            note_or_raise(dataset, index, sample)
            continue
        confidence, prediction = predictor(model, sample.image[None].to(device)).max(dim=1)  # (1, H, W)
        image, labels = predictor.scored(sample.image), predictor.scored(sample.labels)
        parts = (image, labels, prediction[0], confidence[0])
        pictures.append(Picture(sample.id, *(part.cpu() for part in parts)))
    model.train(was_training)
    return pictures
