"""Masks of classes that may overlap (data.labels: multi): a file for each class, or one with a band each.

The masks of an image are found by name in one of three layouts:

- a folder for each class:   masks/<class>/<name>.png
- a suffix for each class:   masks/<name>_<class>.png
- a band for each class:     masks/<name>.tif, .npy or .png, in the order of data.classes

A mask holds 0, 1, and 255 for void; or with data.folder.values: binary 0 and 255. Shapes: C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.bands import Bands
from engine.data.formats.bands import ARRAY, decode_mask, image_header, read_bands
from engine.data.formats.files import FileDataset, Pair, bytes_of_file
from engine.data.formats.masks import Labels, single_channel, value_text
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError, first_few
from engine.wording import quantity, some_of

VOID = 255
NUM_PROBED = 16  # images whose masks are checked when the split is opened


@dataclass(frozen=True)
class ClassFiles(Pair):
    """An image with a mask file for each class, None for a class without; `mask` is the first file."""

    masks: tuple[Path | None, ...] = ()

    @property
    def mask_files(self) -> Sequence[Path]:
        return [path for path in self.masks if path]


@dataclass(frozen=True)
class ClassMasks:
    """(C, h, w) bands of stored values -> (C, h, w) uint8: 1 where the class is, 0 where not, 255 unknown.

    binary: every value above 0 is the class, and there is no void.
    """

    class_names: tuple[str, ...]
    binary: bool

    def __call__(self, stored: NDArray[Any], path: Path) -> Labels:
        if len(stored) != len(self.class_names):
            raise DataError(
                f"{path} has {quantity(len(stored), 'band')}, but data.classes has {len(self.class_names)} "
                f"({first_few(self.class_names)}). Save a band for each class, in this order, or name the "
                "classes of the bands in data.classes."
            )
        for name, band in zip(self.class_names, stored, strict=True):
            known = (band == 0) | (band == 1) | (band == VOID)
            if not known.all():
                strange = [value_text(value) for value in np.unique(band[~known]).tolist()]
                raise DataError(
                    f"{path}: the mask of {name} holds {first_few(strange)}. A mask of one class holds 0, 1 "
                    "where the class is, and 255 where it is unknown. Soft edges come from resizing or from "
                    "JPEG: save masks as PNG, resized with nearest neighbour."
                )
        return (stored > 0).astype(np.uint8) if self.binary else stored.astype(np.uint8)

    def identity(self) -> str:
        return f"masks of {len(self.class_names)} classes, binary {self.binary}"


def class_mask_dataset(
    pairs: Sequence[Pair], class_names: tuple[str, ...], is_binary: bool, bands: Bands
) -> FileDataset:
    """The data set of these images, whose labels are (C, h, w).

    Args:
        pairs: of `class_files`, or with a mask file of bands each.
        is_binary: masks hold 0 and 255.
        bands: of the images.

    Raises:
        DataError: masks of 0 and 255 would be read as void.
    """
    encoding = ClassMasks(class_names, is_binary)

    def read(pair: Pair) -> NDArray[Any]:
        if isinstance(pair, ClassFiles):
            return _of_files(pair, encoding, bands)
        if len(class_names) == 1 and pair.mask.suffix.lower() != ARRAY:
            return _of_files(ClassFiles(pair.id, pair.image, pair.mask, (pair.mask,)), encoding, bands)
        return read_bands(pair.mask, len(class_names)).values

    dataset = FileDataset(
        pairs, class_names, voc_palette(len(class_names) + 1)[1:], VOID, encoding, read, _bytes_of_files
    )
    if not is_binary:
        _refuse_white(dataset)
    return dataset


def class_files(
    images: Mapping[Path, str],
    masks: Mapping[Path, str],
    class_names: Sequence[str],
    mask_suffix: str | None,
    may_lack: bool,
    is_chosen: Callable[[str], bool],
) -> list[ClassFiles] | None:
    """The images of a split with their mask files; None where no mask is named by a class.

    Args:
        images, masks: files and their names below their folders, without extension.
        mask_suffix: of data.folder, removed from the names of masks.
        may_lack: an image may have no mask file of a class.
        is_chosen: whether an image, by its name, belongs to the split.

    Raises:
        DataError: masks of no class or of no image, or images without the mask of a class.
    """
    names = {name: path for path, name in images.items()}
    found: list[dict[str, Path]] = [{} for _ in class_names]
    classless = []
    for path, name in masks.items():
        belongs = _class_and_image(name.removesuffix(mask_suffix or ""), class_names)
        if belongs is None:
            classless.append(path)
            continue
        place, image = belongs
        if image not in names:
            raise DataError(f"{path}: there is no image {image!r} for this mask of {class_names[place]}.")
        if image in found[place]:
            raise DataError(f"{path} and {found[place][image]} are both masks of {class_names[place]}.")
        found[place][image] = path
    if not any(found):
        return None
    if classless:
        raise DataError(
            f"{some_of(len(classless), len(masks), 'mask', 'is', 'are')} named by no class of data.classes "
            f"({first_few(class_names)}): {first_few(classless)}. Name its class there, or move it away."
        )
    chosen = [name for name in names if is_chosen(name)]
    for class_name, of_class in zip(class_names, found, strict=True):
        lacking = [name for name in chosen if name not in of_class]
        if lacking and not may_lack:
            raise DataError(
                f"Class {class_name}: {some_of(len(lacking), len(chosen), 'image', 'has', 'have')} no mask "
                f"file of it: {first_few(lacking)}. If it is not on these images, type "
                "data.folder.missing_masks=empty"
            )
    files = {name: tuple(of_class.get(name) for of_class in found) for name in chosen}
    return [
        ClassFiles(name, names[name], next((path for path in masks_ if path), names[name]), masks_)
        for name, masks_ in sorted(files.items())
    ]


def _class_and_image(name: str, class_names: Sequence[str]) -> tuple[int, str] | None:
    """The place of the class and the name of the image that the name of a mask means."""
    first, _, rest = name.partition("/")
    if rest and first in class_names:
        return class_names.index(first), rest
    ends = [class_name for class_name in class_names if name.endswith(("_" + class_name, "-" + class_name))]
    if not ends:
        return None
    longest = max(ends, key=len)
    return class_names.index(longest), name[: -len(longest) - 1]


def _of_files(pair: ClassFiles, encoding: ClassMasks, bands: Bands) -> NDArray[Any]:
    """(C, h, w), each file checked by itself, so that a message names it."""
    layers: list[NDArray[Any] | None] = []
    for name, path in zip(encoding.class_names, pair.masks, strict=True):
        layer = None
        if path is not None:
            stored = decode_mask(path, photo=pair.image)
            layer = single_channel(stored)
            if layer is None:
                raise DataError(
                    f"{path} is not a mask of one class: it decodes to {stored.shape} with colours. Save it "
                    "with one channel."
                )
            ClassMasks((name,), encoding.binary)(layer[None], path)
        layers.append(layer)
    sizes = {layer.shape: path for layer, path in zip(layers, pair.masks, strict=True) if layer is not None}
    if len(sizes) > 1:
        texts = [f"{path} has {w}x{h}" for (h, w), path in sizes.items()]
        raise DataError(f"Masks of one image differ in size: {first_few(texts)} px.")
    shape = next(iter(sizes), None) or image_header(pair.image, bands)[0]
    return np.stack([np.zeros(shape, np.uint8) if layer is None else layer for layer in layers])


def _bytes_of_files(pair: Pair) -> bytes:
    """What the fingerprint covers: the bytes of all mask files."""
    if not isinstance(pair, ClassFiles):
        return bytes_of_file(pair)
    parts = [bytes_of_file(Pair(pair.id, pair.image, path)) if path else b"" for path in pair.masks]
    return b"".join(len(part).to_bytes(8) + part for part in parts)


def _refuse_white(dataset: FileDataset) -> None:
    """Raises DataError for masks of 0 and 255: as they stand, white is void, and no class is anywhere."""
    indices = np.linspace(0, len(dataset) - 1, min(NUM_PROBED, len(dataset))).astype(int)
    values: set[int] = set()
    for index in indices:
        try:
            values |= set(np.unique(dataset.stored_mask(int(index))).tolist())
        except DataError:  # reported, or skipped, when it is read
            continue
    if values == {0, VOID}:
        raise DataError(
            f"The masks, such as {dataset.mask_path(0)}, hold only 0 and 255, and 255 is void: no class "
            "would be anywhere. Type data.folder.values=binary if 255 is where the class is."
        )
