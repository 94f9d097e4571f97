"""Drawn scenes for the demo and the tests: sea life under water, made in memory, no download.

Five classes that differ in shape and in texture: fish (tail; bands), starfish (arms; spots), jellyfish
(bell and thin tentacles; ribs), turtle (flippers; a net of plates), kelp (toothed ribbons; chevrons).
Colour is only a weak cue: each class has a typical hue, but more often has another. Objects overlap, distant
ones fade into the water, light and shadow fall on them, pebbles and bubbles are background, and a void
border of 1 px surrounds each object, as in VOC.

A scene is a pure function of (seed, split, index).

An object is drawn in local coordinates within -1..1, x to the right and y down; its `field` is positive
inside and grows away from the outline, its `pattern` is 0 (base colour) to 1 (dark accent).
"""

import colorsys
import hashlib
import math
from collections.abc import Callable
from functools import reduce
from operator import add
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from engine.data.bands import Bands
from engine.data.formats import Synthetic
from engine.data.sample import DataError, Sample, Skipped

Array = NDArray[Any]  # of floats
Figure = tuple[Array, Array]  # field, pattern
Window = tuple[slice, slice]  # rows, columns

SCENE_CLASSES = ("background", "fish", "starfish", "jellyfish", "turtle", "kelp")
SCENE_PALETTE = ((0, 0, 0), (240, 140, 40), (225, 60, 80), (190, 110, 240), (60, 200, 130), (190, 200, 50))
IGNORE_INDEX = 255
SPLITS = {"train": 0, "val": 1}
FINE = 2  # an object is drawn with FINE x FINE dots per pixel, for smooth outlines
NUM_OBJECTS = (3, 6)
HAZE = 0.8  # most of the water's colour that the farthest object takes on
OWN_HUE_SHARE = 0.4  # how often an object has the typical hue of its class


def _fish(x: Array, y: Array, rng: Generator) -> Figure:
    body = 1 - np.hypot((x - 0.22) / 0.70, y / rng.uniform(0.36, 0.46))
    tail = np.minimum(0.9 * (-0.28 - x) - np.abs(y) + 0.05, x + 0.92 + 0.35 * np.abs(y))
    fin = np.minimum(0.62 - np.abs(y) - 0.5 * np.abs(x - 0.05), 0.35 - np.abs(x - 0.1))
    bands = np.sin(rng.uniform(11, 14) * (x + 0.5 * y * y) + rng.uniform(0, 6)) > 0.1
    eye = np.hypot(x - 0.62, y + 0.08)
    pattern = np.where(eye < 0.17, eye < 0.09, np.where(x < -0.35, 0.6, bands))
    return np.maximum(np.maximum(0.4 * body, tail), 0.5 * fin), pattern


def _starfish(x: Array, y: Array, rng: Generator) -> Figure:
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    arms = 0.5 + 0.5 * np.cos(5 * angle)
    field = rng.uniform(0.36, 0.44) + 0.54 * arms**1.6 - radius
    pitch, phase = rng.uniform(13, 16), rng.uniform(0, 6)
    spots = np.sin(pitch * x + phase) * np.sin(pitch * y - phase) > 0.35
    return 0.6 * field, spots.astype(np.float32)


def _jellyfish(x: Array, y: Array, rng: Generator) -> Figure:
    half = 0.82 * np.sqrt(np.clip(1 - ((y + 0.05) / 0.85) ** 2, 0, 1))  # of the bell's width, at this height
    field = np.minimum(half - np.abs(x), 0.05 + 0.06 * np.cos(11 * x) - y)
    sway, phase = rng.uniform(0.05, 0.12), rng.uniform(0, 6)
    for root in (-0.54, -0.18, 0.18, 0.54):
        strand = 0.085 - np.abs(x - root * (1 - 0.2 * y) - sway * np.sin(6 * y + phase + root))
        field = np.maximum(field, np.minimum(np.minimum(strand, rng.uniform(0.7, 0.98) - y), y))
    ribs = np.cos(rng.uniform(8, 10) * np.arcsin(np.clip(x / (half + 0.01), -1, 1))) > 0.3
    return field, np.where(y > 0.08, 0.3, ribs)


