"""The facts of one mask: its values, and for each the number of pixels, and of pixels at borders.

A value is a number as stored, or a colour packed as 0xRRGGBB; classes play no role here.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.doctor.listing import Listed
from engine.data.formats.bands import declared_nodata
from engine.data.formats.files import FileDataset
from engine.data.formats.images import BROKEN
from engine.data.formats.masks import value_text
from engine.data.gdal import NotInstalled
from engine.data.sample import DataError, UnreadableSample

MAX_VALUES = 256  # kept per mask, the most frequent ones; a photo used as a mask has 100,000
Counts = NDArray[np.int64]


def _nothing() -> NDArray[Any]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class MaskFacts:
    """One mask; the four arrays have one entry per value.

    problem: why it cannot be read, or empty. may_skip: whether `data.on_error: skip` covers that. form: the
    pixel type, such as uint8, or uint8x3 for colours.
    rims: pixels with a neighbour (up, down, left, right) of another value. ramps: rim pixels whose value is
    between those of two opposite neighbours, as after interpolation. palette: RGB bytes of a palette image.
    nodata: the value that a GeoTIFF declares as such.
    """

    problem: str = ""
    may_skip: bool = True
    form: str = ""
    size: tuple[int, int] = (0, 0)  # (h, w)
    values: NDArray[Any] = field(default_factory=_nothing)
    counts: Counts = field(default_factory=_nothing)
    rims: Counts = field(default_factory=_nothing)
    ramps: Counts = field(default_factory=_nothing)
    num_values: int = 0
    palette: bytes = b""
    nodata: float | None = None


def read_mask(sample: Listed) -> MaskFacts:
    """The facts of a sample's mask, or why there are none; raises NotInstalled where it needs rasterio."""
    try:
        if not isinstance(sample.dataset, FileDataset):
            return measure(sample.dataset.labels(sample.index).numpy())
        stored = sample.dataset.stored_mask(sample.index)
        facts = measure(stored, _palette(sample) if stored.ndim == 2 else b"")
        return replace(facts, nodata=declared_nodata(sample.mask)) if sample.mask else facts
    except NotInstalled:
        raise
    except DataError as error:
        return MaskFacts(problem=str(error), may_skip=isinstance(error, UnreadableSample))


def _palette(sample: Listed) -> bytes:
    assert sample.mask is not None
    try:
        with Image.open(sample.mask) as image:
            if image.mode != "P" or image.palette is None:
                return b""
            mode, colours = image.palette.getdata()  # from the header; getpalette() decodes the image
            return bytes(colours) if mode == "RGB" else bytes(image.getpalette("RGB") or ())
    except BROKEN:  # not an image: the reader draws the masks
        return b""


def measure(stored: NDArray[Any], palette: bytes = b"") -> MaskFacts:
    """Facts of (h, w) ids or (h, w, channels) colours."""
    form = stored.dtype.name
    if stored.ndim == 3:
        form += f"x{stored.shape[2]}"
        stored = stored[..., :3] if stored.shape[2] >= 3 else stored[..., 0]  # without alpha
    if stored.dtype == bool:
        stored = stored.view(np.uint8)
    rim, ramp = borders(
        np.nan_to_num(stored, nan=np.finfo(stored.dtype).min) if stored.dtype.kind == "f" else stored
    )
    packed = pack(stored) if stored.ndim == 3 else stored  # (h, w)
    values, counts = _count(packed)
    rims, ramps = _counts_of(values, packed[rim]), _counts_of(values, packed[ramp])
    num_values = len(values)
    if num_values > MAX_VALUES:
        kept = np.sort(np.argsort(-counts, kind="stable")[:MAX_VALUES])
        values, counts, rims, ramps = values[kept], counts[kept], rims[kept], ramps[kept]
    size = (packed.shape[0], packed.shape[1])
    return MaskFacts(
        form=form,
        size=size,
        values=values.astype(np.float64),
        counts=counts,
        rims=rims,
        ramps=ramps,
        num_values=num_values,
        palette=palette,
    )


def has_colours(form: str) -> bool:
    """Whether the pixels of a mask are colours rather than values."""
    return form.endswith(("x3", "x4"))


def shown(value: float, form: str) -> str:
    """A value for messages: a number, or (r, g, b)."""
    if not has_colours(form):
        return value_text(value)
    colour = int(value)
    return f"({colour >> 16}, {colour >> 8 & 255}, {colour & 255})"


def pack(colours: NDArray[Any]) -> NDArray[np.uint32]:
    """(..., 3) uint8 -> (...) 0xRRGGBB"""
    wide = colours.astype(np.uint32)
    return np.asarray((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2], np.uint32)


def borders(pixels: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rim and ramp, each (h, w), of (h, w) ids or (h, w, 3) colours."""
    rim = np.zeros(pixels.shape[:2], bool)
    ramp = np.zeros(pixels.shape[:2], bool)
    for axis in (0, 1):
        before, after = _along(axis, None, -1), _along(axis, 1, None)
        step = pixels[after] != pixels[before]  # between a pixel and its successor
        step = step.any(-1) if step.ndim == 3 else step
        rim[after] |= step
        rim[before] |= step
        turns = step[after] & step[before]  # at the first of three in a row: the middle differs from both
        # np.nonzero in 2-d takes 40 times as long.
        here = np.unravel_index(np.flatnonzero(turns), turns.shape)
        first, middle, last = (pixels[_moved(here, axis, by)] for by in (0, 1, 2))
        between = (np.minimum(first, last) <= middle) & (middle <= np.maximum(first, last))
        ramp[_moved(here, axis, 1)] |= between.all(-1) if between.ndim == 2 else between
    return rim, ramp


def _along(axis: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)


def _moved(places: tuple[NDArray[Any], ...], axis: int, by: int) -> tuple[NDArray[Any], ...]:
    return tuple(place + by if a == axis else place for a, place in enumerate(places))


def _count(pixels: NDArray[Any]) -> tuple[NDArray[Any], Counts]:
    if pixels.dtype == np.uint8:
        counts = np.bincount(pixels.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        return values, counts[values]
    values, counts = np.unique(pixels, return_counts=True)
    return values, counts.astype(np.int64)


def _counts_of(values: NDArray[Any], pixels: NDArray[Any]) -> Counts:
    """How often each of `values` (sorted and complete) occurs in `pixels`."""
    found, counts = _count(pixels)
    result = np.zeros(len(values), np.int64)
    result[np.searchsorted(values, found)] = counts
    return result
