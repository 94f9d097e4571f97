"""The colours of pictures that show errors: those of the classes, kept apart from the red of wrong pixels."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from engine.data.sample import Palette

Colour = tuple[int, int, int]

VOID: Colour = (224, 224, 192)  # as in VOC
WRONG: Colour = (232, 48, 62)
UNSCORED: Colour = (128, 128, 128)  # void pixels in an error map

LEAST_DISTANCE = 0.14  # of a class from WRONG, in Oklab, where black and white are 1 apart
LEVELS = range(0, 256, 51)  # of red, green and blue in the colours that replace others


def display_colours(palette: Iterable[Colour]) -> Palette:
    """The colours of a data set, with others in place of those near WRONG.

    Each of these is as far as possible from all others in the picture.
    """
    return _apart(tuple((int(red), int(green), int(blue)) for red, green, blue in palette))


@lru_cache(maxsize=16)
def _apart(palette: Palette) -> Palette:
    is_near = distance(palette, [WRONG])[:, 0] < LEAST_DISTANCE  # (C,)
    kept = [colour for colour, near in zip(palette, is_near, strict=True) if not near]
    taken: list[Colour] = [WRONG, VOID, UNSCORED, (0, 0, 0), (255, 255, 255), *kept]
    free: list[Colour] = [
        colour for colour in product(LEVELS, LEVELS, LEVELS) if distance([colour], [WRONG]) >= LEAST_DISTANCE
    ]
    shown = []
    for colour, near in zip(palette, is_near, strict=True):
        if near:
            colour = free[int(distance(free, taken).min(axis=1).argmax())]
            taken.append(colour)
        shown.append(colour)
    return tuple(shown)


def distance(one: Sequence[Colour], two: Sequence[Colour]) -> NDArray[np.float64]:
    """(n, m) distances of n and m colours as people see them.

    In Oklab: Ottosson, A perceptual color space for image processing, 2020.
    """
    between: NDArray[np.float64] = np.linalg.norm(_oklab(one)[:, None] - _oklab(two)[None], axis=-1)
    return between


def _oklab(colours: Sequence[Colour]) -> NDArray[np.float64]:
    """(n, 3): lightness, green to red, blue to yellow."""
    srgb = np.asarray(colours, np.float64).reshape(-1, 3) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ TO_CONES.T)
    return np.asarray(cones @ TO_LAB.T)


TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
