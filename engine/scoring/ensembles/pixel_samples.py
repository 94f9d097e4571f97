"""Pixels drawn at random from the images of a split, with what each member says of them: what weights are
fitted on.

As many as fit a budget, so memory grows neither with the images nor with the classes. Knows nothing of fits.

Shapes: P pixels, M members, C classes.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_AN_IMAGE = 1024  # neighbours say much the same: more images teach more than more pixels
BUDGET = 1 << 25  # probabilities that are held in all, 128 MiB


@dataclass(frozen=True)
class PixelSamples:
    """probabilities (P, M, C) float32, labels (P,) int64, rows (P,) int64: which image each is from."""

    probabilities: Tensor
    labels: Tensor
    rows: Tensor

    @classmethod
    def join(cls, parts: Sequence["PixelSamples"]) -> "PixelSamples":
        """Those of several images as one."""
        fields = ("probabilities", "labels", "rows")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))

    def of(self, rows: NDArray[np.bool_]) -> "PixelSamples":
        """Those of the images that `rows` (N,) marks."""
        kept = torch.from_numpy(rows)[self.rows]
        return PixelSamples(self.probabilities[kept], self.labels[kept], self.rows[kept])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_members(self) -> int:
        return self.probabilities.shape[1]


def pixels_an_image(num_images: int, num_members: int, num_classes: int) -> int:
    """How many pixels are drawn from each image."""
    return max(1, min(MOST_AN_IMAGE, BUDGET // (num_images * num_members * num_classes)))


def draw_places(labels: Tensor, id: str, num_pixels: int, ignore_index: int) -> Tensor:
    """(P,) numbers of labelled pixels of one image (h, w), rising, each once: a pure function of its id.

    All labelled pixels where there are no more than `num_pixels`.
    """
    labelled = (labels != ignore_index).flatten().nonzero()[:, 0]
    rng = np.random.default_rng([0, zlib.crc32(id.encode())])
    drawn = rng.choice(len(labelled), min(num_pixels, len(labelled)), replace=False)
    return labelled[torch.from_numpy(np.sort(drawn)).to(labelled.device)]
