"""Mask encodings, from stored values to label ids: the same ids, a table, a map, colours, or 0 and 255.

An encoding is called with the stored mask and its path, which is for messages only, and returns (h, w) uint8.
Its `identity` is its part of the fingerprint of a data set.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.data.sample import DataError, Palette, first_few
from engine.wording import quantity

Labels = NDArray[np.uint8]
MAX_LISTED = 24  # ids in a command to type
MAX_WHOLE = 1e15  # above, a value is written with its exponent


class MaskEncoding(Protocol):
    """(stored mask, its file) -> (h, w) uint8 of class ids and the ignore index."""

    def __call__(self, stored: NDArray[Any], path: Path) -> Labels: ...

    def identity(self) -> str: ...


@dataclass(frozen=True)
class SameIds:
    """The file holds the label ids."""

    num_classes: int
    ignore_index: int

    def __call__(self, stored: NDArray[Any], path: Path) -> Labels:
        _require_ids(stored, path)
        outside = _values_outside(stored, (*range(self.num_classes), self.ignore_index))
        if outside:
            raise DataError(
                f"{path} holds label ids {first_few(outside)}, outside the {self.num_classes} "
                f"classes of the recipe (0..{self.num_classes - 1}, void {self.ignore_index}). To score a "
                "trained model, whose classes are fixed, without the pixels of these ids, type "
                f"'data.ids={self._with_void(outside)}', with a class in place of void where an id has one. "
                "To train on them, name every class in data.classes, or set data.ignore_index to the id of "
                "void."
            )
        return stored

    def _with_void(self, values: list[str]) -> str:
        """The data.ids that read the same labels, and further values as void; of many classes not all."""
        same = [f"{id}: {id}" for id in range(self.num_classes) if id != self.ignore_index]
        void = [f"{value}: void" for value in dict.fromkeys([str(self.ignore_index), *values])]
        shortened = ([*one[:2], "...", one[-1]] if len(one) > MAX_LISTED else one for one in (same, void))
        return f"{{{', '.join(chain.from_iterable(shortened))}}}"

    def identity(self) -> str:
        return ""


@dataclass(frozen=True)
class Table:
    """The file holds ids of its own; `pairs` are (id in the file, label id), others are an error."""

    pairs: tuple[tuple[int, int], ...]
    layout: str  # for messages

    @classmethod
    def of(cls, layout: str, labels: Mapping[int, int]) -> "Table":
        return cls(tuple(sorted(labels.items())), layout)

    def __call__(self, stored: NDArray[Any], path: Path) -> Labels:
        _require_ids(stored, path)
        outside = _values_outside(stored, tuple(id for id, _ in self.pairs))
        if outside:
            raise DataError(
                f"{path} holds ids {first_few(outside)}, which {self.layout} masks do not have. Is data.root "
                "the data set itself, or a copy with other ids? For those there is data.format=folder."
            )
        return _table_of_bytes(self.pairs).take(stored)

    def identity(self) -> str:
        return repr(self.pairs)


@dataclass(frozen=True)
class MappedValues:
    """The file holds values of any pixel type; `pairs` are (stored value, label id), others are an error."""

    pairs: tuple[tuple[float, int], ...]

    @classmethod
    def of(cls, ids: Mapping[str, int | str], ignore_index: int) -> "MappedValues":
        """From a recipe's data.ids."""
        labels = {float(value): ignore_index if id == "void" else int(id) for value, id in ids.items()}
        return cls(tuple(labels.items()))

    def __call__(self, stored: NDArray[Any], path: Path) -> Labels:
        pixels = single_channel(stored)
        if pixels is None:
            raise DataError(f"{path} is not a mask of values: it decodes to {stored.shape} with colours.")
        values = np.array([value for value, _ in self.pairs])
        if pixels.dtype.kind == "f":
            values = values.astype(pixels.dtype)  # a recipe says 0.1, a mask of 32 bits 0.100000001
        order = values.argsort()  # NaN is last
        place = np.searchsorted(values[order], pixels).clip(max=len(order) - 1)
        nearest = values[order][place]
        known = (nearest == pixels) | (np.isnan(nearest) & np.isnan(pixels))
        if not known.all():
            strange = [value_text(value) for value in np.unique(pixels[~known]).tolist()]
            raise DataError(
                f"{path} holds {first_few(strange)}, which data.ids does not name. Add them to it, for "
                f"example {strange[0]}: void."
            )
        labels: NDArray[np.uint8] = np.array([label for _, label in self.pairs], np.uint8)[order][place]
        return labels

    def identity(self) -> str:
        return repr(self.pairs)


