"""Crops made of several samples: mosaic, copy-paste, ClassMix and CutMix, on images and labels alike.

A layer copies pixels of a guest's crop to the same place in the host's crop, image and labels together, so
the two stay aligned. Guests and layers are drawn from (seed, epoch, id of the host): a guest is any sample of
the data set, loaded and augmented for this purpose, not a neighbour in the batch. So the result for a sample
does not depend on the number of processes or on the batch.

Shapes: S the side of a crop.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.class_counts import ClassCounts
from engine.data.rare_classes import class_probabilities, temperature
from engine.data.sample import DataError

MIXING_KEYS = ("mosaic", "copy_paste", "classmix", "cutmix")  # of the augment section, in their order
NUM_IDS = 256  # of uint8 labels
OWN_STREAM = zlib.crc32(b"mixing")  # independent of the random numbers of augmentation


@dataclass(frozen=True)
class BoxLayer:
    """Pastes the guest inside a box; its sides are in 0..1 of the crop."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of_cutmix(cls, rng: np.random.Generator) -> "BoxLayer":
        """A box of uniformly drawn area, then clipped at the border, arXiv 1905.04899."""
        half = np.sqrt(rng.uniform()) / 2
        x, y = rng.uniform(size=2)
        return cls(*np.clip([x - half, y - half, x + half, y + half], 0, 1).tolist())

    def within(self, side_px: int) -> tuple[slice, slice]:
        """Its rows and columns in a crop."""
        left, top, right, bottom = (
            round(side * side_px) for side in (self.left, self.top, self.right, self.bottom)
        )
        return slice(top, bottom), slice(left, right)

    def paste(self, image: Tensor, labels: Tensor, guest_image: Tensor, guest_labels: Tensor) -> None:
        """Onto `image` (3, S, S) and `labels` (S, S) or (C, S, S), in place."""
        rows, columns = self.within(labels.shape[-1])
        image[:, rows, columns] = guest_image[:, rows, columns]
        labels[..., rows, columns] = guest_labels[..., rows, columns]


