"""Augmentation on the device: a warp and a colour change per sample, drawn from (seed, epoch, sample id)."""

import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.data.colour import recolour
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
    """

    def __init__(self, section: Any, seed: int, ignore_index: int):
        self.section = section
        self.seed = seed
        self.ignore_index = ignore_index

    def parameters(self, id: str, epoch: int, host: str = "") -> Parameters:
        """A pure function of (seed, epoch, id, host), so the order of calls does not matter.

        Args:
            id, epoch: of the sample.
            host: for a sample that is pasted onto another one, that one's id and the layer: it is not shown
                twice in an epoch with the same change.
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
            images: (B, 3, H, W) uint8, each in the upper left of its padding; H and W multiples of 8.
            labels: (B, H, W) uint8, padded with `ignore_index`.
            sizes: (h, w) of each image inside its padding.
            parameters: one per sample.

        Returns:
            images (B, 3, S, S) float32 in 0..255, labels (B, S, S) int64.
        """
        s = self.section
        images, labels = warp(
            images, labels, sizes, parameters, s.crop, self.ignore_index, s.category_max_ratio
        )
        return recolour(images, parameters, s), labels


def _quality(rng: np.random.Generator, share: float) -> float | None:
    quality = rng.uniform(*JPEG_QUALITY)
    return quality if rng.uniform() < share else None