def _turtle(x: Array, y: Array, rng: Generator) -> Figure:
    shell = 1 - np.hypot((x + 0.05) / 0.68, y / 0.54)
    head = 0.21 - np.hypot(x - 0.76, y)
    field = np.maximum(0.5 * shell, head)
    sweep = rng.uniform(0.3, 0.7)
    for root, side_y, length in ((0.38, 0.62, 0.42), (-0.5, 0.5, 0.30)):
        along, across = x - root + sweep * (np.abs(y) - side_y), np.abs(y) - side_y
        field = np.maximum(field, 0.3 * (1 - np.hypot(along / 0.17, across / length)))
    pitch = rng.uniform(9, 11)
    net = sum(
        np.cos(pitch * (0.5 * slope * x + lean * y)) for slope, lean in ((2, 0), (1, 0.866), (-1, 0.866))
    )
    return field, np.where(shell > 0, np.where(shell < 0.1, 1.0, net < -0.55), 0.25)


def _kelp(x: Array, y: Array, rng: Generator) -> Figure:
    field, pattern = np.full_like(x, -1), np.zeros_like(x)
    for root in (-0.17, 0.17):
        top, sway, phase = rng.uniform(-0.98, -0.6), rng.uniform(0.04, 0.1), rng.uniform(0, 6)
        offset = x - root - sway * np.sin(4 * y + phase)
        teeth = (2.5 * y + phase + 0.25 * np.sign(offset)) % 0.5
        width = (0.11 + 0.14 * teeth) * np.clip(3 * (y - top), 0, 1)
        blade = np.minimum(width - np.abs(offset), 0.98 - y)
        chevrons = np.sin(26 * (y + 1.2 * np.abs(offset))) > 0.1
        pattern = np.where(blade > field, chevrons, pattern)
        field = np.maximum(field, blade)
    return field, pattern


# class -> (figure, typical hue, radius in shares of the image side, tilt in degrees)
FIGURES: dict[str, tuple[Callable[[Array, Array, Generator], Figure], float, tuple[float, float], float]] = {
    "fish": (_fish, 0.08, (0.14, 0.26), 35),
    "starfish": (_starfish, 0.00, (0.14, 0.25), 180),
    "jellyfish": (_jellyfish, 0.82, (0.16, 0.28), 30),
    "turtle": (_turtle, 0.38, (0.15, 0.27), 180),
    "kelp": (_kelp, 0.22, (0.26, 0.40), 15),
}


