"""From logits at the model's resolution to probabilities of pixels, a strip of rows at a time.

Probabilities of all classes at full size would take most of an evaluation's memory: 1.2 GB for 150 classes
and 2 megapixels. A strip has as many rows as a constant number of probabilities allows, so memory grows with
neither the classes nor the image. The class and confidence of each pixel are taken from the strip, which is
then discarded.

The softmax follows the interpolation and precedes every mean of probabilities. So such means, over views or
over models, cannot be taken at low resolution; they are taken in the strip. Means of logits can, since they
and the interpolation are linear: see `merged`.

Shapes: B images, C classes; logits are h' x w', the region that they describe H x W pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.scoring.combining import Combination
from engine.scoring.label_kinds import SINGLE
from engine.scoring.protocols import Rectangle, Size, View

STRIP_PROBABILITIES = {"cpu": 1 << 18}  # 1 MB: fits in the cache of a core
ON_OTHER_DEVICES = 1 << 25  # 128 MB: enough work for one launch


@dataclass(frozen=True)
class Piece:
    """The logits of images under one view; mirrored logits have been mirrored back."""

    view: View
    logits: Tensor  # (B, C, h', w') float32


@dataclass(frozen=True)
class Pieces:
    """All pieces of one model.

    region: the part of the images that is described.
    average: over pieces, "probability" or "logit".
    activation: from logits (B, C, ...) to probabilities.
    """

    pieces: list[Piece]
    region: Rectangle
    average: str
    activation: Callable[[Tensor], Tensor] = SINGLE.probabilities

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, C, H, W) of all probabilities together."""
        return (*self.pieces[0].logits.shape[:2], self.region.height, self.region.width)

    @property
    def device(self) -> torch.device:
        return self.pieces[0].logits.device

    def to(self, device: torch.device) -> "Pieces":
        """The same logits on a device."""
        return replace(self, pieces=[Piece(piece.view, piece.logits.to(device)) for piece in self.pieces])

    @property
    def layout(self) -> list[tuple[object, ...]]:
        """Equal for two models whose logits describe the same places."""
        return [(piece.view.geometry, piece.logits.shape) for piece in self.pieces]

    @cached_property
    def certainty(self) -> Tensor:
        """(B,): the mean probability of the most likely class over all places of the logits and all views."""
        of_views = [self.activation(piece.logits).amax(dim=1).mean(dim=(1, 2)) for piece in self.pieces]
        return torch.stack(of_views).mean(dim=0)

    def probabilities(self, images: slice, rows: slice) -> Tensor:
        """(images, C, rows, W) of a strip."""
        if len(self.pieces) == 1:
            return self.activation(self._part(self.pieces[0], images, rows.start, rows.stop))
        total: Tensor | None = None
        for piece in self.pieces:
            box = piece.view.box
            top, left = box.top - self.region.top, box.left - self.region.left
            first, last = max(rows.start, top), min(rows.stop, top + box.height)
            if first >= last:
                continue
            part = self._part(piece, images, first - top, last - top)
            part = self.activation(part) if self.average == "probability" else part
            if total is None:
                shape = (*part.shape[:2], rows.stop - rows.start, self.region.width)
                total, times = part.new_zeros(shape), part.new_zeros(shape[2:])
            place = (slice(first - rows.start, last - rows.start), slice(left, left + box.width))
            total[:, :, *place] += part
            times[place] += 1
        assert total is not None, "the views cover the region"
        total /= times
        return total if self.average == "probability" else self.activation(total)

    def all_probabilities(self) -> Tensor:
        """(B, C, H, W)"""
        found = torch.empty(self.shape, device=self.device)
        for images, rows in strips(self.shape, self.device):
            found[images, :, rows] = self.probabilities(images, rows)
        return found

    def merged(self) -> "Pieces":
        """Where logits are averaged: the same with the pieces of equal geometry averaged into one.

        An image and its mirror image then need one upsampling and one softmax together.
        """
        if self.average != "logit":
            return self
        groups: dict[tuple[object, ...], list[Piece]] = {}
        for piece in self.pieces:
            groups.setdefault(piece.view.geometry, []).append(piece)
        means = [
            Piece(group[0].view, torch.stack([piece.logits for piece in group]).mean(dim=0))
            for group in groups.values()
        ]
        return replace(self, pieces=means)

    def _part(self, piece: Piece, images: slice, start: int, stop: int) -> Tensor:
        """(images, C, stop - start, width) logits: these rows of the piece's box."""
        view = piece.view
        sizes = (*view.stops, view.canvas)
        return resized_rows(piece.logits[images], sizes, start, stop)[..., : view.box.width]


