"""Augmentation on the device: a warp and a colour change per sample, drawn from (seed, epoch, sample id).

Shapes: B samples, S x S pixels of a crop.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import jpeg_codec_differentiable
from kornia.filters import gaussian_blur2d
from numpy.typing import NDArray
from torch import Tensor

from engine.data.bands import RGB, Bands, colour_bands
from engine.data.warp import warp

ELASTIC_CELLS = 6  # control points per side of the elastic field
REDRAWS = 10  # of a crop that one class fills, as in MMSegmentation
JPEG_QUALITY = (30, 95)  # above, nothing is visible; below, small objects disappear
NO_BEND = (2, ELASTIC_CELLS, ELASTIC_CELLS)


@dataclass(frozen=True)
class Parameters:
    """The change of one sample; the defaults change nothing.

    Lengths are pixels of the crop, so they do not depend on `scale`.
    """

    scale: float = 1.0
    aspect: float = 1.0  # factor on width / height
    angle_rad: float = 0.0
    shear_rad: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)  # of the crop, as a share of its side
    flip: bool = False
    offset: tuple[float, float] = (0.0, 0.0)  # place of the crop, 0..1 of the free range in x and y
    redraws: NDArray[np.float64] = field(default_factory=lambda: np.zeros((REDRAWS, 2)))  # further offsets
    bend_px: NDArray[np.float64] = field(default_factory=lambda: np.zeros(NO_BEND))  # (2, cells, cells)
    brightness: float = 0.0  # added, to pixels in 0..1
    contrast: float = 1.0  # factor
    saturation: float = 1.0  # factor
    hue: float = 0.0  # added, in turns
    blur_px: float = 0.0  # sigma
    grayscale: bool = False
    noise: float = 0.0  # sigma, for pixels in 0..1
    noise_seed: int = 0
    jpeg_quality: float | None = None  # 1..100; None is uncompressed


class Augment:
    """The `augment` section as a function of a padded batch.

    Args:
        section: every key of it but cutmix, classmix, mosaic and copy_paste.
        seed: of the run.
        ignore_index: the label of pixels outside the image.
        bands: of data.bands; colours change in those named red, green and blue, or grey, alone.
    """

    def __init__(self, section: Any, seed: int, ignore_index: int, bands: Bands = None):
        self.section = section
        self.colours = None if bands in (None, RGB) else colour_bands(bands)
        self.seed = seed
        self.ignore_index = ignore_index

    def parameters(self, id: str, epoch: int, host: str = "") -> Parameters:
        """A pure function of (seed, epoch, id, host), so the order of calls does not matter.

        Args:
            id, epoch: of the sample.
            host: for a sample that is pasted onto another one, the id of that other one and the layer, so
                that a sample that is used twice in an epoch is changed differently each time.
        """
        texts = [text for text in (id, host) if text]
        rng = np.random.default_rng([self.seed, epoch, *(zlib.crc32(text.encode()) for text in texts)])
        s = self.section

        def around(centre: float, reach: float) -> float:
            return centre + reach * rng.uniform(-1, 1)

        # New keys draw after the old ones: a recipe without them must train on the same crops as before.
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
            bend_px=s.elastic * rng.uniform(-1, 1, NO_BEND),
            aspect=math.exp(around(0, math.log(s.aspect))),
            shear_rad=(math.radians(around(0, s.shear_deg)), math.radians(around(0, s.shear_deg))),
            shift=(around(0, s.translate), around(0, s.translate)),
            redraws=rng.uniform(size=(REDRAWS, 2)),
            grayscale=rng.uniform() < s.grayscale,
            noise=rng.uniform(0, s.noise),
            noise_seed=int(rng.integers(2**63)),
            jpeg_quality=_quality(rng, s.jpeg),
        )

    def __call__(
        self, images: Tensor, labels: Tensor, sizes: list[tuple[int, int]], parameters: list[Parameters]
    ) -> tuple[Tensor, Tensor]:
        """Warp and recolour a batch of B samples, padded to H x W px; S is the side of the crop.

        Args:
            images: (B, n, H, W) uint8, each in the upper left of its padding; H and W multiples of 8.
            labels: (B, H, W) uint8, or (B, C, H, W), padded with `ignore_index`.
            sizes: (h, w) of each image inside its padding.
            parameters: one per sample.

        Returns:
            images (B, n, S, S) float32 in 0..255, labels (B, S, S) or (B, C, S, S) int64.
        """
        s = self.section
        images, labels = warp(
            images, labels, sizes, parameters, s.crop, self.ignore_index, s.category_max_ratio
        )
        return recolour(images, parameters, s, self.colours), labels


def _quality(rng: np.random.Generator, share: float) -> float | None:
    quality = rng.uniform(*JPEG_QUALITY)
    return quality if rng.uniform() < share else None


def recolour(
    images: Tensor, parameters: Sequence[Parameters], section: Any, colours: list[int] | None = None
) -> Tensor:
    """Change and return `images` (B, n, S, S) float32 in 0..255; `parameters` holds one entry per sample.

    In place, because the cost is dominated by passes over memory.

    Args:
        section: the recipe's `augment`: what it turns off is not computed.
        colours: the bands that are red, green and blue, or the one that is grey; None: the images are RGB.
            Blur and noise change all bands, all else these alone.
    """
    # One sample fits into the cache of a CPU; a GPU is faster with few large launches.
    rows = 1 if images.device.type == "cpu" else len(images)
    for start in range(0, len(images), rows):
        _change(images[start : start + rows], parameters[start : start + rows], section, colours)
    for image, p in zip(images, parameters, strict=True):
        _degrade(image, p, colours)
    return images


@contextmanager
def _photo(images: Tensor, colours: list[int] | None) -> Iterator[Tensor]:
    """The colours of `images` (B, n, S, S) as RGB (B, 3, S, S), to be changed in place; grey three times."""
    if not colours:  # RGB, or there is no colour to change
        yield images
        return
    photo = images[:, colours].repeat(1, 3 // len(colours), 1, 1)
    yield photo
    images[:, colours] = photo[:, : len(colours)]


def _change(
    images: Tensor, parameters: Sequence[Parameters], section: Any, colours: list[int] | None
) -> None:
    def column(name: str) -> Tensor:
        values = torch.tensor([getattr(p, name) for p in parameters], dtype=torch.float32)
        return values.to(images.device, non_blocking=True)[:, None, None]  # (B, 1, 1)

    with _photo(images, colours) as photo:  # (B, 3, S, S)
        if section.brightness or section.contrast:
            brightness, contrast = column("brightness")[:, None], column("contrast")[:, None]  # (B, 1, 1, 1)
            photo.add_(255 * brightness).clamp_(0, 255).mul_(contrast).clamp_(max=255)
        if section.saturation or section.hue:
            shift_hue_and_saturation(photo, column("hue"), column("saturation"))
    if section.blur > 0:
        sigma = torch.tensor([[max(p.blur_px, 1e-3)] * 2 for p in parameters])  # (B, 2)
        images.copy_(gaussian_blur2d(images, 2 * math.ceil(3 * section.blur) + 1, sigma))


def _degrade(image: Tensor, p: Parameters, colours: list[int] | None) -> None:
    """Grayscale, noise and JPEG of one image (n, S, S), in place."""
    if p.grayscale:
        with _photo(image[None], colours) as photo:
            photo.copy_(rgb_to_grayscale(photo).expand_as(photo))
    if p.noise > 0:
        generator = torch.Generator(image.device).manual_seed(p.noise_seed)
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        image.add_(noise, alpha=255 * p.noise).clamp_(0, 255)
    if p.jpeg_quality is not None:
        quality = torch.tensor([p.jpeg_quality])  # kornia reads the value on the host, as it does sigma above
        with _photo(image[None], colours) as photo:
            photo.copy_(255 * jpeg_codec_differentiable(photo / 255, quality))


def shift_hue_and_saturation(images: Tensor, hue: Tensor, saturation: Tensor) -> None:
    """kornia's adjust_saturation followed by adjust_hue, in place and without the HSV planes in between.

    Args:
        images: (B, 3, S, S), not negative.
        hue: (B, 1, 1), added, in turns, -1..1.
        saturation: (B, 1, 1), factor, not negative.

    With the largest channel v, the spread s v between the channels, and the hue on a circle of six, red is
    v - s v (2 - |hue - 3|), green v - s v (|hue - 2| - 1), blue v - s v (|hue - 4| - 1), where each factor is
    clamped to 0..1. So saturation scales the spread, up to v, and hue is added.
    """
    red, green, blue = images.unbind(1)  # views
    value, lowest = torch.maximum(red, green), torch.minimum(red, green)
    torch.maximum(value, blue, out=value)
    spread = value - torch.minimum(lowest, blue, out=lowest)

    # The hue, times the spread, from the largest channel. lerp with weight 0 or 1 selects; torch.where is
    # 20 times slower.
    h = green - blue
    leads, other = torch.empty_like(h), lowest
    torch.eq(green, value, out=leads)
    h.lerp_(torch.sub(blue, red, out=other).add_(spread, alpha=2), leads)
    torch.eq(blue, value, out=leads)
    h.lerp_(torch.sub(red, green, out=other).add_(spread, alpha=4), leads)
    h.div_(spread.clamp_(min=1e-6))  # -1..5; 0 for grey
    torch.add(hue % 1 + 1, h, alpha=1 / 6, out=h).frac_()  # in turns; frac is cheaper than remainder
    torch.minimum(spread.mul_(saturation), value, out=spread)

    largest = torch.add(value, spread, out=lowest)
    smallest = value.sub_(spread, alpha=2)
    for channel, turn, start, sign in (
        (red, 3, smallest, 6),
        (green, 2, largest, -6),
        (blue, 4, largest, -6),
    ):
        near = torch.sub(h, turn / 6, out=channel).abs_().clamp_(1 / 6, 2 / 6)
        torch.addcmul(start, spread, near, value=sign, out=channel)
