"""What happens to one sample, drawn from (seed, epoch, sample id) and nothing else. Knows no pixels."""

import math
import zlib
from dataclasses import dataclass, field

import numpy as np

ELASTIC_CELLS = 6  # control points a side of the elastic field
REDRAWS = 10  # of a crop that one class fills, as in MMSegmentation
JPEG_QUALITY = (30, 95)  # above, nothing is seen; below, small things are gone
STRAIGHT = (2, ELASTIC_CELLS, ELASTIC_CELLS)


@dataclass(frozen=True)
class Parameters:
    """The change of one sample; as it stands here, none.

    Lengths are pixels of the crop, so they do not depend on `scale`.
    """

    scale: float = 1.0
    aspect: float = 1.0  # how much wider than high the scaled image is, beside what it was
    angle_rad: float = 0.0
    shear_rad: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)  # of the crop, in its sides
    flip: bool = False
    offset: tuple[float, float] = (0.0, 0.0)  # the crop's place, 0..1 of what is free in x and y
    redraws: np.ndarray = field(default_factory=lambda: np.zeros((REDRAWS, 2)))  # other offsets, in turn
    bend_px: np.ndarray = field(default_factory=lambda: np.zeros(STRAIGHT))  # (2, cells, cells)
    brightness: float = 0.0  # added, of 0..1 pixels
    contrast: float = 1.0  # factor
    saturation: float = 1.0  # factor
    hue: float = 0.0  # added, in turns
    blur_px: float = 0.0  # sigma
    grayscale: bool = False
    noise: float = 0.0  # sigma, of 0..1 pixels
    noise_seed: int = 0
    jpeg_quality: float | None = None  # 1..100; None is uncompressed


def draw_parameters(section, seed: int, epoch: int, id: str, host: str = "") -> Parameters:
    """A pure function: no generator is shared, so the order of calls does not matter.

    Args:
        section: the recipe's `augment`.
        seed: of the run.
        epoch, id: of the sample.
        host: for a sample that is laid over another one, that one's id and the layer: it is not seen twice
            in an epoch with the same change.
    """
    rng = np.random.default_rng([seed, epoch, *(zlib.crc32(text.encode()) for text in (id, host) if text)])
    s = section

    def around(centre: float, reach: float) -> float:
        return centre + reach * rng.uniform(-1, 1)

    # New keys draw after the old ones, so that a recipe without them trains on what it always did.
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
        bend_px=s.elastic * rng.uniform(-1, 1, STRAIGHT),
        aspect=math.exp(around(0, math.log(s.aspect))),
        shear_rad=(math.radians(around(0, s.shear_deg)), math.radians(around(0, s.shear_deg))),
        shift=(around(0, s.translate), around(0, s.translate)),
        redraws=rng.uniform(size=(REDRAWS, 2)),
        grayscale=rng.uniform() < s.grayscale,
        noise=rng.uniform(0, s.noise),
        noise_seed=int(rng.integers(2**63)),
        jpeg_quality=_quality(rng, s.jpeg),
    )


def _quality(rng: np.random.Generator, share: float) -> float | None:
    quality = rng.uniform(*JPEG_QUALITY)
    return quality if rng.uniform() < share else None
