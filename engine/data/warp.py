"""Where the pixels of a crop come from: one sampling grid per sample, so that each is interpolated once.

Scale, aspect, shear, rotation, flip, crop position and elastic deformation are composed into one grid; the
image is sampled bilinearly, the labels with nearest neighbour. Outside the image, pixels are black and labels
are `ignore_index`, never class 0. Each sample is read within its own size, so neither the other samples of
the batch nor their padding change the result.

Shapes: B samples, padded to H x W pixels; S the side of the square crop; K candidate crop positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from engine.data.augment import Parameters

Array = NDArray[np.float64]

MAX_LEVEL = 3  # of the image pyramid: 1/8; the padding of a batch is a multiple of 2**MAX_LEVEL
PROBES = 64  # per side: pixels of a crop in which the classes are counted before it is accepted
NUM_IDS = 256  # of uint8 labels


def warp(
    images: Tensor,
    labels: Tensor,
    sizes: Sequence[tuple[int, int]],
    parameters: Sequence[Parameters],
    crop: int,
    ignore_index: int,
    max_ratio: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Crops of a batch. Nothing here synchronises with the device.

    Args:
        images: (B, 3, H, W) uint8, each in the upper left of its padding; H and W multiples of 8.
        labels: (B, H, W) uint8, or (B, C, H, W), padded with `ignore_index`.
        sizes: (h, w) of each image inside its padding.
        parameters: one per sample.
        crop: S.
        ignore_index: the label of pixels outside the image.
        max_ratio: a crop in which one class has at least this share of the labelled pixels is drawn again.

    Returns:
        images (B, 3, S, S) float32 in 0..255, labels (B, S, S) or (B, C, S, S) int64.
    """
    steps = [crop_to_source(p) for p in parameters]
    levels = [_level(step) for step in steps]
    views = [(_up_to(h, 2**level), _up_to(w, 2**level)) for (h, w), level in zip(sizes, levels, strict=True)]
    frames = map(_frame, parameters, steps, sizes, views, [crop] * len(steps))
    frame = torch.from_numpy(np.stack([*frames])).to(images.device, torch.float32, non_blocking=True)
    sides, places = frame[:, :2], frame[:, 2:]  # (B, 2, 2), (B, K, 2)
    # grid_sample pads with 0, so `ignore_index` has to be 0 while it runs.
    shifted = [labels[row, ..., :h, :w].float().sub_(ignore_index) for row, (h, w) in enumerate(views)]
    first = places[:, 0]
    if max_ratio < 1:
        first = _first_balanced(shifted, sides, places, crop, ignore_index, max_ratio)
    crops = torch.empty(len(views), images.shape[1], crop, crop, device=images.device)
    num_maps = labels.shape[1:-2].numel()  # 1, or C
    crop_labels = torch.empty(len(views), num_maps, crop, crop, dtype=torch.int64, device=images.device)
    for row, (p, (h, w)) in enumerate(zip(parameters, views, strict=True)):
        grid = _grid(sides[row], first[row], _centres(crop, images.device))  # (2, S, S)
        if p.bend_px.any():
            grid += _bend(p, (h, w), crop, images.device)
        source = _low_pass(images[row : row + 1, :, :h, :w].float(), steps[row], levels[row])
        _sample(source, grid, "bilinear", out=crops[row])
        _sample(shifted[row].reshape(1, num_maps, h, w), grid, "nearest", out=crop_labels[row])
    return crops, crop_labels.view(len(views), *labels.shape[1:-2], crop, crop).add_(ignore_index)


def crop_to_source(p: Parameters) -> Array:
    """(2, 2): the linear map from a step in the crop, px, to the step in the source, px.

    The source is scaled, sheared, rotated and mirrored, in this order; this is the inverse.
    """
    cos, sin = math.cos(p.angle_rad), math.sin(p.angle_rad)
    stretch = math.sqrt(p.aspect)
    unscaled = np.diag([1 / (p.scale * stretch), stretch / p.scale])
    x, y = math.tan(p.shear_rad[0]), math.tan(p.shear_rad[1])
    unsheared = np.array([[1 + x * y, x], [y, 1]])  # inverse of [[1, -x], [-y, 1 + x y]], as kornia shears
    unturned = np.array([[cos, -sin], [sin, cos]])
    mirror = np.diag([-1.0 if p.flip else 1.0, 1.0])
    return np.asarray(unscaled @ unsheared @ unturned @ mirror)


def crop_centres(p: Parameters, size: tuple[int, int], crop: int) -> Array:
    """(K, 2): the source point at the centre of the crop, px, for the first position and each redraw."""
    stretch = math.sqrt(p.aspect)
    scale = np.array([p.scale * stretch, p.scale / stretch])
    free = scale * [size[1], size[0]] - crop
    offsets = np.vstack([p.offset, p.redraws])
    return np.asarray((offsets * free + crop * (0.5 + np.array(p.shift))) / scale)


def _frame(p: Parameters, step: Array, size: tuple[int, int], view: tuple[int, int], crop: int) -> Array:
    """(2 + K, 2), in -1..1 of the view: from the crop's centre to its right and its lower side; K centres."""
    to_unit = np.array([2 / view[1], 2 / view[0]])
    sides = step.T * (crop / 2)
    return np.vstack([sides * to_unit, crop_centres(p, size, crop) * to_unit - 1])


def _centres(crop: int, device: torch.device) -> Tensor:
    centres: Tensor = (2 * torch.arange(crop, device=device) + 1) / crop - 1  # (S,), in -1..1
    return centres


