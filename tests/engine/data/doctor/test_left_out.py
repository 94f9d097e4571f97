"""What the doctor says of images that are passed over, and of objects without an outline."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.data import open_split
from engine.data.doctor import examine, list_samples_of
from engine.data.options import Data
from tests.drawn_sets import save


def findings(data: Data) -> dict:
    report = examine(list_samples_of(data), lambda done, total: None).report
    return {found.check: found for found in report.findings}


@pytest.mark.parametrize(
    "extra",
    [
        "train/images/.ipynb_checkpoints/0-checkpoint.png",
        "train/images/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "train/images/._0.png",
        "train/masks/__MACOSX/0.png",
        "train/.Trash-1000/files/0.png",
        "@Recycle/0.png",
        "train/images/Thumbs.db",
        "val/masks/thumbs.db",
        "val/images/desktop.ini",
        "train/masks/.DS_Store",
        "train/Desktop.ini",
    ],
)
def test_what_tools_leave_is_left_out_and_counted(tmp_path: Path, extra: str) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(2):
            photo = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
            save(tmp_path / split / f"images/{number}.png", photo)
            save(tmp_path / split / f"masks/{number}.png", (photo[..., 0] > 99).astype(np.uint8))
    data = Data.model_validate({"format": "folder", "root": str(tmp_path), "classes": ["a", "b"]})
    (tmp_path / "train/images/notes.txt").write_bytes(b"of the user")
    (tmp_path / "train/images/.vscode").mkdir()
    assert "passed_over" not in findings(data)
    path = tmp_path / extra
    if path.suffix in (".png", ".jpg"):
        save(path, np.zeros((8, 8, 3), np.uint8))
    else:
        path.write_bytes(b"no image")
    assert len(open_split(data, "train")) == 2
    found = findings(data)["passed_over"]
    assert found.severity == "note" and found.what.endswith(": 1")
    [where] = found.where
    assert (tmp_path / extra).is_relative_to(where)


def test_arrays_next_to_other_images_are_left_out_and_counted(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (40, 48, 3)).astype(np.uint8)
    for split in ("train", "val"):
        save(tmp_path / split / "images/0.png", photo)
        save(tmp_path / split / "masks/0.png", (photo[..., 0] > 99).astype(np.uint8))
    np.save(tmp_path / "train/images/1.npy", photo)
    data = Data.model_validate({"format": "folder", "root": str(tmp_path), "classes": ["a", "b"]})
    assert findings(data)["passed_over"].where == (str(tmp_path / "train/images/1.npy"),)


def test_objects_without_an_outline_are_counted(tmp_path: Path) -> None:
    objects = [
        {"id": 5, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9]},
        {"id": 6, "image_id": 1, "category_id": 1, "segmentation": [[20, 20, 40, 20, 40, 40]]},
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 48, "height": 40}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": objects,
    }
    for split in ("train", "val"):
        save(tmp_path / split / "1.png", np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
    data = Data.model_validate(
        {
            "format": "coco",
            "root": str(tmp_path),
            "train": "train",
            "val": "val",
            "classes": ["background", "cat"],
        }
    )
    found = findings(data)["no_outline"]
    assert found.severity == "hurts" and "_annotations.coco.json: 1 (ids 5)" in found.what
