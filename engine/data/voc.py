"""PASCAL VOC layout: JPEGImages/*.jpg, SegmentationClass/*.png of ids, ImageSets/Segmentation/*.txt.

Knows nothing of batches, augmentation or the other formats.
"""

import difflib
import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from engine.data.sample import DataError, Palette, Sample

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def voc_palette(num_colours: int = 256) -> Palette:
    """The VOC colour map: the bits of the id, three at a time, are the high bits of red, green, blue."""
    ids = np.arange(num_colours)
    rgb = np.zeros((num_colours, 3), dtype=np.int64)
    for bit in range(8):
        for channel in range(3):
            rgb[:, channel] |= ((ids >> (3 * bit + channel)) & 1) << (7 - bit)
    return tuple((int(r), int(g), int(b)) for r, g, b in rgb)


class VocDataset:
    """One split of a folder in VOC layout.

    Args:
        root: the folder that holds JPEGImages, SegmentationClass and ImageSets.
        split: a list in ImageSets/Segmentation, such as "trainaug".
        class_names: by label id.
        ignore_index: the id of void pixels.

    Raises:
        DataError: no such folder or split, or images or masks missing: all of them counted, the first few
            named.
    """

    def __init__(
        self, root: str, split: str, class_names: tuple[str, ...] = VOC_CLASSES, ignore_index: int = 255
    ):
        self.class_names = class_names
        self.palette = voc_palette(len(class_names))
        self.ignore_index = ignore_index
        self._root = Path(root).expanduser()
        self.ids = self._read_split(split)
        self._require_files("image", self._image_path)
        self._require_files("mask", self._mask_path)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        id = self.ids[index]
        image = _decode(self._image_path(id), "RGB")  # (h, w, 3)
        labels = self.labels(index)  # (h, w)
        if image.shape[:2] != labels.shape:
            (h, w), (mask_h, mask_w) = image.shape[:2], labels.shape
            mask, photo = self._mask_path(id), self._image_path(id)
            raise DataError(f"{mask} is {mask_w}x{mask_h} px, but its image {photo} is {w}x{h}.")
        return Sample(id, torch.from_numpy(image).permute(2, 0, 1).contiguous(), labels)

    def labels(self, index: int) -> torch.Tensor:
        mask = self._mask_path(self.ids[index])
        labels = _decode(mask, None)  # (h, w)
        self._check_labels(mask, labels)
        return torch.from_numpy(labels)

    def sizes(self) -> list[tuple[int, int]]:
        sizes = []
        for id in self.ids:
            with _opened(self._image_path(id)) as image:
                sizes.append((image.height, image.width))
        return sizes

    def fingerprint(self) -> str:
        """Of classes, ids, the bytes of masks and, as those take long to read, the file sizes of images."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for id in self.ids:
            mask = hashlib.sha256(self._mask_path(id).read_bytes()).hexdigest()
            digest.update(f"{id} {self._image_path(id).stat().st_size} {mask}\n".encode())
        return digest.hexdigest()

    def _image_path(self, id: str) -> Path:
        return self._root / "JPEGImages" / f"{id}.jpg"

    def _mask_path(self, id: str) -> Path:
        return self._root / "SegmentationClass" / f"{id}.png"

    def _read_split(self, split: str) -> list[str]:
        if not self._root.is_dir():
            raise DataError(
                f"data.root: no folder {self._root}. It should hold JPEGImages, SegmentationClass and "
                "ImageSets; type data.root=<your VOC2012 folder> behind the command."
            )
        lists = self._root / "ImageSets" / "Segmentation"
        if not lists.is_dir():
            below = [path for up in ("*", "*/*") for path in self._root.glob(f"{up}/ImageSets/Segmentation")]
            hint = (
                f"Did you mean data.root={below[0].parents[1]}?" if below else "Type data.root=<its folder>."
            )
            raise DataError(f"data.root: {self._root} is not in VOC layout, {lists} is missing. {hint}")
        path = lists / f"{split}.txt"
        if not path.is_file():
            there = sorted(p.stem for p in lists.glob("*.txt"))
            close = difflib.get_close_matches(split, there, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise DataError(
                f"No split {split!r}: {path} is missing. Splits there: {', '.join(there) or 'none'}.{hint}"
            )
        ids = path.read_text().split()
        if not ids:
            raise DataError(f"Split {split!r} is empty: {path} names no image.")
        twice = sorted({id for id in ids if ids.count(id) > 1}) if len(set(ids)) < len(ids) else []
        if twice:
            raise DataError(f"{path} names {_first_few(twice)} more than once; keep one line an image.")
        return ids

    def _require_files(self, what: str, path_of) -> None:
        there = {p.name for p in path_of("x").parent.glob("*")}
        missing = [str(path_of(id)) for id in self.ids if path_of(id).name not in there]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self.ids)} {what} files are missing: {_first_few(missing)}."
            )

    def _check_labels(self, mask: Path, labels: np.ndarray) -> None:
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise DataError(
                f"{mask} is no mask of ids (palette or 8-bit grey PNG): it decodes to {labels.shape}."
            )
        ids = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
        outside = [int(i) for i in ids if i >= len(self.class_names) and i != self.ignore_index]
        if outside:
            raise DataError(
                f"{mask} holds label ids {_first_few(outside)}, outside the {len(self.class_names)} "
                f"classes of the recipe (0..{len(self.class_names) - 1}, void {self.ignore_index}). "
                "Name every class in data.classes, or set data.ignore_index to the id of void."
            )


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, ValueError, Image.DecompressionBombError) as error:  # Pillow, on broken headers
        raise DataError(
            f"{path} cannot be read as an image: {error}. Replace it, or take its id out of the split."
        ) from error


def _decode(path: Path, mode: str | None) -> np.ndarray:
    with _opened(path) as image:
        try:
            return np.array(image.convert(mode) if mode else image)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on broken streams
            raise DataError(
                f"{path} is damaged: {error}. Replace it, or take its id out of the split."
            ) from error


def _first_few(items: list, count: int = 5) -> str:
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(str(item) for item in items[:count]) + more