def encoding_of_ids(
    num_classes: int, ignore_index: int, ids: Mapping[str, int | str] | None
) -> SameIds | MappedValues:
    """Of masks of values in one channel, for a recipe with these data.ids."""
    return SameIds(num_classes, ignore_index) if ids is None else MappedValues.of(ids, ignore_index)


@dataclass(frozen=True)
class BlackAndWhite:
    """The file holds 0 for class 0, and 255 or 1 for class 1, in one channel or in three equal ones."""

    def __call__(self, stored: NDArray[Any], path: Path) -> Labels:
        pixels = single_channel(stored)
        if pixels is None:
            raise DataError(
                f"{path} is not a black and white mask: it decodes to {stored.shape} with colours."
            )
        outside = _values_outside(pixels, (0, 1, 255))
        if outside:
            raise DataError(
                f"{path} is not a black and white mask: besides 0, 1 and 255 it holds {first_few(outside)}. "
                "Soft edges come from resizing or from JPEG; masks without them are written by: trident "
                "doctor <recipe> --fix <new folder>. For other ids type data.folder.values=ids."
            )
        return (pixels > 0).view(np.uint8)

    def identity(self) -> str:
        return "black and white"


@dataclass(frozen=True)
class Colours:
    """The file holds colours, (h, w, 3); `labels[i]` is the label id of `colours[i]`."""

    colours: Palette
    labels: tuple[int, ...]

    def __call__(self, stored: NDArray[Any], path: Path) -> Labels:
        codes = stored[..., 0].astype(np.uint32)  # (h, w): 0xRRGGBB
        for channel in (1, 2):
            codes = (codes << 8) | stored[..., channel]
        places = _places_of_colours(self.colours).take(codes)  # (h, w): 0 is unknown, else place + 1
        if not places.all():
            strange, counts = np.unique(codes[places == 0], return_counts=True)
            most = [
                tuple(int(code) >> shift & 255 for shift in (16, 8, 0))
                for code in strange[(-counts).argsort()]
            ]
            raise DataError(
                f"{path} holds {quantity(len(most), 'colour')} of no class in "
                f"{quantity(int(counts.sum()), 'pixel')}, most frequent "
                f"first: {first_few(most)}. Give each class its colour in data.classes, and those of void in "
                "data.folder.void_colours; many rare colours are soft edges from resizing or from JPEG."
            )
        return np.array((0, *self.labels), np.uint8).take(places)

    def identity(self) -> str:
        return repr((self.colours, self.labels))


def single_channel(stored: NDArray[Any]) -> NDArray[Any] | None:
    """(h, w) values of one channel, or of three equal ones, without transparency; None for colours."""
    if stored.ndim == 3 and (stored[..., : 3 if stored.shape[2] > 2 else 1] == stored[..., :1]).all():
        stored = stored[..., 0]
    return stored if stored.ndim == 2 else None


def value_text(value: float) -> str:
    """A stored value as data.ids names it: 65535, 0.9, -3.4028235e+38, nan."""
    if math.isfinite(value) and value == int(value) and abs(value) < MAX_WHOLE:
        return str(int(value))
    short = np.float32(value)
    return str(short if float(short) == value or value != value else value)


def _require_ids(stored: NDArray[Any], path: Path) -> None:
    if stored.ndim != 2 or stored.dtype != np.uint8:
        raise DataError(
            f"{path} is not a mask of ids (palette or 8-bit grayscale PNG): it decodes to {stored.dtype} of "
            f"{stored.shape}. trident doctor <recipe> names its values and how to read them."
        )


def _values_outside(stored: NDArray[Any], known: tuple[int, ...]) -> list[str]:
    """The values of an (h, w) mask that are not `known`, sorted."""
    if stored.dtype == np.uint8 and _is_known(known).take(stored).all():  # far faster than np.unique
        return []
    return [value_text(value) for value in np.unique(stored).tolist() if value not in known]


@lru_cache
def _is_known(known: tuple[int, ...]) -> NDArray[np.bool_]:
    flags = np.zeros(256, bool)
    flags[list(known)] = True
    return flags


@lru_cache
def _table_of_bytes(pairs: tuple[tuple[int, int], ...]) -> NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    for id, label in pairs:
        table[id] = label
    return table


@lru_cache(maxsize=2)
def _places_of_colours(colours: Palette) -> NDArray[np.uint8]:
    """(2 ** 24,) by 0xRRGGBB; the system allocates only the pages that are used."""
    table = np.zeros(1 << 24, np.uint8)
    for place, (r, g, b) in enumerate(colours, start=1):
        table[r << 16 | g << 8 | b] = place
    return table
