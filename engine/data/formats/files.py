"""A data set of image files: pairs of an image and its mask, and how the mask's values become labels.

A format (voc.py, folder.py, ...) is a function that finds the pairs and builds a `FileDataset`.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.bands import Bands
from engine.data.formats.bands import decode_mask, image_header, image_pixels, stored_values
from engine.data.formats.images import turn
from engine.data.formats.masks import Labels, MaskEncoding
from engine.data.formats.value_range import ValueRanges
from engine.data.rasters import Raster, Span, open_mask
from engine.data.sample import (
    DataError,
    Palette,
    Sample,
    Skipped,
    UnreadableSample,
    first_few,
    require_regular,
)
from engine.wording import quantity

# Control characters, and bytes without a meaning.
NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class UnprintableNames(DataError):
    """Names of images that a console and a text file cannot show."""


@dataclass(frozen=True)
class Pair:
    """One image and its mask; where a single file holds the masks of all images, `mask` is that file."""

    id: str
    image: Path
    mask: Path

    @property
    def mask_files(self) -> Sequence[Path]:
        return [self.mask]


def stored_in_file(pair: Pair) -> NDArray[Any]:
    """The mask as stored in its image file: (h, w), or (h, w, channels)."""
    return stored_values(pair.mask, pair.image)


def colours_in_file(pair: Pair) -> NDArray[Any]:
    """The mask as colours, (h, w, 3); a palette is applied."""
    return decode_mask(pair.mask, "RGB", pair.image)


def bytes_of_file(pair: Pair) -> bytes:
    """What the fingerprint covers of a mask: its file."""
    require_regular(pair.mask)
    return pair.mask.read_bytes()


class FileDataset:
    """One split of any format that keeps its images as files; a `Dataset`.

    Args:
        pairs: in the order of the split.
        class_names, palette: by label id.
        ignore_index: the label of unlabelled pixels.
        encoding: from the stored mask to label ids.
        read_mask: a pair's stored mask; the default decodes its file.
        mask_bytes: what the fingerprint covers of a pair's mask; None: its file.

    Raises:
        UnprintableNames: an id has characters that a console and a text file cannot show.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        class_names: tuple[str, ...],
        palette: Palette,
        ignore_index: int,
        encoding: MaskEncoding,
        read_mask: Callable[[Pair], NDArray[Any]] = stored_in_file,
        mask_bytes: Callable[[Pair], bytes] | None = None,
    ):
        self.ids = [pair.id for pair in pairs]
        if NOT_IN_NAMES.search("".join(self.ids)):
            odd = [repr(id) for id in self.ids if NOT_IN_NAMES.search(id)]
            raise UnprintableNames(
                f"{quantity(len(odd), 'image has', 'images have')} control characters, or bytes that are no "
                f"UTF-8, in the name: {first_few(odd)}. Rename them and their masks."
            )
        self.class_names, self.palette, self.ignore_index = class_names, palette, ignore_index
        self.skipped: Skipped | None = None
        self.bands: Bands = None  # of data.bands; None: RGB
        self.value_range: ValueRanges | None = None  # of images of more than 8 bits per channel
        self.note = ""  # on annotations that the format could not use, for the doctor
        self._pairs = list(pairs)
        self._encoding, self._read_mask, self._mask_bytes = encoding, read_mask, mask_bytes

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, indices: Sequence[int]) -> "FileDataset":
        """These images alone, in this order."""
        part = copy(self)
        part._pairs = [self._pairs[index] for index in indices]
        part.ids = [pair.id for pair in part._pairs]
        return part

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[index]
        image, orientation = image_pixels(pair.image, self.value_range, self.bands)  # (n, h, w)
        labels = self._labels(pair, (image.shape[1], image.shape[2]), orientation)
        return Sample(pair.id, torch.from_numpy(image), torch.from_numpy(labels))

    def image_path(self, index: int) -> Path:
        return self._pairs[index].image

    def mask_path(self, index: int) -> Path:
        return self._pairs[index].mask

    def mask_files(self, index: int) -> Sequence[Path]:
        return self._pairs[index].mask_files

    @property
    def encoding(self) -> MaskEncoding:
        """How a stored mask becomes label ids."""
        return self._encoding

    def stored_mask(self, index: int) -> NDArray[Any]:
        """The mask as stored: ids (h, w) or colours (h, w, channels), not rotated with its photo."""
        return self._read_mask(self._pairs[index])

    def labels(self, index: int) -> Tensor:
        """(h, w) uint8: the labels of `self[index]`; of the image only the header is read."""
        pair = self._pairs[index]
        return torch.from_numpy(self._labels(pair, *image_header(pair.image, self.bands)))

    def sizes(self) -> list[tuple[int, int]]:
        """(h, w) in pixels of each image as displayed, without decoding it; (0, 0) of a skipped one."""
        sizes = []
        for pair in self._pairs:
            try:
                sizes.append(image_header(pair.image, self.bands)[0])
            except UnreadableSample as error:
                if self.skipped is None:
                    raise
                self.skipped.note(pair.id, error)
                sizes.append((0, 0))
        return sizes

    def fingerprint(self) -> str:
        """Hash of classes, mask encoding, ids, the bytes of masks, the file sizes of images, bands and range.

        Reading the images too would take long."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for pair in self._pairs:
            try:
                mask = self._mask_digest(pair)
                num_bytes = pair.image.stat().st_size
            except OSError as error:
                if self.skipped is None:
                    raise UnreadableSample(f"{error.filename} cannot be read: {error.strerror}.") from error
                mask, num_bytes = "unreadable", 0
            digest.update(f"{pair.id} {num_bytes} {mask}\n".encode())
        digest.update(self._encoding.identity().encode())
        if self.bands is not None:
            digest.update(repr(self.bands).encode())
        if self.value_range is not None:
            digest.update(repr(self.value_range).encode())
        return digest.hexdigest()

    @contextmanager
    def open_labels(self, index: int, image: Raster) -> Iterator[Callable[[Span, Span], Labels]]:
        """A function of rows and columns -> (height, width) uint8, a part of `labels(index)`.

        Only masks that `open_mask` opens are read in parts.
        """
        pair, as_colours = self._pairs[index], self._read_mask is colours_in_file
        if as_colours or self._read_mask is stored_in_file:
            with open_mask(pair.mask, as_colours) as mask:
                if mask is not None:
                    _require_size(pair, mask.size, image.size)
                    yield lambda rows, columns: self._encoding(_stored(mask.read(rows, columns)), pair.mask)
                    return
        labels = self._labels(pair, image.size, image.orientation)
        yield lambda rows, columns: labels[..., slice(*rows), slice(*columns)]

    def _mask_digest(self, pair: Pair) -> str:
        if self._mask_bytes is not None:
            return hashlib.sha256(self._mask_bytes(pair)).hexdigest()
        require_regular(pair.mask)
        with pair.mask.open("rb") as file:  # which may be larger than the memory
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _labels(self, pair: Pair, shown: tuple[int, int], orientation: int) -> Labels:
        """(h, w), the size of the displayed image; of masks of several classes (C, h, w).

        A mask of the displayed size was drawn on the photo as viewers display it. One that fits only the
        stored pixels was drawn on those, so it is rotated with the image. Where both have one size (a square
        image, orientations 2 to 4) the two cannot be distinguished; annotation tools display photos upright,
        so the first is assumed. A mask with an orientation of its own was turned by `decode_mask`.
        """
        labels = self._encoding(self._read_mask(pair), pair.mask)
        size = labels.shape[-2:]
        if size != shown and size[::-1] == shown and orientation >= 5:
            bands = [turn(band, orientation) for band in labels.reshape(-1, *size)]
            labels = np.stack(bands).reshape(*labels.shape[:-2], *shown)
        _require_size(pair, labels.shape[-2:], shown)
        return labels


def _require_size(pair: Pair, size: tuple[int, ...], shown: tuple[int, int]) -> None:
    if size != shown:
        (h, w), (mask_h, mask_w) = shown, size
        hint = " Width and height are swapped." if size[::-1] == shown else ""
        raise DataError(f"{pair.mask} is {mask_w}x{mask_h} px, but its image {pair.image} is {w}x{h}.{hint}")


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """(n, h, w) as `decode_mask` gives it: (h, w) of one channel, else (h, w, n)."""
    return values[0] if len(values) == 1 else np.moveaxis(values, 0, 2)