def _smooth_noise(rng: Generator, size_px: int, cells: int) -> Array:
    """(size, size), about -1..1, with features of size / cells pixels."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size_px, size_px), Image.Resampling.BICUBIC))


def _rgb(hue: float, saturation: float, value: float) -> Array:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def _draw_background(rng: Generator, size_px: int) -> Array:
    """Water above, rippled sand below, with pebbles and bubbles: (size, size, 3) in 0..1."""
    y, x = np.mgrid[:size_px, :size_px].astype(np.float32) / size_px
    hue = rng.uniform(0.48, 0.62)
    depth = (y + 0.1 * _smooth_noise(rng, size_px, 5))[..., None]
    image = (1 - depth) * _rgb(hue, 0.55, 0.85) + depth * _rgb(hue + 0.04, 0.75, 0.5)
    horizon = rng.uniform(0.55, 0.95) + 0.06 * np.sin(rng.uniform(3, 6) * x + rng.uniform(0, 6))
    ripples = 0.06 * np.sin(60 * y + 5 * _smooth_noise(rng, size_px, 6))
    grain = 0.08 * _smooth_noise(rng, size_px, 40)
    sand = _rgb(rng.uniform(0.09, 0.14), 0.35, 0.75) * (1 + ripples + grain)[..., None]
    image = np.where((y > horizon)[..., None], sand, image)
    for _ in range(rng.integers(2, 7)):
        centre_x, centre_y, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.015, 0.05)
        window = _around(centre_y, radius, size_px), _around(centre_x, radius, size_px)
        inside = radius - np.hypot(x[window] - centre_x, (y[window] - centre_y) * 1.2)
        inside = np.clip(inside * size_px + 0.5, 0, 1)[..., None]
        in_sand = centre_y > horizon[0, int(centre_x * size_px)]
        colour = _rgb(rng.uniform(0, 1), 0.2, rng.uniform(0.3, 0.6)) if in_sand else _rgb(hue, 0.2, 1.0)
        image[window] += (0.9 if in_sand else 0.35) * inside * (colour - image[window])
    return np.asarray(image)


def _around(centre: float, radius: float, size_px: int) -> slice:
    """The pixels of a side that a disk touches; centre and radius in shares of the side."""
    low, high = (centre - radius) * size_px - 1, (centre + radius) * size_px + 2
    return slice(max(0, math.floor(low)), math.ceil(high))


def _draw_object(rng: Generator, name: str, centre: Array, size_px: int) -> tuple[Window, Array, Array]:
    """A window of the canvas, the object's colour there times its coverage, and that coverage (h, w, 1)."""
    figure, own_hue, radii, tilt = FIGURES[name]
    radius_px, angle = rng.uniform(*radii) * size_px, math.radians(rng.uniform(-tilt, tilt))
    low = np.clip(np.floor(centre - 1.15 * radius_px), 0, size_px).astype(int)  # (x, y)
    high = np.clip(np.ceil(centre + 1.15 * radius_px), 0, size_px).astype(int)
    offset_x, offset_y = (
        ((np.arange(a * FINE, b * FINE) + 0.5) / FINE - c).astype(np.float32) / radius_px
        for a, b, c in zip(low, high, centre, strict=True)
    )
    x = math.cos(angle) * offset_x + math.sin(angle) * offset_y[:, None]
    y = math.cos(angle) * offset_y[:, None] - math.sin(angle) * offset_x
    field, pattern = figure(x if rng.random() < 0.5 else -x, y, rng)

    hue = rng.normal(own_hue, 0.03) if rng.random() < OWN_HUE_SHARE else rng.uniform(0, 1)
    base = _rgb(hue, rng.uniform(0.3, 0.7), rng.uniform(0.75, 1.0))
    accent = _rgb(hue + rng.normal(0, 0.05), rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.5))
    relief = 0.65 + 0.35 * np.clip(field / 0.12, 0, 1) - 0.15 * offset_y[:, None]  # dark rim, lit from above
    inside = (field > 0).astype(np.float32)
    light, dark = _shrink((1 - pattern) * relief * inside), _shrink(pattern * relief * inside)
    window = slice(low[1], high[1]), slice(low[0], high[0])
    return window, light * base + dark * accent, _shrink(inside)


def _shrink(fine: Array) -> Array:
    """Means of FINE x FINE blocks: (FINE * h, FINE * w) -> (h, w, 1)"""
    rows = reduce(add, (fine[:, start::FINE] for start in range(FINE)))  # (FINE * h, w); faster than mean
    return np.asarray(reduce(add, (rows[start::FINE] for start in range(FINE))) / FINE**2)[..., None]


