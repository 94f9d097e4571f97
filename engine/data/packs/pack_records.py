"""The bytes of a sample in a pack, in either layout.

"encoded": copies of the image and mask files, if decoding them gives exactly the sample of the data set;
otherwise (colour-coded masks, synthetic scenes) a PNG of the pixels. The bands of data.bands are one PNG, one
below the other, and so are the masks of classes that may overlap. "decoded": the pixels themselves, (n, h, w)
and (h, w) uint8, or masks (C, h, w). A layout first plans each
sample, which gives the length of its records, and later makes the records; it keeps no bytes in between.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engine.data.bands import RGB
from engine.data.class_counts import counts_of
from engine.data.formats.files import FileDataset
from engine.data.packs.packed import decoded_image, decoded_labels, decoded_stack
from engine.data.sample import DataError, Dataset, Sample


@dataclass(frozen=True)
class SamplePlan:
    """What will be written of one sample: lengths, and the files that will be copied."""

    index: int
    num_image_bytes: int
    num_label_bytes: int
    image_file: Path | None = None
    mask_file: Path | None = None
    sha256: bytes = b""  # of both records, if planning has read them

    @property
    def num_bytes(self) -> int:
        return self.num_image_bytes + self.num_label_bytes


@dataclass(frozen=True)
class Record:
    """What is written of one sample; size (h, w), counts (C,) pixels of each class.

    Of masks (C, h, w), counts are (C + 1,): the last is that of pixels that are void in all of them.
    """

    image: bytes
    labels: bytes
    size: tuple[int, int]
    counts: NDArray[np.int64]


class Decoded:
    """Records that need no decoding."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self._sizes, self._num_bands = dataset.sizes(), len(dataset.bands or RGB)
        self._num_masks = len(dataset.class_names) if has_masks_of_classes(dataset) else 1

    def plan(self, index: int) -> SamplePlan:
        h, w = self._sizes[index]
        return SamplePlan(index, self._num_bands * h * w, self._num_masks * h * w)

    def record(self, plan: SamplePlan) -> Record:
        sample = self.dataset[plan.index]
        image, labels = (pixels.numpy().tobytes() for pixels in (sample.image, sample.labels))
        if (len(image), len(labels)) != (plan.num_image_bytes, plan.num_label_bytes):
            raise _changed(self.dataset, plan.index)
        return _record(image, labels, sample.labels, self.dataset)


class Encoded:
    """Records as small as the files."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self._files = dataset if isinstance(dataset, FileDataset) else None
        masks = {self._files.mask_path(index) for index in range(len(dataset))} if self._files else set()
        self._has_masks = len(masks) == len(dataset)  # COCO has one file for all masks

    def plan(self, index: int) -> SamplePlan:
        sample = self.dataset[index]
        image_file = self._files.image_path(index) if self._files else None
        mask_file = self._files.mask_path(index) if self._files and self._has_masks else None
        has_bands = self.dataset.bands is not None
        if image_file and (has_bands or not _holds(image_file, decoded_image, sample.image)):
            image_file = None
        if mask_file and not _holds(mask_file, decoded_labels, sample.labels):
            mask_file = None
        image, labels = _encoded(image_file, mask_file, sample, has_bands)
        return SamplePlan(index, len(image), len(labels), image_file, mask_file, _sha256(image, labels))

    def record(self, plan: SamplePlan) -> Record:
        are_copies = plan.image_file and plan.mask_file
        sample = None if are_copies else self.dataset[plan.index]
        image, labels = _encoded(plan.image_file, plan.mask_file, sample, self.dataset.bands is not None)
        if _sha256(image, labels) != plan.sha256:
            raise _changed(self.dataset, plan.index)
        if sample is not None and sample.labels.dim() == 3:
            ids = decoded_stack(labels, sample.labels.shape)
        else:
            ids = decoded_labels(labels)
        return _record(image, labels, ids, self.dataset)


LAYOUTS: dict[str, type[Encoded] | type[Decoded]] = {"encoded": Encoded, "decoded": Decoded}


def has_masks_of_classes(dataset: Dataset) -> bool:
    """Whether its labels are masks (C, h, w) of classes that may overlap."""
    return dataset.labels(0).dim() == 3


def _holds(file: Path, decoded: Callable[[bytes], Tensor], pixels: Tensor) -> bool:
    """Whether decoding the bytes of the file gives exactly these pixels."""
    try:
        found = decoded(file.read_bytes())
    except (DataError, OSError):  # not an image: the data set has another way to read it
        return False
    return found.dtype == pixels.dtype and torch.equal(found, pixels)


def _encoded(
    image_file: Path | None, mask_file: Path | None, sample: Sample | None, has_bands: bool
) -> tuple[bytes, bytes]:
    """The bytes of image and labels: copies of their files, or PNGs of the sample's pixels."""
    if image_file and mask_file:
        return image_file.read_bytes(), mask_file.read_bytes()
    assert sample is not None
    pixels = sample.image.flatten(0, 1) if has_bands else sample.image.permute(1, 2, 0)  # (n h, w), (h, w, 3)
    image = image_file.read_bytes() if image_file else _png(pixels)
    return image, mask_file.read_bytes() if mask_file else _png(sample.labels.flatten(0, -2))  # (C h, w)


def _png(pixels: Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.numpy())).save(buffer, "PNG")
    return buffer.getvalue()


def _record(image: bytes, labels: bytes, ids: Tensor, dataset: Dataset) -> Record:
    of_ids = [*range(len(dataset.class_names)), *[dataset.ignore_index] * (ids.dim() == 3)]
    counts = counts_of(ids, dataset.ignore_index)[of_ids]
    return Record(image, labels, (ids.shape[-2], ids.shape[-1]), counts)


def _sha256(image: bytes, labels: bytes) -> bytes:
    return hashlib.sha256(image).digest() + hashlib.sha256(labels).digest()


def _changed(dataset: Dataset, index: int) -> DataError:
    return DataError(f"{dataset.ids[index]} changed while it was being packed. Type the same command again.")
