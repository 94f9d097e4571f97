"""Label maps as LabelMe and COCO, read back: the masks are the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import open_split
from engine.data.options import Data
from engine.diagnosis.label_check import ShownSuspect
from engine.diagnosis.suspects import Suspect
from engine.reporting.annotations import Export, labelme_content
from models.class_names import VOC

NAMES = ("background", "lake", "island")


def read_back(folder: Path, format: str, names: tuple[str, ...], **more) -> list[np.ndarray]:
    section = {"format": format, "root": str(folder), "classes": list(names), **more}
    dataset = open_split(Data.model_validate(section), "corrected")
    return [dataset.labels(index).numpy() for index in range(len(dataset))]


def nested() -> np.ndarray:
    """A lake with an island that has a pond, a hole of background, and void; another object at the edge."""
    labels = np.zeros((60, 80), np.uint8)
    labels[5:50, 5:60] = 1
    labels[10:40, 10:30] = 2
    labels[15:25, 15:25] = 1
    labels[20:40, 40:55] = 0
    labels[25:30, 45:50] = 2
    labels[42:47, 10:50] = 255
    labels[50:, 70:] = 2
    return labels


def test_holes_and_parts_in_holes_come_back(tmp_path: Path) -> None:
    labels = nested()
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(json.dumps(labelme_content(labels, NAMES, 0, "a.png")))
    (tmp_path / "corrected.txt").write_text("a\n")
    [found] = read_back(tmp_path, "labelme", NAMES)
    assert found.tolist() == labels.tolist()


def suspects(maps: list[np.ndarray]) -> list[ShownSuspect]:
    import torch

    from engine.data import Sample

    shown = []
    for number, labels in enumerate(maps):
        image = torch.full((3, *labels.shape), number, dtype=torch.uint8)
        sample = Sample(f"some/{number}", image, torch.from_numpy(labels))
        shown.append(ShownSuspect(Suspect(sample.id, 0.5, []), sample, labels.astype(np.int64), [], None))
    return shown


@pytest.mark.parametrize("format", ["labelme", "coco"])
def test_an_export_is_read_as_data_in_the_order_of_suspicion(format: str, tmp_path: Path) -> None:
    first = np.where(nested() == 255, 0, nested()).astype(np.uint8)
    maps = [first, first[::-1].copy(), np.zeros((20, 30), np.uint8)]
    shown = suspects(maps)
    passed = list(Export(tmp_path / "corrected", format, NAMES, 0).passing(shown))
    assert passed == shown
    root = tmp_path if format == "labelme" else tmp_path / "corrected"
    found = read_back(root, format, NAMES)
    assert [labels.tolist() for labels in found] == [labels.tolist() for labels in maps]
    names = sorted(path.name for path in (tmp_path / "corrected").rglob("*.png"))
    assert names == ["0001_0.png", "0002_1.png", "0003_2.png"]


def test_masks_of_photos_survive_a_round_trip(shared_voc: Path, tmp_path: Path) -> None:
    """VOC's masks have thin void rims, the hardest outlines; of every class, over the masks, IoU > 0.99."""
    intersection, union = np.zeros(256), np.zeros(256)
    originals = {}
    for path in sorted((shared_voc / "SegmentationClass").glob("*.png"))[:20]:
        labels = np.array(Image.open(path))
        originals[path.stem] = labels
        Image.new("RGB", labels.shape[::-1]).save(tmp_path / path.name)
        content = json.dumps(labelme_content(labels, VOC, 0, path.name))
        (tmp_path / f"{path.stem}.json").write_text(content)
    (tmp_path / "corrected.txt").write_text("\n".join(originals))
    for labels, found in zip(originals.values(), read_back(tmp_path, "labelme", VOC), strict=True):
        for id in np.union1d(labels, found):
            intersection[id] += ((labels == id) & (found == id)).sum()
            union[id] += ((labels == id) | (found == id)).sum()
    there = union > 0
    assert there.sum() > 5
    assert (intersection[there] / union[there]).min() > 0.99
