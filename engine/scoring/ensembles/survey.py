"""One pass over a split for what choosing needs: counts of each image by model, and sampled pixels.

Reported figures come from `evaluation.py`; this is what they are chosen by. Knows nothing of methods.

Shapes: N images, C classes, M models.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from engine.scoring.combining import Combination
from engine.scoring.confusion import confusion_matrices
from engine.scoring.counting import id_type, most_likely
from engine.scoring.ensembles.pixel_samples import PixelSamples, draw_places
from engine.scoring.evaluation import ScoringBatch
from engine.scoring.metrics import overlaps
from engine.scoring.predictor import Predictor
from engine.scoring.statistics import Overlaps
from engine.scoring.upsampling import strips

Progress = Callable[[int], None]  # called with the number of images just done


@dataclass(frozen=True)
class Survey:
    """ids: of the N images that could be read; overlaps: (N, 2, C) of each model; samples: their pixels."""

    ids: list[str]
    overlaps: list[Overlaps]
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
    found: list[Overlaps] = []
    samples: list[PixelSamples] = []
    for batch in batches:
        of_models = [predictor.pieces(model, batch.images) for model in models]
        labels = predictor.scored(batch.labels).long()  # (B, H, W)
        places = [
            draw_places(of_image, id, pixels_an_image, ignore_index)
            for of_image, id in zip(labels, batch.ids, strict=True)
        ]
        num_classes = of_models[0].shape[1]
        predicted = labels.new_empty(len(models), *labels.shape, dtype=id_type(num_classes))
        for images, rows in strips(of_models[0].shape, labels.device):
            outputs = torch.stack([pieces.probabilities(images, rows) for pieces in of_models])
            predicted[:, images, rows] = torch.stack([most_likely(output)[0] for output in outputs])
            for place, image in enumerate(range(images.start, images.stop)):
                here = _within(places[image], rows, labels.shape[2])
                samples.append(
                    PixelSamples(
                        outputs[:, place].flatten(2)[..., here].permute(2, 0, 1).cpu(),  # (P, M, C)
                        labels[image, rows].flatten()[here].cpu(),
                        torch.full((len(here),), len(ids) + image),
                    )
                )
        of_batch = [confusion_matrices(of_one, labels, num_classes, ignore_index) for of_one in predicted]
        found.append(overlaps(torch.stack(of_batch).cpu().numpy()))  # (M, B, 2, C)
        ids += batch.ids
        progress(len(batch.ids))
    by_model = list(np.concatenate(found, axis=1))
    return Survey(ids, by_model, PixelSamples.join(samples) if pixels_an_image else None)


@torch.no_grad()
def count_by_image(
    models: Sequence[nn.Module],
    batches: Iterable[ScoringBatch],
    predictor: Predictor,
    ignore_index: int,
    wanted: Callable[[str], Iterable[Combination]],
    on_image: Callable[[str, Mapping[Combination, Overlaps]], None],
) -> None:
    """Counts each image by combinations of its own.

    Args:
        wanted: of an id, the combinations of all models.
        on_image: called with an id and, by combination, its (2, C) overlaps.
    """
    for batch in batches:
        of_models = [predictor.pieces(model, batch.images) for model in models]
        labels = predictor.scored(batch.labels).long()  # (B, H, W)
        _, C, H, W = of_models[0].shape
        for image, id in enumerate(batch.ids):
            here = slice(image, image + 1)
            predicted = {c: labels.new_empty(1, H, W, dtype=id_type(C)) for c in wanted(id)}
            for _, rows in strips((1, C, H, W), labels.device):
                outputs = [pieces.probabilities(here, rows) for pieces in of_models]
                for combination, classes in predicted.items():
                    classes[:, rows] = most_likely(combination(outputs))[0]
            counted = {}
            for combination, classes in predicted.items():
                [confusion] = confusion_matrices(classes, labels[here], C, ignore_index)
                counted[combination] = overlaps(confusion.cpu().numpy())
            on_image(id, counted)


def _within(places: Tensor, rows: slice, width: int) -> Tensor:
    """Those of the numbered pixels that lie in some rows, numbered from the first of these."""
    first, last = rows.start * width, rows.stop * width
    inside: Tensor = places[(places >= first) & (places < last)] - first
    return inside