def weighted_logits(members: Sequence[Pieces | None], combination: Combination) -> Pieces | None:
    """The mean logits of several models before the upsampling; None where the mean after it would differ.

    They agree where each model has a single weight for plain logits: with one view, or with logits averaged
    over views, and with the same resolution of all models. Probabilities are then not clamped at
    `combining.LEAST`, which only matters for members that are more certain than that.

    Args:
        members: in the order of the combination's weights; None for one that it does not use.
    """
    used = [(number, pieces) for number in combination.used if (pieces := members[number]) is not None]
    first = used[0][1]
    commutes = combination.space == "logit" and len(combination.weights[0]) == 1
    commutes &= combination.early_exit is None
    commutes &= len(first.pieces) == 1 or first.average == "logit"
    if not commutes or any(pieces.layout != first.layout for _, pieces in used):
        return None
    means = []
    for views in zip(*(pieces.pieces for _, pieces in used), strict=True):
        logits = torch.zeros_like(views[0].logits)
        for (number, _), piece in zip(used, views, strict=True):
            weight = combination.weights[number][0] / combination.temperatures[number]
            logits.add_(piece.logits, alpha=weight)
        means.append(Piece(views[0].view, logits))
    return replace(first, pieces=means)


def combined(members: Sequence[Pieces | None], combination: Combination) -> Tensor:
    """(B, C, H, W) probabilities of several models together.

    Args:
        members: as of `weighted_logits`; also None for those that an early exit leaves out.
    """
    if merged := weighted_logits(members, combination):
        return merged.all_probabilities()
    outputs = [pieces.all_probabilities() if pieces else None for pieces in members]
    return combination(outputs, sure_images(members, combination))


def sure_images(members: Sequence[Pieces | None], combination: Combination) -> Tensor | None:
    """(B,) bool: those that one member predicts alone; None without an early exit."""
    if combination.early_exit is None:
        return None
    first = members[combination.early_exit.member]
    assert first is not None, "the member that decides runs on each image"
    return combination.early_exit.is_sure(first.certainty)


def strips(shape: tuple[int, int, int, int], device: torch.device) -> Iterator[tuple[slice, slice]]:
    """(images, rows) of strips that together cover everything, each about as large as allowed.

    A strip has all rows of several images, or some rows of one image, but at least one row.
    """
    B, C, H, W = shape
    allowed = STRIP_PROBABILITIES.get(device.type, ON_OTHER_DEVICES)
    num_images = max(1, allowed // (C * H * W))
    num_rows = max(1, min(H, allowed // (C * W)))
    for image in range(0, B, num_images):
        for row in range(0, H, num_rows):
            yield slice(image, min(B, image + num_images)), slice(row, min(H, row + num_rows))


def resized_rows(source: Tensor, sizes: Sequence[Size], start: int, stop: int) -> Tensor:
    """Rows start..stop of a tensor that is interpolated bilinearly to each of `sizes` in turn.

    As `torch.nn.functional.interpolate(..., align_corners=False)` gives them, computed only from the source
    rows that they need: (B, C, h', w') -> (B, C, stop - start, w of the last size).
    """
    if not sizes:
        return source[:, :, start:stop]
    *before, (height, width) = sizes
    source_height = before[-1][0] if before else source.shape[2]
    above, below, share = (taps[start:stop] for taps in _row_taps(height, source_height))
    first, last = (start, stop - 1) if height == source_height else (int(above[0]), int(below[-1]))
    x = resized_rows(source, before, first, last + 1)  # (B, C, n', w')
    if x.shape[3] != width:
        x = F.interpolate(x, (x.shape[2], width), mode="bilinear", align_corners=False)  # along the rows only
    if height == source_height:
        return x
    above, below, share = (above - first).to(x.device), (below - first).to(x.device), share.to(x)
    return torch.lerp(x.index_select(2, above), x.index_select(2, below), share)


@lru_cache(maxsize=64)
def _row_taps(height: int, source_height: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each row the source rows above and below it, (height,), and the share of the lower, (height, 1)."""
    place = ((torch.arange(height, dtype=torch.float64) + 0.5) * source_height / height - 0.5).clamp(min=0)
    above = place.floor().long().clamp(max=source_height - 1)
    return above, (above + 1).clamp(max=source_height - 1), (place - above).unsqueeze(1)
