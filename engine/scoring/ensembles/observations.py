"""One pass over a split to select an ensemble: counts of each image by model, and sampled pixels.

Reported scores come from `engine.scoring.evaluation`. The number of sampled pixels is limited, so memory
grows neither with the images nor with the classes.

Shapes: N images, P pixels, M models, C classes.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.data.batches import Batch
from engine.scoring.combining import LEAST, Combination
from engine.scoring.confusion import confusion_matrices
from engine.scoring.counting import id_type, most_likely
from engine.scoring.metrics import overlaps
from engine.scoring.predictor import Predictor
from engine.scoring.statistics import Overlaps
from engine.scoring.upsampling import strips

MAX_PIXELS_PER_IMAGE = 1024  # neighbouring pixels are alike: more images help more than more pixels
MAX_PROBABILITIES = 1 << 25  # held at once, 128 MiB
# (N, 2): the log-loss summed over the labelled pixels of an image, and their number
Losses = NDArray[np.float64]
Progress = Callable[[int], None]  # called with the number of images that were just processed


@dataclass(frozen=True)
class PixelSamples:
    """probabilities (P, M, C) float32, labels (P,) int64, rows (P,) int64: the image that each is from."""

    probabilities: Tensor
    labels: Tensor
    rows: Tensor

    @classmethod
    def join(cls, parts: Sequence["PixelSamples"]) -> "PixelSamples":
        """The samples of several images as one."""
        fields = ("probabilities", "labels", "rows")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))

    def of_images(self, rows: NDArray[np.bool_]) -> "PixelSamples":
        """The samples of the images that `rows` (N,) marks."""
        kept = torch.from_numpy(rows)[self.rows]
        return PixelSamples(self.probabilities[kept], self.labels[kept], self.rows[kept])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_members(self) -> int:
        return self.probabilities.shape[1]


@dataclass(frozen=True)
class Observations:
    """ids: of the N readable images; overlaps (N, 2, C) and losses: of each model; samples: their pixels.

    losses and samples are None if they were not asked for.
    """

    ids: list[str]
    overlaps: list[Overlaps]
    losses: list[Losses] | None
    samples: PixelSamples | None


@torch.no_grad()
def observe(
    models: Sequence[nn.Module],
    batches: Iterable[Batch],
    predictor: Predictor,
    ignore_index: int,
    pixels_per_image: int,
    progress: Progress,
    with_losses: bool,
) -> Observations:
    """Counts of every image; with `pixels_per_image` above 0 also that many of its pixels.

    Args:
        with_losses: whether the log-loss is computed too, which takes time.
    """
    ids: list[str] = []
    found: list[Overlaps] = []
    losses: list[Losses] = []
    samples: list[PixelSamples] = []
    for batch in batches:
        logits = [predictor.pieces(model, batch.images) for model in models]
        labels = predictor.scored(batch.labels).long()  # (B, H, W)
        places = [
            draw_places(of_image, id, pixels_per_image, ignore_index)
            for of_image, id in zip(labels, batch.ids, strict=True)
        ]
        num_classes = logits[0].shape[1]
        predicted = labels.new_empty(len(models), *labels.shape, dtype=id_type(num_classes))
        is_labelled = labels != ignore_index
        log_loss = torch.zeros(len(models), len(labels), dtype=torch.float64)  # (M, B)
        for images, rows in strips(logits[0].shape, labels.device):
            outputs = torch.stack([pieces.probabilities(images, rows) for pieces in logits])
            if with_losses:
                of_strip = _log_loss(outputs, labels[images, rows], is_labelled[images, rows])
                log_loss[:, images] += of_strip.cpu()
            predicted[:, images, rows] = torch.stack([most_likely(output)[0] for output in outputs])
            samples += _samples_of(outputs, labels, places, images, rows, len(ids))
        confusions = [
            confusion_matrices(of_model, labels, num_classes, ignore_index) for of_model in predicted
        ]
        found.append(overlaps(torch.stack(confusions).cpu().numpy()))  # (M, B, 2, C)
        num_labelled = is_labelled.sum(dim=(1, 2)).cpu().double().expand_as(log_loss)
        losses.append(torch.stack([log_loss, num_labelled], dim=2).numpy())  # (M, B, 2)
        ids += batch.ids
        progress(len(batch.ids))
    return Observations(
        ids,
        list(np.concatenate(found, axis=1)),
        list(np.concatenate(losses, axis=1)) if with_losses else None,
        PixelSamples.join(samples) if pixels_per_image else None,
    )


def _samples_of(
    outputs: Tensor, labels: Tensor, places: Sequence[Tensor], images: slice, rows: slice, first: int
) -> Iterator[PixelSamples]:
    """The sampled pixels of each image in a strip.

    Args:
        outputs: (M, b, C, h, W) probabilities of the strip. labels: (B, H, W) of the batch.
        places: of the sampled pixels of each image of the batch.
        first: the row of the first image of the batch.
    """
    for place, image in enumerate(range(images.start, images.stop)):
        here = _within(places[image], rows, labels.shape[2])
        yield PixelSamples(
            outputs[:, place].flatten(2)[..., here].permute(2, 0, 1).cpu(),  # (P, M, C)
            labels[image, rows].flatten()[here].cpu(),
            torch.full((len(here),), first + image),
        )


@torch.no_grad()
def count_by_image(
    models: Sequence[nn.Module],
    batches: Iterable[Batch],
    predictor: Predictor,
    ignore_index: int,
    wanted: Callable[[str], Iterable[Combination]],
    on_image: Callable[[str, Mapping[Combination, Overlaps]], None],
) -> None:
    """Count each image with its own combinations.

    Args:
        wanted: from the id of an image to combinations of all models.
        on_image: called with an id and, by combination, its (2, C) overlaps.
    """
    for batch in batches:
        logits = [predictor.pieces(model, batch.images) for model in models]
        labels = predictor.scored(batch.labels).long()  # (B, H, W)
        _, C, H, W = logits[0].shape
        for image, id in enumerate(batch.ids):
            here = slice(image, image + 1)
            predicted = {c: labels.new_empty(1, H, W, dtype=id_type(C)) for c in wanted(id)}
            for _, rows in strips((1, C, H, W), labels.device):
                outputs = [pieces.probabilities(here, rows) for pieces in logits]
                for combination, classes in predicted.items():
                    classes[:, rows] = most_likely(combination(outputs))[0]
            counted = {}
            for combination, classes in predicted.items():
                [confusion] = confusion_matrices(classes, labels[here], C, ignore_index)
                counted[combination] = overlaps(confusion.cpu().numpy())
            on_image(id, counted)


def _log_loss(outputs: Tensor, labels: Tensor, is_labelled: Tensor) -> Tensor:
    """(M, B), summed over labelled pixels, from probabilities (M, B, C, h, w) and labels (B, h, w)."""
    index = torch.where(is_labelled, labels, 0).expand(len(outputs), 1, *labels.shape).transpose(1, 2)
    of_label = outputs.gather(2, index)[:, :, 0]  # (M, B, h, w)
    log_loss = of_label.clamp(min=LEAST).log().neg() * is_labelled
    return log_loss.sum(dim=(2, 3), dtype=torch.float64)


def num_sampled_pixels(num_images: int, num_members: int, num_classes: int) -> int:
    """How many pixels are drawn from each image."""
    return max(1, min(MAX_PIXELS_PER_IMAGE, MAX_PROBABILITIES // (num_images * num_members * num_classes)))


def draw_places(labels: Tensor, id: str, num_pixels: int, ignore_index: int) -> Tensor:
    """(P,) indices of labelled pixels of one image (h, w), ascending and distinct: a pure function of its id.

    All labelled pixels where there are no more than `num_pixels`.
    """
    labelled = (labels != ignore_index).flatten().nonzero()[:, 0]
    rng = np.random.default_rng([0, zlib.crc32(id.encode())])
    drawn = rng.choice(len(labelled), min(num_pixels, len(labelled)), replace=False)
    return labelled[torch.from_numpy(np.sort(drawn)).to(labelled.device)]


def _within(places: Tensor, rows: slice, width: int) -> Tensor:
    """The pixels in these rows, as indices relative to the first of the rows."""
    first, last = rows.start * width, rows.stop * width
    inside: Tensor = places[(places >= first) & (places < last)] - first
    return inside
