"""Small inputs that provoke the messages, drawn into the working folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RECIPE = """\
name: r
data: {format: voc, root: voc, train: train}
model: {variant: b0, decoder_width: 16, from_scratch: true}
augment: {crop: 32}
schedule: {warmup: 0}
train: {steps: 2, batch: 2}
eval: {every: 2}
log: {every: 1, to: [], images: 0}
"""
VOC = "{format: voc, root: voc, train: train}"
FOLDER = RECIPE.replace(VOC, "{format: folder, root: own, classes: [a, b]}")
H, W = 40, 56


def photo(path: str, seed: int) -> None:
    save(path, np.random.default_rng(seed).integers(0, 255, (H, W, 3)).astype(np.uint8))


def save(path: str, pixels: np.ndarray) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def draw_mask(value: Any = 15, rest: Any = 0) -> np.ndarray:
    """A box of one value on another; a value may be a colour."""
    mask = np.full((H, W, *np.shape(value)), rest, np.uint8)
    mask[10:30, 10:40] = value
    return mask


def voc(root: str = "voc", mask: np.ndarray | None = None) -> None:
    """Four photos to train on and two to score, in VOC layout."""
    lists = {"train": [f"t{n}" for n in range(4)], "val": ["v0", "v1"]}
    for split, ids in lists.items():
        write(f"{root}/ImageSets/Segmentation/{split}.txt", "\n".join(ids) + "\n")
        for number, id in enumerate(ids):
            photo(f"{root}/JPEGImages/{id}.jpg", number + 10 * len(split))
            save(f"{root}/SegmentationClass/{id}.png", draw_mask() if mask is None else mask)


def own(images: str, masks: str, mask: np.ndarray | None = None, count: int = 4) -> None:
    """Photos and masks in own/, named by patterns with {} and, where there are two splits, SPLIT."""
    for split in ("train", "val") if "SPLIT" in images else ("all",):
        for number in range(count):
            path = f"own/{images}".replace("SPLIT", split).format(number)
            photo(path, number + 100 * len(split))
            path = f"own/{masks}".replace("SPLIT", split).format(number)
            save(path, draw_mask(1) if mask is None else mask)


def coco(categories: list[str], outline: bool = True) -> None:
    polygon = [[10, 10, 40, 10, 40, 30, 10, 30]] if outline else []
    for split in ("train2017", "val2017"):
        images, objects = [], []
        for number in range(3):
            photo(f"coco/{split}/{number}.jpg", number + 10 * len(split))
            images.append({"id": number, "file_name": f"{number}.jpg", "height": H, "width": W})
            object = {"id": number, "image_id": number, "category_id": len(categories), "iscrowd": 0}
            objects.append({**object, "segmentation": polygon})
        kinds = [{"id": number, "name": name} for number, name in enumerate(categories, start=1)]
        content = {"images": images, "annotations": objects, "categories": kinds}
        write(f"coco/annotations/instances_{split}.json", json.dumps(content))


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def masks_of(value: int) -> Callable[[], None]:
    return lambda: own("SPLIT/images/{}.jpg", "SPLIT/masks/{}.png", draw_mask(value))


def annotated(label: str = "b", end: str = "") -> Callable[[], None]:
    """Photos with a LabelMe file next to each; `end` is written after its first half."""

    def draw() -> None:
        for number in range(40):
            photo(f"own/images/{number}.jpg", number)
            shape = {"label": label, "points": [[5, 5], [40, 5], [40, 30]], "shape_type": "polygon"}
            text = json.dumps({
                "imagePath": f"{number}.jpg", "imageHeight": H, "imageWidth": W,
                "shapes": [shape],
            })  # fmt: skip
            write(f"own/images/{number}.json", text if not end or number else text[: len(text) // 2])

    return draw


def damaged() -> None:
    voc()
    path = Path("voc/JPEGImages/t0.jpg")
    path.write_bytes(path.read_bytes()[:300])


def forty() -> None:
    own("images/{}.jpg", "masks/{}.png", count=40)
