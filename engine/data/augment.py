"""Augmentation on the device: one warp and one colour change a sample, drawn from (seed, epoch, sample id).

Scale, rotation, flip, crop and elastic deformation are composed into one sampling grid, so each pixel is
interpolated once: bilinear for the image, nearest for the labels. What lies outside the image becomes
`ignore_index`, never class 0, and black before the colour change. Knows nothing of files or of batches'
order.

Shapes: B samples, padded to H x W pixels; S the side of the square crop.
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from kornia.color import hsv_to_rgb, rgb_to_hsv
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional as F

ELASTIC_CELLS = 6  # control points a side of the elastic field
MAX_LEVEL = 3  # of the image pyramid: 1/8; the padding of a batch is a multiple of 2**MAX_LEVEL


@dataclass(frozen=True)
class Parameters:
    """What happens to one sample; `offset` is the crop's place, 0..1 of what is free in x and y."""

    scale: float
    angle_rad: float
    flip: bool
    offset: tuple[float, float]
    brightness: float  # added, of 0..1 pixels
    contrast: float  # factor
    saturation: float  # factor
    hue: float  # added, in turns
    blur_px: float  # sigma
    bend_px: np.ndarray  # (2, ELASTIC_CELLS, ELASTIC_CELLS), displacement at the control points


class Augment:
    """The `augment` section as a function of a padded batch.

    Args:
        section: crop, scale, rotate_deg, flip, brightness, contrast, saturation, hue, blur, elastic.
        seed: of the run.
        ignore_index: the label of what lies outside the image.
    """

    def __init__(self, section, seed: int, ignore_index: int):
        self.section = section
        self.seed = seed
        self.ignore_index = ignore_index

    def parameters(self, id: str, epoch: int) -> Parameters:
        """A pure function of (seed, epoch, id): no generator is shared, so order does not matter."""
        rng = np.random.default_rng([self.seed, epoch, zlib.crc32(id.encode())])
        s = self.section

        def around(centre: float, reach: float) -> float:
            return centre + reach * rng.uniform(-1, 1)

        return Parameters(
            scale=rng.uniform(*s.scale),
            angle_rad=math.radians(around(0, s.rotate_deg)),
            flip=rng.uniform() < s.flip,
            offset=(rng.uniform(), rng.uniform()),
            brightness=around(0, s.brightness),
            contrast=around(1, s.contrast),
            saturation=around(1, s.saturation),
            hue=around(0, s.hue),
            blur_px=rng.uniform(0, s.blur),
            bend_px=s.elastic * rng.uniform(-1, 1, (2, ELASTIC_CELLS, ELASTIC_CELLS)),
        )

    def __call__(
        self, images: Tensor, labels: Tensor, sizes: list[tuple[int, int]], parameters: list[Parameters]
    ) -> tuple[Tensor, Tensor]:
        """Warp and colour a batch.

        Args:
            images: (B, 3, H, W) uint8, each in the upper left of its padding; H and W multiples of 8.
            labels: (B, H, W) uint8, padded with `ignore_index`.
            sizes: (h, w) of each image inside its padding.
            parameters: one a sample.

        Returns:
            images (B, 3, S, S) float32 in 0..255, labels (B, S, S) int64.
        """
        grid = self._grid(images, sizes, parameters)  # (B, S, S, 2)
        warped = _sample_images(images, grid, parameters)
        return self._colour(warped, parameters), self._sample_labels(labels, grid)

    def _grid(self, images: Tensor, sizes: list[tuple[int, int]], parameters: list[Parameters]) -> Tensor:
        crop = self.section.crop
        H, W = images.shape[-2:]
        matrices = [_crop_to_source(p, size, crop, (H, W)) for p, size in zip(parameters, sizes, strict=True)]
        theta = torch.from_numpy(np.stack(matrices)).to(images.device, torch.float32, non_blocking=True)
        theta = theta[:, None, None]  # (B, 1, 1, 2, 3)
        # Not F.affine_grid: that is a matrix product, which TF32 rounds by a visible part of a pixel.
        centres = (2 * torch.arange(crop, device=images.device) + 1) / crop - 1  # (S,), in -1..1
        x, y = centres[:, None], centres[:, None, None]
        grid = x * theta[..., 0] + y * theta[..., 1] + theta[..., 2]  # (B, S, S, 2)
        if self.section.elastic > 0:
            bends = np.stack([p.bend_px / p.scale for p in parameters])  # in source pixels
            field = torch.from_numpy(bends).to(images.device, torch.float32)
            field = F.interpolate(field, (crop, crop), mode="bicubic", align_corners=True)  # (B, 2, S, S)
            grid = grid + field.permute(0, 2, 3, 1) * grid.new_tensor([2 / W, 2 / H])
        return grid

    def _sample_labels(self, labels: Tensor, grid: Tensor) -> Tensor:
        # grid_sample reads 0 outside, so void has to be 0 while it runs.
        shifted = labels[:, None].float() - self.ignore_index  # (B, 1, H, W)
        sampled = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        return (sampled[:, 0] + self.ignore_index).long()  # (B, S, S)

    def _colour(self, images: Tensor, parameters: list[Parameters]) -> Tensor:
        s = self.section

        def column(name: str) -> Tensor:
            values = torch.tensor([getattr(p, name) for p in parameters], dtype=torch.float32)
            return values.to(images.device, non_blocking=True).view(-1, 1, 1, 1)

        x = images / 255
        if s.brightness or s.contrast:
            x = ((x + column("brightness")).clamp(0, 1) * column("contrast")).clamp(0, 1)
        if s.saturation or s.hue:
            hue, saturation, value = rgb_to_hsv(x).split(1, dim=1)  # hue in 0..2 pi
            hue = (hue + 2 * math.pi * column("hue")) % (2 * math.pi)
            x = hsv_to_rgb(torch.cat([hue, (saturation * column("saturation")).clamp(0, 1), value], dim=1))
        if s.blur > 0:
            sigma = column("blur_px").flatten().clamp(min=1e-3)
            x = gaussian_blur2d(x, 2 * math.ceil(3 * s.blur) + 1, sigma[:, None].expand(-1, 2))
        return x * 255


