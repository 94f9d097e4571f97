"""Paths and files of a folder in the layout of VOC, and the message of an error in it."""

from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.formats.voc import voc_palette

TRAIN_0 = "train_000000"  # 40 x 56 px in the fixture


def image_path(root: Path, id: str = TRAIN_0) -> Path:
    return root / "JPEGImages" / f"{id}.jpg"


def mask_path(root: Path, id: str = TRAIN_0) -> Path:
    return root / "SegmentationClass" / f"{id}.png"


def split_path(root: Path, split: str = "train") -> Path:
    return root / "ImageSets/Segmentation" / f"{split}.txt"


def save_mask(labels: np.ndarray, path: Path, **options) -> None:
    """Ids in a palette PNG, as in VOC."""
    mask = Image.fromarray(labels.astype(np.uint8))
    mask.putpalette([value for colour in voc_palette() for value in colour])
    mask.save(path, **options)
