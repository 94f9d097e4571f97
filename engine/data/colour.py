"""The colours of a batch of crops: one composed change, then blur, grayscale, noise and JPEG as configured.

Pixels are 0..255 and changed in place, because the cost is dominated by passes over memory.

Shapes: B samples of S x S pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import jpeg_codec_differentiable
from kornia.filters import gaussian_blur2d
from torch import Tensor

if TYPE_CHECKING:
    from engine.data.augment import Parameters


def recolour(images: Tensor, parameters: Sequence[Parameters], section: Any) -> Tensor:
    """Change and return `images` (B, 3, S, S) float32 in 0..255; `parameters` holds one entry per sample.

    `section` is the recipe's `augment`: what it turns off is not computed.
    """
    # One sample fits into the cache of a CPU; a GPU is faster with few large launches.
    rows = 1 if images.device.type == "cpu" else len(images)
    for start in range(0, len(images), rows):
        _change(images[start : start + rows], parameters[start : start + rows], section)
    for image, p in zip(images, parameters, strict=True):
        _degrade(image, p)
    return images


def _change(images: Tensor, parameters: Sequence[Parameters], section: Any) -> None:
    def column(name: str) -> Tensor:
        values = torch.tensor([getattr(p, name) for p in parameters], dtype=torch.float32)
        return values.to(images.device, non_blocking=True)[:, None, None]  # (B, 1, 1)

    if section.brightness or section.contrast:
        brightness, contrast = column("brightness")[:, None], column("contrast")[:, None]  # (B, 1, 1, 1)
        images.add_(255 * brightness).clamp_(0, 255).mul_(contrast).clamp_(max=255)
    if section.saturation or section.hue:
        shift_hue_and_saturation(images, column("hue"), column("saturation"))
    if section.blur > 0:
        sigma = torch.tensor([[max(p.blur_px, 1e-3)] * 2 for p in parameters])  # (B, 2)
        images.copy_(gaussian_blur2d(images, 2 * math.ceil(3 * section.blur) + 1, sigma))


def _degrade(image: Tensor, p: Parameters) -> None:
    """Grayscale, noise and JPEG of one image (3, S, S), in place."""
    if p.grayscale:
        image.copy_(rgb_to_grayscale(image).expand_as(image))
    if p.noise > 0:
        generator = torch.Generator(image.device).manual_seed(p.noise_seed)
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        image.add_(noise, alpha=255 * p.noise).clamp_(0, 255)
    if p.jpeg_quality is not None:
        quality = torch.tensor([p.jpeg_quality])  # kornia reads the value on the host, as it does sigma above
        image.copy_(255 * jpeg_codec_differentiable(image[None] / 255, quality)[0])


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
