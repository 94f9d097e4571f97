"""One pass over all files: the facts of each, in a few flat arrays."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from sys import intern
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.bands import Bands
from engine.data.doctor.image_facts import THUMB_PX, ImageFacts, read_image
from engine.data.doctor.listing import Listed, Listing
from engine.data.doctor.mask_facts import MaskFacts, read_mask
from engine.data.workers import num_cores

AT_ONCE = 256  # samples queued for the threads; queueing all would take memory
MAX_STRETCH = 0.01  # between the aspect ratios of an image and its mask
# One value of one mask.
ENTRY = np.dtype([("file", "i4"), ("value", "f8"), ("count", "i8"), ("rim", "i8"), ("ramp", "i8")])


@dataclass(frozen=True)
class Facts:
    """The facts of n samples; the arrays about images are empty if there are no files.

    mask_problems, image_problems: sample -> why it cannot be read. mask_stops, image_stops: those of them
    that `data.on_error: skip` does not cover. forms: of each mask's pixels.
    mask_sizes, image_sizes: (n, 2) h, w. entries: (k,) of ENTRY, by file. palettes: those that occur;
    palette_of: (n,) index into them, -1 for none. modes: of the images' pixels. is_turned: EXIF swaps
    h and w. nodata: sample -> the value that its GeoTIFF mask declares as "no data". spans: (n, 2) lowest
    and highest value, NaN for 8 bits per channel. sha256: (n, 32).
    dhash: (n,) uint64. thumbs: (n, 32, 32) uint8.
    """

    listing: Listing
    mask_problems: dict[int, str]
    mask_stops: set[int]
    forms: list[str]
    mask_sizes: NDArray[np.int64]
    num_values: NDArray[np.int64]
    entries: NDArray[Any]
    palettes: list[bytes]
    palette_of: NDArray[np.int64]
    nodata: dict[int, float]
    image_problems: dict[int, str]
    image_stops: set[int]
    modes: list[str]
    image_sizes: NDArray[np.int64]
    is_turned: NDArray[np.bool_]
    spans: NDArray[np.float64]
    sha256: NDArray[np.uint8]
    dhash: NDArray[np.uint64]
    thumbs: NDArray[np.uint8]

    @cached_property
    def is_broken(self) -> NDArray[np.bool_]:
        """(n,) samples that cannot be read: damaged, or image and mask of different sizes."""
        broken = np.zeros(len(self.listing.samples), bool)
        if self.listing.has_files:
            turned = self.is_turned & (self.mask_sizes[:, ::-1] == self.image_sizes).all(1)
            broken = (self.mask_sizes != self.image_sizes).any(1) & ~turned
        broken[[*self.image_problems, *self.mask_problems]] = True
        return broken

    def size_for_mask(self, i: int) -> tuple[int, int] | None:
        """(h, w) that mask i has to be resized to; None if it has another shape than its image.

        A mask drawn on the stored pixels of a rotated photo keeps their orientation.
        """
        h, w = self.image_sizes[i].tolist()
        mask_h, mask_w = self.mask_sizes[i].tolist()
        for height, width in ((h, w), *(((w, h),) if self.is_turned[i] else ())):
            if mask_w and height and abs(mask_h * width / (mask_w * height) - 1) <= MAX_STRETCH:
                return height, width
        return None

    def counts_of(self, i: int) -> dict[float, int]:
        """Value -> pixels of one mask; empty if it cannot be read."""
        start, end = np.searchsorted(self.entries["file"], [i, i + 1])
        own = self.entries[start:end]
        # One NaN for all, so that they compare as equal.
        values = [math.nan if value != value else value for value in own["value"].tolist()]
        return dict(zip(values, own["count"].tolist(), strict=True))


def scan(listing: Listing, progress: Callable[[int, int], None]) -> Facts:
    """Read every mask and image once, with one thread per core."""
    n = len(listing.samples)
    num_images = n if listing.has_files else 0
    facts = Facts(
        listing=listing,
        mask_problems={},
        mask_stops=set(),
        forms=[],
        mask_sizes=np.zeros((n, 2), np.int64),
        num_values=np.zeros(n, np.int64),
        entries=np.zeros(0, ENTRY),
        palettes=[],
        palette_of=np.full(n, -1, np.int64),
        nodata={},
        image_problems={},
        image_stops=set(),
        modes=[],
        image_sizes=np.zeros((num_images, 2), np.int64),
        is_turned=np.zeros(num_images, bool),
        spans=np.full((num_images, 2), np.nan),
        sha256=np.zeros((num_images, 32), np.uint8),
        dhash=np.zeros(num_images, np.uint64),
        thumbs=np.zeros((num_images, THUMB_PX, THUMB_PX), np.uint8),
    )
    entries = bytearray()  # one growing buffer: many small arrays would fragment the heap
    palettes: dict[bytes, int] = {}
    for i, (mask, image) in enumerate(_read_all(listing)):
        _keep_mask(facts, i, mask, entries, palettes)
        if image:
            _keep_image(facts, i, image)
        progress(i + 1, n)
    facts.palettes.extend(palettes)
    return replace(facts, entries=np.frombuffer(entries, ENTRY))


def _read_all(listing: Listing) -> Iterator[tuple[MaskFacts, ImageFacts | None]]:
    read, samples = partial(_read, bands=listing.bands), listing.samples
    with ThreadPoolExecutor(num_cores()) as pool:  # decoding and counting release the interpreter lock
        for start in range(0, len(samples), AT_ONCE):
            yield from pool.map(read, samples[start : start + AT_ONCE])


def _read(sample: Listed, bands: Bands) -> tuple[MaskFacts, ImageFacts | None]:
    return read_mask(sample), read_image(sample.image, bands) if sample.image else None


def _keep_mask(facts: Facts, i: int, mask: MaskFacts, entries: bytearray, palettes: dict[bytes, int]) -> None:
    facts.forms.append(intern(mask.form))
    if mask.problem:
        facts.mask_problems[i] = mask.problem
        facts.mask_stops.update([] if mask.may_skip else [i])
        return
    facts.mask_sizes[i] = mask.size
    facts.num_values[i] = mask.num_values
    rows = np.zeros(len(mask.values), ENTRY)
    rows["file"], rows["value"], rows["count"] = i, mask.values, mask.counts
    rows["rim"], rows["ramp"] = mask.rims, mask.ramps
    entries += rows.tobytes()
    if mask.nodata is not None:
        facts.nodata[i] = mask.nodata
    if mask.palette:
        facts.palette_of[i] = palettes.setdefault(mask.palette, len(palettes))


def _keep_image(facts: Facts, i: int, image: ImageFacts) -> None:
    facts.modes.append(intern(image.mode))
    if image.problem:
        facts.image_problems[i] = image.problem
        facts.image_stops.update([] if image.may_skip else [i])
        return
    facts.image_sizes[i] = image.size
    facts.is_turned[i] = image.is_turned
    if image.span:
        facts.spans[i] = image.span
    facts.sha256[i] = np.frombuffer(image.sha256, np.uint8)
    facts.dhash[i] = image.dhash
    facts.thumbs[i] = image.thumb
