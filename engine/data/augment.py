"""Augmentation on the device: a warp and a colour change per sample, drawn from (seed, epoch, sample id).

Shapes: B samples, S x S pixels of a crop.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.bands import RGB, Bands, colour_bands
from engine.data.warp import Choice, one_by_one, warp

ELASTIC_CELLS = 6  # control points per side of the elastic field
REDRAWS = 10  # of a crop, as in MMSegmentation
TURNS = (3 / 6, 2 / 6, 4 / 6)  # on the circle of hues, from where red, green and blue depend on the distance
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

    def at(self, step: int) -> Self:
        """The augmentation of an update, counted from 0: its crop, and all lengths in proportion to that.

        `progressive` is in steps.
        """
        s = self.section
        crop = next((smaller.crop for smaller in s.progressive if step < smaller.until), None)
        if crop is None:
            return self
        share = crop / s.crop
        lengths = {"scale": [share * scale for scale in s.scale], "blur": share * s.blur}
        own = copy(self)
        own.section = s.model_copy(update={"crop": crop, "elastic": share * s.elastic, **lengths})
        return own

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
        sought = () if isinstance(s.crop_on, str) else s.crop_on  # rare becomes ids when a training starts
        choice = Choice(s.category_max_ratio, sought)
        images, labels = warp(images, labels, sizes, parameters, s.crop, self.ignore_index, choice)
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
    if one_by_one(images):
        for row, p in enumerate(parameters):
            _change(images[row : row + 1], [p], section, colours)
    else:
        _change(images, parameters, section, colours)
    for row, p in enumerate(parameters):
        _degrade(images, row, p, colours)
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
    added, factor, hue, saturation, grey, turns = _columns(parameters, images.device)
    with _photo(images, colours) as photo:  # (B, 3, S, S)
        if section.brightness or section.contrast:
            photo.add_(added).clamp_(0, 255).mul_(factor).clamp_(max=255)
        if section.saturation or section.hue:
            shift_hue_and_saturation(photo, hue, saturation, turns)
    if section.blur > 0:
        from kornia.filters import gaussian_blur2d  # here and below: kornia takes 0.4 s to import

        sigma = torch.tensor([[max(p.blur_px, 1e-3)] * 2 for p in parameters])  # (B, 2)
        images.copy_(gaussian_blur2d(images, 2 * math.ceil(3 * section.blur) + 1, sigma))
    if any(p.grayscale for p in parameters):
        from kornia.color import rgb_to_grayscale

        with _photo(images, colours) as photo:
            photo.lerp_(rgb_to_grayscale(photo), grey)


def _columns(parameters: Sequence[Parameters], device: torch.device) -> tuple[Tensor, ...]:
    """What is added, the factor, hue, saturation and share of grey, (B, 1, 1, 1), and TURNS, (B, 3, 1, 1)."""
    rows = [
        [255 * p.brightness, p.contrast, np.float32(p.hue) % 1 + 1, p.saturation, p.grayscale, *TURNS]
        for p in parameters
    ]  # fmt: skip
    table = torch.from_numpy(np.array(rows, np.float32)[:, :, None, None])
    return table.to(device, non_blocking=True).split_with_sizes([1, 1, 1, 1, 1, 3], dim=1)


def _degrade(images: Tensor, row: int, p: Parameters, colours: list[int] | None) -> None:
    """Noise and JPEG of one of the images (B, n, S, S), in place."""
    if p.noise > 0:
        generator = torch.Generator(images.device).manual_seed(p.noise_seed)
        noise = torch.randn(images.shape[1:], generator=generator, device=images.device)
        images[row].add_(noise, alpha=255 * p.noise).clamp_(0, 255)
    if p.jpeg_quality is not None:
        from kornia.enhance import jpeg_codec_differentiable

        quality = torch.tensor([p.jpeg_quality])  # kornia reads the value on the host, as it does sigma above
        with _photo(images[row : row + 1], colours) as photo:
            photo.copy_(255 * jpeg_codec_differentiable(photo / 255, quality))


def shift_hue_and_saturation(images: Tensor, hue: Tensor, saturation: Tensor, turns: Tensor) -> None:
    """kornia's adjust_saturation followed by adjust_hue, in place and without the HSV planes in between.

    Args:
        images: (B, 3, S, S), not negative.
        hue: (B, 1, 1, 1), added, in turns, 0..2.
        saturation: (B, 1, 1, 1), factor, not negative.
        turns: (B, 3, 1, 1), TURNS.

    With the largest channel v, the spread s v between the channels, and the hue on a circle of six, red is
    v - s v (2 - |hue - 3|), green v - s v (|hue - 2| - 1), blue v - s v (|hue - 4| - 1), where each factor is
    clamped to 0..1. So saturation scales the spread, up to v, and hue is added.
    """
    red, green, blue = images.chunk(3, dim=1)  # (B, 1, S, S) each, views
    value, lowest = images.amax(1, keepdim=True), images.amin(1, keepdim=True)  # faster than aminmax
    spread = value - lowest

    # The hue, times the spread, from the largest channel. lerp with weight 0 or 1 selects; torch.where is
    # 20 times slower.
    h = green - blue
    leads, other = torch.empty_like(h), lowest
    torch.eq(green, value, out=leads)
    h.lerp_(torch.sub(blue, red, out=other).add_(spread, alpha=2), leads)
    torch.eq(blue, value, out=leads)
    h.lerp_(torch.sub(red, green, out=other).add_(spread, alpha=4), leads)
    h.div_(spread.clamp_(min=1e-6))  # -1..5; 0 for grey
    torch.add(hue, h, alpha=1 / 6, out=h).frac_()  # in turns; frac is cheaper than remainder
    torch.minimum(spread.mul_(saturation), value, out=spread)

    largest = torch.add(value, spread, out=lowest)
    smallest = value.sub_(spread, alpha=2)
    torch.sub(h, turns, out=images).abs_().clamp_(1 / 6, 2 / 6)
    for channel, start, sign in ((red, smallest, 6), (green, largest, -6), (blue, largest, -6)):
        torch.addcmul(start, spread, channel, value=sign, out=channel)
