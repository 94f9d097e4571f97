"""The geometric augmentation: one sampling grid per sample, so that each pixel is interpolated once.

Scale, aspect, shear, rotation, flip, crop position and elastic deformation are composed into one grid; the
image is sampled bilinearly, the labels with nearest neighbour. Outside the image, pixels are black and labels
are `ignore_index`, never class 0. Each sample is read within its own size, so neither the other samples of
the batch nor their padding change the result.

Shapes: B samples, padded to H x W pixels; S the side of the square crop; K candidate crop positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
PARTS_OF_A_PX = 8192  # positions are multiples of 1 / this, which float32 holds exactly in a grid of a batch


def warp(
    images: Tensor,
    labels: Tensor,
    sizes: Sequence[tuple[int, int]],
    parameters: Sequence[Parameters],
    crop: int,
    ignore_index: int,
    choice: Choice | None = None,
) -> tuple[Tensor, Tensor]:
    """Crops of a batch. Nothing here synchronises with the device.

    A sample has the same bits in every batch; on other devices than a CPU, where H and W are at most 4096.

    Args:
        images: (B, 3, H, W) uint8, each in the upper left of its padding; H and W multiples of 8.
        labels: (B, H, W) uint8, or (B, C, H, W), padded with `ignore_index`.
        sizes: (h, w) of each image inside its padding.
        parameters: one per sample.
        crop: S.
        ignore_index: the label of pixels outside the image.
        choice: which position of each crop is taken; None: the first.

    Returns:
        images (B, 3, S, S) float32 in 0..255, labels (B, S, S) or (B, C, S, S) int64.
    """
    views = [View(p, size) for p, size in zip(parameters, sizes, strict=True)]
    void = float(ignore_index)
    if not one_by_one(images):
        # Padded to powers of two: positions in pixels are exact in -1..1, however large other samples are.
        height, width = ((1 << (length - 1).bit_length()) - length for length in images.shape[2:])
        canvas, shifted = F.pad(images, (0, width, 0, height)), F.pad(labels - void, (0, width, 0, height))
        crops, crop_labels = _crops(canvas.float(), shifted, views, crop, void, choice)
        return crops, crop_labels.long()
    crops = torch.empty(len(views), images.shape[1], crop, crop)
    crop_labels = torch.empty(*labels.shape[:-2], crop, crop, dtype=torch.int64)
    for row, view in enumerate(views):
        h, w = view.size
        image, shifted = images[row : row + 1, :, :h, :w].float(), labels[row : row + 1, ..., :h, :w] - void
        crops[row], crop_labels[row] = _crops(image, shifted, [view], crop, void, choice)
    return crops, crop_labels


def one_by_one(images: Tensor) -> bool:
    """Whether samples are processed one after the other, as on a CPU, whose cache holds one.

    Other devices are faster with few large operations.
    """
    return images.device.type == "cpu"


@dataclass(frozen=True)
class Choice:
    """Which position of a crop is taken, of the first and the redraws.

    max_ratio: prefer a position at which every class has less than this share of the labelled pixels.
    sought: class ids, of which the first that the image has is sought: prefer a position that shows at least
        half as many pixels of it as any other position (compare rare class sampling, arXiv 2111.14887).

    `sought` takes precedence over `max_ratio`. Of positions that are equally good the first is taken.
    """

    max_ratio: float = 1.0
    sought: Sequence[int] = ()

    def __bool__(self) -> bool:
        return self.max_ratio < 1 or bool(self.sought)


class View:
    """The geometry of one sample: the part of its image that it shows.

    Attributes:
        step: (2, 2): from a step in the crop, px, to the step in the source, px.
        level: of the image pyramid, from which the image is read.
        size: (h, w) of the image, rounded up to pixels of that level.
        parameters, image_size: as given.
    """

    def __init__(self, parameters: Parameters, image_size: tuple[int, int]):
        self.parameters, self.image_size = parameters, image_size
        self.step = crop_to_source(parameters)
        self.level = _level(self.step)
        self.size = tuple(-(-length >> self.level) << self.level for length in image_size)

    def outer_tap(self, axis: int) -> float:
        """The weight of either neighbour in the low-pass filter along x (0) or y (1), at the level.

        It approximates the triangle filter of `F.interpolate(antialias=True)`, whose half-width is one step,
        by three taps: their variance, plus those of the pyramid and of the bilinear interpolation, is that
        of the triangle, step^2 / 6. At half size they are the triangle.
        """
        step_px = _step_px(self.step)[axis] / 2**self.level
        pooled = (1 - 4.0**-self.level) / 12  # variance of the mean over one pyramid pixel
        outer = (step_px**2 - 1) / 12 - pooled / 2
        alone = self.image_size[1 - axis] <= 2**self.level  # one pixel has no neighbours
        return 0.0 if outer <= 1e-4 or alone else float(min(outer, 1 / 3))


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


def _level(step: Array) -> int:
    """The coarsest level of the image pyramid with pixels smaller than a step; each level halves the size."""
    smallest_px = _step_px(step).min()
    return min(MAX_LEVEL, math.ceil(math.log2(smallest_px) - 1e-9) - 1) if smallest_px > 2 else 0


def _step_px(step: Array) -> Array:
    """(2,): how far apart, in x and in y of the source, two pixels of the crop are."""
    distance: Array = np.sqrt((step**2).sum(axis=1))
    return distance


def _crops(
    images: Tensor, shifted: Tensor, views: list[View], crop: int, void: float, choice: Choice | None
) -> tuple[Tensor, Tensor]:
    """The crops, as float, of images (B, n, H, W) and of labels (B, H, W) or (B, C, H, W) minus `void`.

    grid_sample pads with 0, so void has to be 0 while it runs. `images` may be overwritten.
    """
    maps = shifted if shifted.ndim == 4 else shifted[:, None]  # (B, C, H, W)
    taken = _take(maps, views, crop, int(void), choice) if choice else None
    grid = _grid(views, crop, maps, [0] * len(views), taken)
    found = _sample(maps, grid, "nearest").add_(void)  # (B, C, S, S)
    levels = [view.level for view in views]
    if any(levels):
        images = _pyramid(images, levels)
    if any(levels) and not one_by_one(images):
        grid = _grid(views, crop, images, levels, taken)
    crops = _sample(_low_pass(images, views), grid, "bilinear")
    return crops, found if shifted.ndim == 4 else found[:, 0]


def _grid(views: list[View], crop: int, canvas: Tensor, levels: list[int], choice: Tensor | None) -> Tensor:
    """(B, S, S, 2): the grid of `F.grid_sample`, x and y in -1..1 of a canvas (B, n, H, W).

    Args:
        levels: of the image pyramid, at which the images in the canvas are.
        choice: (B,), the index of the position that is taken of each crop; None: the first.
    """
    # Not F.affine_grid: that is a matrix product, which TF32 rounds by a visible fraction of a pixel. x and y
    # are separate planes, which is faster to fill and to read.
    columns, rows = _lines(views, crop, canvas, levels, all_places=choice is not None)
    if choice is not None:
        columns, rows = columns[torch.arange(len(choice), device=choice.device), choice], rows[:, 0]
    grid = columns + rows
    bend = None
    if any(view.parameters.bend_px.any() for view in views):
        bend = _bend(views, crop, canvas, levels)
    if one_by_one(canvas):
        return (grid if bend is None else grid.add_(bend)).permute(0, 2, 3, 1)
    if bend is not None:
        part = _on_device(_per_px(canvas)[:, 0, 0] / PARTS_OF_A_PX, canvas)
        grid.add_(bend.permute(0, 2, 3, 1)).div_(part).round_().mul_(part)
    return grid.sub_(1)


def _lines(
    views: list[View], crop: int, canvas: Tensor, levels: list[int], all_places: bool
) -> tuple[Tensor, Tensor]:
    """The grid as a sum: x and y of each column on the middle row of the crop, and what each row adds.

    On a CPU in -1..1 of the canvas, as (B, K, 2, 1, S) and (B, 1, 2, S, 1): x and y are separate planes,
    which are faster to fill and to read. On other devices in 0..2, rounded to PARTS_OF_A_PX, as
    (B, K, 1, S, 2) and (B, 1, S, 1, 2). K and the 1 in its place are there with `all_places` only.
    """
    places = [crop_centres(view.parameters, view.image_size, crop) for view in views]
    middles = np.stack(places if all_places else [place[0] for place in places])  # (B, K, 2) or (B, 2)
    sides = np.stack([view.step for view in views]) * (crop / 2)  # (B, 2, 2)
    if all_places:
        sides = sides[:, None]
    precision: type[np.floating[Any]] = np.float32
    if one_by_one(canvas):
        unit, origin = _per_px(canvas), 1
    else:
        parts = PARTS_OF_A_PX / 2.0 ** np.array(levels)
        unit, origin, precision = parts.reshape(-1, *[1] * (middles.ndim + 1)), 0, np.float64
    middle = (middles[..., None, None] * unit - origin).astype(precision)
    right, down = ((sides[..., axis, None, None] * unit).astype(precision) for axis in (0, 1))
    steps = (2 * np.arange(crop, dtype=precision) + 1) / crop - 1  # (S,), in -1..1 of the crop
    columns, rows = middle + right * steps, down * steps[:, None]
    if not one_by_one(canvas):
        to_canvas = _per_px(canvas) / PARTS_OF_A_PX
        columns, rows = (np.moveaxis(np.rint(line) * to_canvas, -3, -1) for line in (columns, rows))
    return _on_device(columns, canvas), _on_device(rows, canvas)


def _per_px(canvas: Tensor) -> Array:
    """(2, 1, 1): width and height of a pixel in the grid of a canvas (B, n, H, W), of sides of 2."""
    return 2 / np.array([canvas.shape[3], canvas.shape[2]])[:, None, None]


def _on_device(values: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(like.device, non_blocking=True)


def _bend(views: list[View], crop: int, canvas: Tensor, levels: list[int]) -> Tensor:
    """(B, 2, S, S): the elastic part of the grid; the control points move by pixels of the crop."""
    fields = [
        v.parameters.bend_px / v.parameters.scale / 2**level for v, level in zip(views, levels, strict=True)
    ]
    field = _on_device(np.stack(fields) * _per_px(canvas), canvas)  # (B, 2, cells, cells)
    return F.interpolate(field, (crop, crop), mode="bicubic", align_corners=True)


def _take(maps: Tensor, views: list[View], crop: int, ignore_index: int, choice: Choice) -> Tensor:
    """(B,): the index of the position that is taken of each crop.

    MMSegmentation redraws for `cat_max_ratio` up to ten times, too. Classes are counted on at most 64 x 64
    pixels of the crop, before the elastic deformation.

    Args:
        maps: (B, 1, H, W), labels minus `ignore_index`.
    """
    columns, rows = _lines(views, crop, maps, [0] * len(views), all_places=True)
    every = -(-crop // PROBES)
    if one_by_one(maps):
        grid = (columns[..., ::every] + rows[..., ::every, :]).movedim(2, -1)  # (B, K, n, n, 2)
    else:
        grid = (columns[..., ::every, :] + rows[:, :, ::every]).sub_(1)
    grid = grid.flatten(1, 2)  # (B, K n, n, 2)
    ids = _sample(maps, grid, "nearest").view(*columns.shape[:2], -1).add_(ignore_index).long()  # (B, K, n n)
    counts = torch.zeros(*ids.shape[:2], NUM_IDS, device=ids.device)
    counts.scatter_add_(2, ids, torch.ones_like(ids, dtype=counts.dtype))
    counts[..., ignore_index] = 0
    good = torch.zeros(counts.shape[:2], device=counts.device)  # (B, K)
    if choice.max_ratio < 1:
        good += counts.amax(-1) < choice.max_ratio * counts.sum(-1)
    if choice.sought:
        sought = torch.tensor(choice.sought).to(ids.device, non_blocking=True)
        there = torch.zeros(len(maps), NUM_IDS, device=ids.device)
        there.scatter_(1, maps.flatten(1).add(ignore_index).long(), 1)
        first = sought[there[:, sought].argmax(1)]  # (B,) of classes; where none is there, any
        seen = counts.gather(2, first[:, None, None].expand(-1, counts.shape[1], 1))[..., 0]  # (B, K)
        good += 2 * (2 * seen >= seen.amax(1, keepdim=True))
    return good.argmax(1)  # of equal values the first


def _pyramid(images: Tensor, levels: list[int]) -> Tensor:
    """Each of the images (B, n, H, W) at its level, in the upper left of the result."""
    if len(set(levels)) == 1:
        return F.avg_pool2d(images, 2 ** levels[0])  # (B, n, H / 2^level, W / 2^level)
    found = images
    for level in {*levels} - {0}:
        pooled = F.avg_pool2d(images, 2**level)
        height, width = (whole - part for whole, part in zip(images.shape[2:], pooled.shape[2:], strict=True))
        chosen = torch.tensor([own == level for own in levels]).to(images.device, non_blocking=True)
        found = torch.where(chosen[:, None, None, None], F.pad(pooled, (0, width, 0, height)), found)
    return found


def _low_pass(images: Tensor, views: list[View]) -> Tensor:
    """Low-pass filters images (B, n, H, W) at their levels, so that sampling them bilinearly does not alias.

    The filter has three taps, along x and then along y, and replicates the border pixels. In a batch, whose
    images have different sizes, it is computed in place by pairs of neighbours, both inside the image: the
    outer tap times their difference is added to one and subtracted from the other.
    """
    for axis, dim in ((0, 3), (1, 2)):
        taps = np.array([view.outer_tap(axis) for view in views])
        if taps.any() and one_by_one(images):
            images = _three_taps(images, taps[0], dim)
        elif taps.any():
            num = images.shape[dim] - 1
            left, right = images.narrow(dim, 0, num), images.narrow(dim, 1, num)
            lasts = np.array([(view.size[dim - 2] >> view.level) - 1 for view in views])
            weights = np.where(np.arange(num) < lasts[:, None], taps[:, None], 0)  # (B, num)
            shares = _on_device(np.expand_dims(weights, (1, 5 - dim)), images)  # along `dim` of (B, n, H, W)
            difference = right - left
            left.addcmul_(difference, shares)
            right.addcmul_(difference, shares, value=-1)
    return images


def _three_taps(source: Tensor, outer: float, dim: int) -> Tensor:
    """Convolve with (outer, 1 - 2 outer, outer) along `dim`, replicating the border pixels."""
    smooth = source * (1 - 2 * outer)
    last = source.shape[dim] - 1
    smooth.narrow(dim, 1, last).add_(source.narrow(dim, 0, last), alpha=outer)
    smooth.narrow(dim, 0, last).add_(source.narrow(dim, 1, last), alpha=outer)
    smooth.narrow(dim, 0, 1).add_(source.narrow(dim, 0, 1), alpha=outer)
    smooth.narrow(dim, last, 1).add_(source.narrow(dim, last, 1), alpha=outer)
    return smooth


def _sample(source: Tensor, grid: Tensor, mode: str) -> Tensor:
    """(B, C, h, w) at the places (B, rows, columns, 2): (B, C, rows, columns)."""
    # On a CPU, grid_sample runs one thread per image, so the crop is divided into as many strips as threads.
    strips = math.gcd(grid.shape[1], torch.get_num_threads()) if one_by_one(source) else 1
    if strips > 1:
        source = source.expand(strips, -1, -1, -1)
        grid = grid.view(strips, -1, *grid.shape[2:])  # (strips, rows / strips, columns, 2)
    found = F.grid_sample(source, grid, mode=mode, padding_mode="zeros", align_corners=False)
    return found.transpose(0, 1).flatten(1, 2)[None] if strips > 1 else found
