"""One pass over a split for what choosing needs: counts of each image by model, and sampled pixels.

Reported figures come from `evaluation.py`; this is what they are chosen by. Knows nothing of methods.

Shapes: N images, C classes, M models.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.scoring.combining import Combination
from engine.scoring.confusion import confusion_matrices
from engine.scoring.ensembles.pixel_samples import PixelSamples, draw_pixels
from engine.scoring.evaluation import ScoringBatch
from engine.scoring.predictor import Predictor

Confusions = NDArray[np.int64]  # (N, C, C)
Progress = Callable[[int], None]  # called with the number of images just done


@dataclass(frozen=True)
class Survey:
    """ids: of the N images that could be read; confusion: (N, C, C) of each model; samples: their pixels."""

    ids: list[str]
    confusion: list[Confusions]
    samples: PixelSamples | None


@torch.no_grad()
def survey(
    models: Sequence[nn.Module],
    batches: Iterable[ScoringBatch],
    predictor: Predictor,
    ignore_index: int,
    pixels_an_image: int,
    progress: Progress,
) -> Survey:
    """Counts of every image; with `pixels_an_image` above 0 also that many of its pixels."""
    ids: list[str] = []
    counts: list[list[Tensor]] = [[] for _ in models]
    samples: list[PixelSamples] = []
    for batch in batches:
        outputs = [predictor(model, batch.images) for model in models]  # M of (B, C, h, w)
        for of_model, output in zip(counts, outputs, strict=True):
            of_model.append(_matrices(output, batch.labels, ignore_index))
        for place, id in enumerate(batch.ids):
            if pixels_an_image:
                of_image = [output[place] for output in outputs]
                row = len(ids)
                samples.append(
                    draw_pixels(of_image, batch.labels[place], id, row, pixels_an_image, ignore_index)
                )
            ids.append(id)
        progress(len(batch.ids))
    confusion = [torch.cat(of_model).numpy() for of_model in counts]
    return Survey(ids, confusion, PixelSamples.join(samples) if samples else None)


@torch.no_grad()
def count_by_image(
    models: Sequence[nn.Module],
    batches: Iterable[ScoringBatch],
    predictor: Predictor,
    ignore_index: int,
    wanted: Callable[[str], Iterable[Combination]],
    on_image: Callable[[str, Mapping[Combination, Confusions]], None],
) -> None:
    """Counts each image by combinations of its own.

    Args:
        wanted: of an id, the combinations of all models.
        on_image: called with an id and, by combination, its (C, C) counts.
    """
    for batch in batches:
        outputs = [predictor(model, batch.images) for model in models]  # M of (B, C, h, w)
        for place, id in enumerate(batch.ids):
            here = slice(place, place + 1)
            of_image = [output[here] for output in outputs]
            counted = {
                combination: _matrices(combination(of_image), batch.labels[here], ignore_index)[0].numpy()
                for combination in dict.fromkeys(wanted(id))
            }
            on_image(id, counted)


def _matrices(probabilities: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """(B, C, C) int64 on the CPU."""
    num_classes = probabilities.shape[1]
    return confusion_matrices(probabilities.argmax(dim=1), labels, num_classes, ignore_index).cpu()
