"""A data set without faults: every class in every mask, in equal shares, and photos that all differ."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SIZE = (96, 112)  # (h, w): 3 x 7 fields of 32 x 16 px, one per class
SPLITS = {"train": 8, "val": 4}


class Tree:
    """A folder in VOC layout that a test puts a fault into."""

    def __init__(self, root: Path):
        from engine.data.formats.voc import voc_palette

        self.root = root
        self.palette = [value for colour in voc_palette() for value in colour]
        self.rng = np.random.default_rng(0)
        for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (root / folder).mkdir(parents=True)
        for split, number in SPLITS.items():
            self.write_list(split, [f"{split}_{i}" for i in range(number)])
        for id in self.ids():
            self.save_image(id, self.photo())
            self.save_mask(id, self.labels())

    def photo(self, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
        """(h, w, 3): coarse noise, so that no two are similar, even as thumbnails."""
        coarse = Image.fromarray(self.rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        return np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))

    def labels(self) -> NDArray[np.uint8]:
        """(h, w): one field per class, in random order, surrounded by void."""
        fields = self.rng.permutation(21).reshape(3, 7).astype(np.uint8)
        labels = fields.repeat(32, axis=0).repeat(16, axis=1)
        labels[np.arange(96) % 32 < 2] = labels[:, np.arange(112) % 16 < 2] = 255
        return labels

    def ids(self, split: str | None = None) -> list[str]:
        splits = [split] if split else list(SPLITS)
        return [id for name in splits for id in self.list_path(name).read_text().split()]

    def list_path(self, split: str) -> Path:
        return self.root / "ImageSets/Segmentation" / f"{split}.txt"

    def write_list(self, split: str, ids: list[str]) -> None:
        self.list_path(split).write_text("\n".join(ids) + "\n")

    def image(self, id: str) -> Path:
        return self.root / "JPEGImages" / f"{id}.jpg"

    def mask(self, id: str) -> Path:
        return self.root / "SegmentationClass" / f"{id}.png"

    def read_mask(self, id: str) -> NDArray[np.uint8]:
        return np.array(Image.open(self.mask(id)))

    def save_image(self, id: str, pixels: NDArray[np.uint8], **options) -> None:
        Image.fromarray(pixels).save(self.image(id), **{"quality": 95, **options})

    def save_mask(self, id: str, labels: NDArray[np.uint8], palette: list[int] | None = None) -> None:
        mask = Image.fromarray(labels.astype(np.uint8))
        mask.putpalette(self.palette if palette is None else palette)
        mask.save(self.mask(id))

    def change_masks(self, change: Callable[[NDArray], NDArray], ids: list[str] | None = None) -> None:
        """Replace each mask by what `change` returns for it, with VOC's palette where that is ids."""
        for id in ids or self.ids():
            pixels = change(self.read_mask(id))
            if pixels.ndim == 2 and pixels.dtype == np.uint8:
                self.save_mask(id, pixels)
            else:
                kind = "TIFF" if pixels.dtype.kind in "fi" else "PNG"  # PNG has no such pixels
                Image.fromarray(pixels).save(self.mask(id), kind)

    def colours(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) of VOC's palette."""
        return np.array(self.palette, np.uint8).reshape(256, 3)[labels]

    def smoothed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w) or (h, w, 3) resized to half and back with interpolation, a common mistake with masks."""
        h, w = pixels.shape[:2]
        small = Image.fromarray(pixels).resize((w // 2, h // 2), Image.Resampling.BILINEAR)
        return np.asarray(small.resize((w, h), Image.Resampling.BILINEAR))

    def sort_palette(self, id: str) -> None:
        """A palette image as some editors save it: the same colours in another order."""
        order = np.random.default_rng(1).permutation(256)
        palette = np.array(self.palette).reshape(256, 3)[np.argsort(order)]
        self.save_mask(id, order[self.read_mask(id)], palette.ravel().tolist())

    def cut(self, path: Path, share: float) -> None:
        """Keep the first `share` of a file."""
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])

    def section(self, **values):
        """A recipe's `data`."""
        from engine.data.options import Data

        return Data.model_validate({"format": "voc", "root": str(self.root), "train": "train", **values})

    def examine(self, **values):
        """What the doctor finds where `section(**values)` is the recipe's `data`."""
        from engine.data.doctor import examine, list_samples_of

        return examine(list_samples_of(self.section(**values)), lambda done, total: None)

    def findings(self, **values) -> list:
        return self.examine(**values).report.findings


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "VOC2012")
