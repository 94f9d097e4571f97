"""Two outlines, and the writers of four formats of annotations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image

from engine.data import open_split
from engine.data.options import Data
from engine.data.sample import DataError

H, W = 40, 60
NAMES = ["background", "cat", "dog"]
CAT = [(5.3, 4.2), (50.1, 8.7), (44.8, 36.4), (20.2, 30.9), (9.1, 35.5)]
DOG = [(25.4, 2.2), (58.9, 20.3), (30.6, 33.1)]
Shapes = list[tuple[str, list[tuple[float, float]]]]


def inside(points: list[tuple[float, float]]) -> np.ndarray:
    """(H, W): the pixels whose centre lies in the polygon, by shapely."""
    y, x = np.mgrid[:H, :W] + 0.5
    return shapely.contains_xy(shapely.Polygon(points), x, y)


def photo(path: Path, size: tuple[int, int] = (W, H)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 8, 7)).save(path)


def labelme_shape(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def write_labelme(root: Path, name: str, shapes: Any, **more: Any) -> Path:
    photo(root / "train" / f"{name}.png")
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png",
               "imageData": None, "imageHeight": H, "imageWidth": W, **more}  # fmt: skip
    path = root / "train" / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def write_yolo(root: Path, text: str) -> Path:
    photo(root / "train/images/a.png")
    (root / "train/labels").mkdir(exist_ok=True)
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n")
    path = root / "train/labels/a.txt"
    path.write_text(text)
    return path


def in_yolo(root: Path, shapes: Shapes) -> None:
    lines = [
        f"{NAMES.index(label) - 1} " + " ".join(f"{x / W:.9f} {y / H:.9f}" for x, y in points)
        for label, points in shapes
    ]
    write_yolo(root, "\n".join(lines))


def write_cvat(root: Path, inner: str, size: tuple[int, int] = (W, H), head: str = "") -> Path:
    photo(root / "train/images/a.png")
    path = root / "train/annotations.xml"
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>{head}<annotations><version>1.1</version>'
        f'<image id="0" name="a.png" width="{size[0]}" height="{size[1]}">{inner}</image></annotations>'
    )
    return path


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    return {"type": kind, "original_width": W, "original_height": H, "value": {**value, kind: [label]}}


def write_label_studio(root: Path, *tasks: Any) -> Path:
    photo(root / "train/images/a.png")
    path = root / "train/export.json"
    path.write_text(json.dumps(tasks))
    return path


def task_of(*regions: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-a.png") -> dict[str, Any]:
    return {"id": 7, "data": {"image": image}, "annotations": [{"id": 1, "result": [*regions]}]}


def opened(root: Path, format: str, split: str = "train", **more: Any):
    section = {"format": format, "root": str(root), "classes": NAMES, **more}
    return open_split(Data.model_validate(section), split)


def message_of(read: Callable[[], Any], kind: type[DataError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        read()
    return str(caught.value)


CAT_OF_CVAT = '<polygon label="cat" points="1,1;9,1;9,9" z_order="0"/>'