def _grow(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask dilated by one pixel in all eight directions."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])


def _light(rng: Generator, size_px: int) -> Array:
    """Gain of each pixel (size, size, 1): a gradient, shafts of light, and a cast shadow."""
    y, x = np.mgrid[:size_px, :size_px].astype(np.float32) / size_px - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    gradient = 1 + rng.uniform(0, 0.5) * (x * np.cos(angle) + y * np.sin(angle))
    slope, phase = rng.uniform(-0.8, 0.8), rng.uniform(0, 6)
    shafts = 1 + 0.10 * np.sin(12 * (x + slope * y) + phase) * (0.5 - y)
    shadow = 1 - rng.uniform(0.2, 0.5) * np.clip(4 * _smooth_noise(rng, size_px, 4) - 1, 0, 1)
    return np.asarray(rng.uniform(0.75, 1.1) * gradient * shafts * shadow)[..., None]


def draw_scene(rng: Generator, size_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One scene: image (size, size, 3) RGB and labels (size, size)."""
    image = _draw_background(rng, size_px)
    labels = np.zeros((size_px, size_px), np.uint8)
    names = rng.permutation(list(FIGURES) * 2)[: rng.integers(NUM_OBJECTS[0], NUM_OBJECTS[1] + 1)]
    centres, water = np.empty((0, 2)), image.mean((0, 1))
    for nearness, name in zip(np.linspace(0, 1, len(names)), names, strict=True):
        candidates = rng.uniform(0.1, 0.9, (4, 2)) * size_px
        distances = np.linalg.norm(candidates[:, None] - centres, axis=-1).min(1, initial=2 * size_px)  # (4,)
        centre = candidates[distances.argmax()]
        centres = np.vstack((centres, centre))
        window, colour, coverage = _draw_object(rng, str(name), centre, size_px)
        haze = HAZE * (1 - nearness) * rng.random()
        colour = (1 - haze) * colour + haze * coverage * water
        image[window] = colour + (1 - coverage) * image[window]
        mask = np.zeros(labels.shape, bool)
        mask[window] = coverage[..., 0] >= 0.5
        labels[_grow(mask)] = IGNORE_INDEX
        labels[mask] = SCENE_CLASSES.index(name)
    image = image * _light(rng, size_px) + rng.normal(0, 0.02, image.shape)
    return (255 * np.clip(image, 0, 1)).round().astype(np.uint8), labels


def open_synthetic(
    split: str, synthetic: Synthetic, train: str = "train", val: str = "val"
) -> "SyntheticScenes":
    """The scenes of one split: `synthetic.train_samples` of `train`, `synthetic.val_samples` of `val`."""
    num_samples = {train: synthetic.train_samples, val: synthetic.val_samples}.get(split, 0)
    return SyntheticScenes(split, num_samples, synthetic.size, synthetic.seed)


class SyntheticScenes:
    """`num_samples` scenes of `size_px` x `size_px` pixels; each is drawn when first asked for, then kept.

    Raises:
        DataError: the split is neither "train" nor "val".
    """

    class_names = SCENE_CLASSES
    palette = SCENE_PALETTE
    ignore_index = IGNORE_INDEX
    skipped: Skipped | None = None
    bands: Bands = None

    def __init__(self, split: str, num_samples: int, size_px: int = 96, seed: int = 0):
        if split not in SPLITS:
            raise DataError(f"drawn scenes have no split {split!r}; use one of: {', '.join(SPLITS)}")
        self.split, self.size_px, self.seed = split, size_px, seed
        self.ids = [f"{split}_{index:05d}" for index in range(num_samples)]
        self._drawn: dict[int, Sample] = {}
        self._one_thread = Lock()  # drawing is many small steps: threads that take turns at them are slower

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]  # raises IndexError; -1 is the last
        with self._one_thread:
            if index not in self._drawn:
                rng = np.random.default_rng((self.seed, SPLITS[self.split], index))
                image, labels = draw_scene(rng, self.size_px)
                pixels = torch.from_numpy(image).permute(2, 0, 1).contiguous()  # (3, size, size)
                self._drawn[index] = Sample(self.ids[index], pixels, torch.from_numpy(labels))
            return self._drawn[index]

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the lock, which cannot be pickled, and without the scenes, which are drawn again."""
        return SyntheticScenes, (self.split, len(self), self.size_px, self.seed)

    def labels(self, index: int) -> torch.Tensor:
        return self[index].labels

    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each scene, in pixels, without drawing any."""
        return [(self.size_px, self.size_px)] * len(self)

    def fingerprint(self) -> str:
        """SHA-256 over the pixels and labels of every scene."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            for pixels in (self[index].image, self[index].labels):
                digest.update(pixels.numpy().tobytes())
        return digest.hexdigest()