@dataclass(frozen=True)
class HalfClassesLayer:
    """Pastes half of the classes of the guest, rounded down: the first in a random order. Never void."""

    order: tuple[int, ...]  # all label ids but `ignore_index`

    def paste(self, image: Tensor, labels: Tensor, guest_image: Tensor, guest_labels: Tensor) -> None:
        """Onto `image` (3, S, S) and `labels` (S, S), in place."""
        order = torch.tensor(self.order).to(labels.device, non_blocking=True)
        present = torch.zeros(NUM_IDS, dtype=torch.int64, device=labels.device)
        present = present.scatter_(0, guest_labels.flatten(), 1)[order]
        count = present.cumsum(0)
        taken = (present * (count <= count[-1] // 2)).bool()
        taken = torch.zeros(NUM_IDS, dtype=torch.bool, device=labels.device).scatter_(0, order, taken)
        _paste_where(taken[guest_labels], image, labels, guest_image, guest_labels)


@dataclass(frozen=True)
class OneClassLayer:
    """Pastes the pixels of one class of the guest."""

    id: int

    def paste(self, image: Tensor, labels: Tensor, guest_image: Tensor, guest_labels: Tensor) -> None:
        """Onto `image` (3, S, S) and `labels` (S, S), in place."""
        _paste_where(guest_labels == self.id, image, labels, guest_image, guest_labels)


@dataclass(frozen=True)
class Guest:
    """Which sample of the data set is pasted onto the host, and how."""

    index: int
    layer: BoxLayer | HalfClassesLayer | OneClassLayer


class Mixing:
    """The keys mosaic, copy_paste, classmix and cutmix of the `augment` section, applied in this order.

    Args:
        section: the four keys, each the share of samples to which it is applied.
        seed: of the run.
        num_samples: of the data set.
        ignore_index: the label of void pixels.
        counts: of each class in each sample; needed by copy_paste only.
        shares: how often each sample is a guest, with sum 1; None: all equally often.

    Raises:
        DataError: copy_paste, and there is nothing to paste.
    """

    def __init__(
        self,
        section: Any,
        seed: int,
        num_samples: int,
        ignore_index: int,
        counts: ClassCounts | None = None,
        shares: NDArray[np.float64] | None = None,
    ):
        if section.copy_paste > 0 and not (counts and counts.pixels.any()):
            raise DataError("augment.copy_paste: no label map of the training split has a labelled pixel.")
        self.section = section
        self.seed = seed
        self.num_samples = num_samples
        self.classes = np.delete(np.arange(NUM_IDS), ignore_index)
        self.counts, self.shares = counts, shares
        self.rarity = class_probabilities(counts.shares, temperature(counts.shares)) if counts else None

    def guests(self, id: str, epoch: int) -> list[Guest]:
        """What is pasted onto a sample, in this order: a pure function of (seed, epoch, id)."""
        rng = np.random.default_rng([self.seed, epoch, zlib.crc32(id.encode()), OWN_STREAM])
        draws: tuple[Callable[[np.random.Generator], list[Guest]], ...] = (
            self._mosaic,
            self._copy_paste,
            self._classmix,
            self._cutmix,
        )
        shares = [getattr(self.section, key) for key in MIXING_KEYS]
        steps = zip(shares, draws, strict=True)
        return [guest for share, draw in steps if rng.uniform() < share for guest in draw(rng)]

    def _mosaic(self, rng: np.random.Generator) -> list[Guest]:
        """Four crops around a point, arXiv 2004.10934; each keeps its scale, which is drawn by the warp."""
        x, y = rng.uniform(0.25, 0.75, 2)
        boxes = [BoxLayer(x, 0, 1, y), BoxLayer(0, y, x, 1), BoxLayer(x, y, 1, 1)]
        return [Guest(self._any(rng), box) for box in boxes]

    def _copy_paste(self, rng: np.random.Generator) -> list[Guest]:
        """All pixels of one class of a sample that contains it, as masks do not separate objects.

        Copy-paste is from arXiv 2012.07177; rare classes are chosen more often, as by the sampler `rare`.
        """
        assert self.counts is not None and self.rarity is not None  # see __init__
        id = int(rng.choice(len(self.rarity), p=self.rarity))
        having = np.flatnonzero(self.counts.pixels[:, id])
        of_these = None if self.shares is None else self.shares[having] / self.shares[having].sum()
        return [Guest(int(rng.choice(having, p=of_these)), OneClassLayer(id))]

    def _classmix(self, rng: np.random.Generator) -> list[Guest]:
        """Half of the classes of another sample, arXiv 2007.07936, with true instead of predicted labels."""
        return [Guest(self._any(rng), HalfClassesLayer(tuple(rng.permutation(self.classes).tolist())))]

    def _cutmix(self, rng: np.random.Generator) -> list[Guest]:
        """A box of another sample."""
        box = BoxLayer.of_cutmix(rng)
        return [Guest(self._any(rng), box)]

    def _any(self, rng: np.random.Generator) -> int:
        if self.shares is None:
            return int(rng.integers(self.num_samples))
        return int(rng.choice(self.num_samples, p=self.shares))


def paste_guests(images: Tensor, labels: Tensor, guests: Sequence[Sequence[Guest]]) -> tuple[Tensor, Tensor]:
    """Paste guests onto hosts, in place.

    Args:
        images, labels: (B, 3, S, S) and (B, S, S): the hosts, then the guests of each in turn.
        guests: one list per host.

    Returns:
        images and labels of the hosts alone.
    """
    row = len(guests)
    for host, layers in enumerate(guests):
        for guest in layers:
            guest.layer.paste(images[host], labels[host], images[row], labels[row])
            row += 1
    assert row == len(images), "one crop for each host and each guest"
    return images[: len(guests)], labels[: len(guests)]


def _paste_where(
    mask: Tensor, image: Tensor, labels: Tensor, guest_image: Tensor, guest_labels: Tensor
) -> None:
    # Not image[:, mask] = ...: that synchronises with the device to count the mask.
    image.copy_(torch.where(mask, guest_image, image))
    labels.copy_(torch.where(mask, guest_labels, labels))
