"""The values of all masks, counted."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.mask_facts import pack
from engine.data.formats.bands import declared_nodata
from engine.data.formats.files import FileDataset
from engine.data.formats.masks import single_channel
from engine.data.formats.pairing import PHOTO_ENDINGS
from engine.data.sample import DataError

MAX_COLOURS = 64  # above, the values of a mask are not those of classes alone
MAX_FEW = 3  # values of a mask of two classes and void
FLAT = 16  # the largest difference to a neighbour inside of a region of one colour, after JPEG


@dataclass
class Values:
    """What the masks hold, over all of them.

    pixels: by value, or by packed colour. forms: masks by pixel type. flat: pixels like their neighbours, by
    packed colour, of the masks with too many values for classes. nodata: values that GeoTIFF masks declare
    as such. has_colours: some have channels that differ. has_channels: some have three. has_alpha: the
    transparency of some differs between pixels. few: the values of the masks of at most three. of_colours,
    of_ids: the first mask whose channels differ, and the first of one channel with a value above 0.
    unreadable: why the first of those that cannot be read was left out.
    """

    pixels: Counter[float] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    flat: Counter[int] = field(default_factory=Counter)
    nodata: set[float] = field(default_factory=set)
    has_colours: bool = False
    has_channels: bool = False
    are_jpeg: bool = False
    has_alpha: bool = False
    few: set[frozenset[float]] = field(default_factory=set)
    of_colours: Path | None = None
    of_ids: Path | None = None
    unreadable: str = ""


def read_values(datasets: Sequence[FileDataset], progress: Callable[[int, int], None]) -> Values:
    """Read every mask that can be read; the doctor counts and names the others."""
    values, done, total = Values(), 0, sum(map(len, datasets))
    for dataset in datasets:
        for index in range(len(dataset)):
            try:
                _count(dataset, index, values)
            except DataError as error:
                values.unreadable = values.unreadable or str(error)
            finally:
                done += 1
                progress(done, total)
    return values


def _count(dataset: FileDataset, index: int, values: Values) -> None:
    stored, path = dataset.stored_mask(index), dataset.mask_path(index)
    if (nodata := declared_nodata(path)) is not None:
        values.nodata.add(nodata)
    is_jpeg = path.suffix.lower() in PHOTO_ENDINGS
    values.are_jpeg |= is_jpeg
    has_alpha_only = stored.ndim == 3 and stored.shape[2] == 2
    values.forms[stored.dtype.name + " and alpha" * has_alpha_only] += 1
    if stored.ndim == 3 and stored.shape[2] in (2, 4):
        values.has_alpha |= bool(np.ptp(stored[..., -1]))
    pixels = single_channel(stored)
    if stored.ndim == 3 and not has_alpha_only:
        values.has_channels = True
        values.has_colours |= pixels is None
        values.of_colours = values.of_colours or (path if pixels is None else None)
        pixels = pack(stored[..., :3])
    elif pixels is not None and pixels.any():
        values.of_ids = values.of_ids or path
    assert pixels is not None
    found, counts = np.unique(pixels, return_counts=True)
    if len(found) <= MAX_FEW:
        values.few.add(frozenset(found.tolist()))
    values.pixels.update(
        {nan if v != v else v: n for v, n in zip(found.tolist(), counts.tolist(), strict=True)}
    )
    if stored.dtype == np.uint8 and (is_jpeg or len(found) > MAX_COLOURS):
        rgb = np.repeat(stored[..., None], 3, axis=2) if stored.ndim == 2 else stored[..., :3]
        colours, counts = np.unique(pack(rgb[_is_flat(rgb)]), return_counts=True)
        values.flat.update(dict(zip(colours.tolist(), counts.tolist(), strict=True)))


def _is_flat(rgb: NDArray[Any]) -> NDArray[np.bool_]:
    """(h, w) pixels that differ little from those above, below, left and right."""
    wide, flat = rgb.astype(np.int16), np.ones(rgb.shape[:2], bool)
    for axis in (0, 1):
        step = (abs(np.diff(wide, axis=axis)) > FLAT).any(axis=-1)
        flat &= ~(np.insert(step, 0, False, axis=axis) | np.insert(step, step.shape[axis], False, axis=axis))
    return flat