def _crop_to_source(p: Parameters, size: tuple[int, int], crop: int, padded: tuple[int, int]) -> np.ndarray:
    """(2, 3): takes a point of the crop to a point of the padded source, both in -1..1 (align_corners=False).

    Read from right to left: crop pixels around the crop's centre, mirrored, turned, moved to the crop's place
    in the scaled image, scaled back, and divided by the padded size.
    """
    (h, w), (H, W) = size, padded
    centre = [p.offset[0] * (p.scale * w - crop) + crop / 2, p.offset[1] * (p.scale * h - crop) + crop / 2]
    cos, sin = math.cos(p.angle_rad), math.sin(p.angle_rad)
    turn = np.array([[cos, -sin], [sin, cos]]) * (crop / 2)
    mirror = np.diag([-1.0 if p.flip else 1.0, 1.0])
    to_unit = np.diag([2 / W, 2 / H]) / p.scale
    return np.column_stack([to_unit @ turn @ mirror, to_unit @ centre - 1])


def _sample_images(images: Tensor, grid: Tensor, parameters: list[Parameters]) -> Tensor:
    """(B, 3, S, S) float32, each image read from the pyramid level that its downscaling asks for."""
    levels = [min(MAX_LEVEL, max(0, round(-math.log2(p.scale)))) for p in parameters]
    sampled = grid.new_empty(len(levels), images.shape[1], *grid.shape[1:3])
    for level in set(levels):
        rows = [row for row, own in enumerate(levels) if own == level]
        source = F.avg_pool2d(images[rows].float(), 2**level)  # (n, 3, H / 2^level, W / 2^level)
        # The grid counts in -1..1, so it fits every level as it is.
        sampled[rows] = F.grid_sample(
            source, grid[rows], mode="bilinear", padding_mode="zeros", align_corners=False
        )
    return sampled
