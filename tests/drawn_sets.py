"""Three small drawn sets in three layouts: PASCAL VOC, COCO and a plain folder."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 40  # px
VOC_CLASSES = ["background", "cat", "sofa"]
COLOURS = {"cat": (200, 30, 30), "sofa": (30, 200, 30), "lorry": (30, 30, 200)}


def drawn(number: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(40, 40, 3) an image of one object on noise, and (40, 40) where the object is."""
    noise = np.random.default_rng([number, len(name)])
    image = noise.integers(60, 110, (SIDE, SIDE, 3), dtype=np.uint8)
    x, y = noise.integers(2, SIDE - 22, 2)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[y : y + 20, x : x + 20] = True
    image[inside] = COLOURS[name]
    return image, inside


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def voc_set(root: Path, first: int = 0) -> Path:
    """Ids 0 background, 1 cat, 2 sofa; 6 images to train on, 3 to score on. Returns the root."""
    for split, count, start in (("train", 6, first), ("val", 3, first + 100)):
        ids = []
        for number in range(start, start + count):
            name = ("cat", "sofa")[number % 2]
            image, inside = drawn(number, name)
            ids.append(f"{number:06d}")
            save(root / f"JPEGImages/{ids[-1]}.png", image)
            (root / f"JPEGImages/{ids[-1]}.png").rename(root / f"JPEGImages/{ids[-1]}.jpg")
            save(root / f"SegmentationClass/{ids[-1]}.png", inside * np.uint8(VOC_CLASSES.index(name)))
        (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def coco_set(root: Path) -> Path:
    """Outlines of couches and cats; 4 images to train on, 2 to score on."""
    for split, count, start in (("train", 4, 1000), ("val", 2, 1100)):
        images, annotations = [], []
        for number in range(start, start + count):
            category = number % 2 + 1
            image, inside = drawn(number, ("cat", "sofa")[category - 1])
            save(root / split / f"{number}.png", image)
            images.append({"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE})
            y, x = np.argwhere(inside)[0].tolist()
            outline = [x, y, x + 20, y, x + 20, y + 20, x, y + 20]
            annotations.append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": category,
                    "iscrowd": 0,
                    "segmentation": [outline],
                }
            )
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "couch"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / f"annotations/instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return root


def folder_set(root: Path) -> Path:
    """Ids 0 lorry, 1 background, 7 void; 5 images to train on, 2 to score on."""
    for split, count, start in (("train", 5, 2000), ("val", 2, 2100)):
        for number in range(start, start + count):
            image, inside = drawn(number, "lorry")
            mask = np.where(inside, 0, 1).astype(np.uint8)
            mask[0] = 7
            save(root / split / f"images/{number}.png", image)
            save(root / split / f"masks/{number}.png", mask)
    return root


def three_sets(folder: Path) -> str:
    """Draws them, and gives the list of a recipe's `data`."""
    voc_set(folder / "voc")
    coco_set(folder / "coco")
    folder_set(folder / "lorries")
    return f"""
data:
  - {{format: coco, root: {folder}/coco, train: train, val: val, classes: [background, cat, couch],
     map: {{couch: sofa}}}}
  - {{format: voc, root: {folder}/voc, train: train, classes: [background, cat, sofa], workers: 0}}
  - format: folder
    root: {folder}/lorries
    classes: [lorry, background]
    ignore_index: 7
    map: {{other: void}}
"""
