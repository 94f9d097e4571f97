"""What only the exports of CVAT hold."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.data.sample import UnreadableSample
from tests.engine.data.formats.annotated import CAT_OF_CVAT, H, W, message_of, opened, photo, write_cvat


@pytest.mark.parametrize(
    "body", ['<!ENTITY a "aa"><!ENTITY b "&a;&a;">', '<!ENTITY a SYSTEM "file:///etc/passwd">']
)
def test_xml_with_entities_is_refused(body: str, tmp_path: Path) -> None:
    write_cvat(
        tmp_path, '<polygon label="&a;" points="0,0;1,0;1,1"/>', head=f"<!DOCTYPE annotations [{body}]>"
    )
    assert "document type" in message_of(lambda: opened(tmp_path, "cvat"))


def test_layers_boxes_and_masks_of_cvat(tmp_path: Path) -> None:
    write_cvat(
        tmp_path,
        '<box label="cat" xtl="2" ytl="2" xbr="10" ybr="10" z_order="1"/>'
        '<box label="dog" xtl="0" ytl="0" xbr="6" ybr="6" z_order="0"/><tag label="indoors"/>'
        '<mask label="dog" rle="1, 2, 2, 1" left="20" top="30" width="3" height="2" z_order="0"/>',
    )
    labels = opened(tmp_path, "cvat").labels(0).numpy()
    expected = np.zeros((H, W), int)
    expected[0:6, 0:6] = 2
    expected[2:10, 2:10] = 1
    expected[30:32, 20:23] = [[0, 2, 2], [0, 0, 2]]
    assert labels.tolist() == expected.tolist()
    write_cvat(tmp_path, '<mask label="dog" rle="1, 2, 2" left="20" top="30" width="3" height="2"/>')
    assert "do not fill" in message_of(lambda: opened(tmp_path, "cvat")[0], UnreadableSample)
    write_cvat(tmp_path, '<mask label="dog" rle="0, 6" left="59" top="30" width="3" height="2"/>')
    assert "outside the image" in message_of(lambda: opened(tmp_path, "cvat")[0], UnreadableSample)


def test_the_coco_export_of_cvat(tmp_path: Path) -> None:
    for number in range(8):
        photo(tmp_path / f"images/default/{number}.png")
    box = [[0, 0, 4, 0, 4, 4, 0, 4]]
    rle = {"size": [H, W], "counts": [0, H * 3, H * (W - 3)]}
    attributes = {"attributes": {"occluded": False}}
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": H, "width": W} for n in range(8)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": n, "category_id": 1, "iscrowd": 1, "segmentation": rle, **attributes}
            for n in range(8)
        ]
        + [{"id": 2, "image_id": n, "category_id": 2, "iscrowd": 0, "segmentation": box} for n in range(8)],
    }
    path = tmp_path / "annotations/instances_default.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    splits = [opened(tmp_path, "coco", split, train="train", val="val", polygons={"val_share": 0.5})
              for split in ("train", "val")]  # fmt: skip
    assert sorted(splits[0].ids + splits[1].ids) == [str(n) for n in range(8)]
    expected = np.zeros((H, W), int)
    expected[:, :3] = 1  # a mask of CVAT, and no crowd
    expected[:4, :4] = 2
    assert splits[0].labels(0).tolist() == expected.tolist()
    section = {"train": "train", "val": "val", "classes": ["background", "cat"]}
    content["annotations"] = content["annotations"][8:]  # of dogs
    path.write_text(json.dumps(content))
    for other, id in ((None, 0), ("void", 255)):
        dataset = opened(tmp_path, "coco", **section, polygons={"val_share": 0.5, "other": other})
        assert dataset.labels(0)[0, 0] == id
    path.rename(path.with_name("instances_train.json"))
    path.with_name("instances_val.json").write_text("{}")
    message = message_of(
        lambda: opened(tmp_path, "coco", "train", train="train", val="val", polygons={"val_share": 0.5})
    )
    assert "has 2" in message and "data.polygons=null" in message


def test_an_image_of_cvat_without_a_name(tmp_path: Path) -> None:
    path = write_cvat(tmp_path, CAT_OF_CVAT)
    path.write_text(path.read_text().replace('name="a.png" ', ""))
    assert "image 0 has no name" in message_of(lambda: opened(tmp_path, "cvat"))