def _grid(sides: Tensor, place: Tensor, centres: Tensor) -> Tensor:
    """(2, n, n): x and y, in -1..1 of the source, of each of n x n points of the crop."""
    # Not F.affine_grid: that is a matrix product, which TF32 rounds by a visible fraction of a pixel. x and y
    # are separate planes, which is faster to fill and to read.
    along_x, along_y = (side[:, None] * centres for side in sides)  # (2, n)
    grid: Tensor = (along_x + place[:, None])[:, None] + along_y[:, :, None]
    return grid


def _bend(p: Parameters, view: tuple[int, int], crop: int, device: torch.device) -> Tensor:
    """(2, S, S): the elastic part of the grid; the control points move by pixels of the crop."""
    to_unit = np.array([2 / view[1], 2 / view[0]])[:, None, None]
    field = torch.from_numpy(p.bend_px / p.scale * to_unit).to(device, torch.float32, non_blocking=True)
    bend: Tensor = F.interpolate(field[None], (crop, crop), mode="bicubic", align_corners=True)[0]
    return bend


def _first_balanced(
    shifted: list[Tensor], sides: Tensor, places: Tensor, crop: int, ignore_index: int, max_ratio: float
) -> Tensor:
    """(B, 2): the first position at which every class is below `max_ratio`; the first one if there is none.

    As `cat_max_ratio` of MMSegmentation, which redraws up to ten times. Counted on at most 64 x 64 pixels of
    the crop, before the elastic deformation.
    """
    centres = _centres(crop, places.device)[:: -(-crop // PROBES)]  # (n,)
    found = places.new_empty(*places.shape[:2], len(centres), len(centres))  # (B, K, n, n)
    for row, labels in enumerate(shifted):
        grid = torch.cat([_grid(sides[row], place, centres) for place in places[row]], dim=1)  # (2, K n, n)
        _sample(labels[None, None], grid, "nearest", out=found[row].flatten(0, 1)[None])
    ids = found.flatten(2).add_(ignore_index).long()  # (B, K, n n)
    counts = torch.zeros(*ids.shape[:2], NUM_IDS, device=ids.device)
    counts.scatter_add_(2, ids, torch.ones_like(ids, dtype=counts.dtype))
    counts[..., ignore_index] = 0
    balanced = counts.amax(-1) < max_ratio * counts.sum(-1)  # (B, K)
    choice = balanced.byte().argmax(1)  # of equal values the first
    return places.gather(1, choice[:, None, None].expand(-1, 1, 2))[:, 0]


def _level(step: Array) -> int:
    """The coarsest level of the image pyramid with pixels smaller than a step; each level halves the size."""
    smallest_px = _step_px(step).min()
    return min(MAX_LEVEL, math.ceil(math.log2(smallest_px) - 1e-9) - 1) if smallest_px > 2 else 0


def _step_px(step: Array) -> Array:
    """(2,): how far apart, in x and in y of the source, two pixels of the crop are."""
    distance: Array = np.sqrt((step**2).sum(axis=1))
    return distance


def _low_pass(source: Tensor, step: Array, level: int) -> Tensor:
    """The image (1, 3, h, w) at its pyramid level, low-passed so that reading it bilinearly does not alias.

    It approximates the triangle filter of `F.interpolate(antialias=True)`, whose half-width is one step, by
    three taps: their variance, plus those of the pyramid and of the bilinear interpolation, is that of the
    triangle, step^2 / 6. At half size they are the triangle.
    """
    if level:
        source = F.avg_pool2d(source, 2**level)  # (1, 3, h / 2^level, w / 2^level)
    x_px, y_px = _step_px(step) / 2**level
    pooled = (1 - 4.0**-level) / 12  # variance of the mean over one pyramid pixel
    for dim, step_px in ((3, x_px), (2, y_px)):
        outer = (step_px**2 - 1) / 12 - pooled / 2
        if outer > 1e-4 and source.shape[dim] > 1:
            source = _three_taps(source, min(outer, 1 / 3), dim)
    return source


def _three_taps(source: Tensor, outer: float, dim: int) -> Tensor:
    """Convolve with (outer, 1 - 2 outer, outer) along `dim`, replicating the border pixels."""
    smooth = source * (1 - 2 * outer)
    last = source.shape[dim] - 1
    smooth.narrow(dim, 1, last).add_(source.narrow(dim, 0, last), alpha=outer)
    smooth.narrow(dim, 0, last).add_(source.narrow(dim, 1, last), alpha=outer)
    smooth.narrow(dim, 0, 1).add_(source.narrow(dim, 0, 1), alpha=outer)
    smooth.narrow(dim, last, 1).add_(source.narrow(dim, last, 1), alpha=outer)
    return smooth


def _sample(source: Tensor, grid: Tensor, mode: str, out: Tensor) -> None:
    """Sample (1, C, h, w) at (2, rows, columns), into `out` (C, rows, columns)."""
    # On a CPU, grid_sample runs one thread per image, so the crop is divided into as many strips as threads.
    strips = math.gcd(out.shape[1], torch.get_num_threads()) if grid.device.type == "cpu" else 1
    found = F.grid_sample(
        source.expand(strips, -1, -1, -1),
        grid.view(2, strips, -1, grid.shape[2]).permute(1, 2, 3, 0),  # (strips, rows / strips, columns, 2)
        mode=mode,
        padding_mode="zeros",
        align_corners=False,
    )  # (strips, C, rows / strips, columns)
    out.view(len(out), strips, -1, out.shape[2]).copy_(found.transpose(0, 1))


def _up_to(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
