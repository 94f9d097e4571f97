"""Annotations of LabelMe, YOLO, CVAT and Label Studio: the masks that are drawn, and files that are wrong."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image

from engine.data import open_split
from engine.data.formats.label_studio import brush_area
from engine.data.options import Data
from engine.data.sample import DataError, UnreadableSample

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


def in_labelme(root: Path, shapes: Shapes) -> None:
    write_labelme(root, "a", [labelme_shape(label, points) for label, points in shapes])


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


def in_cvat(root: Path, shapes: Shapes) -> None:
    tags = [
        f'<polygon label="{label}" source="manual" occluded="0" '
        f'points="{";".join(f"{x},{y}" for x, y in points)}" z_order="0"></polygon>'
        for label, points in shapes
    ]
    write_cvat(root, "".join(tags))


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    return {"type": kind, "original_width": W, "original_height": H, "value": {**value, kind: [label]}}


def write_label_studio(root: Path, *tasks: Any) -> Path:
    photo(root / "train/images/a.png")
    path = root / "train/export.json"
    path.write_text(json.dumps(tasks))
    return path


def task_of(*regions: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-a.png") -> dict[str, Any]:
    return {"id": 7, "data": {"image": image}, "annotations": [{"id": 1, "result": [*regions]}]}


def in_label_studio(root: Path, shapes: Shapes) -> None:
    regions = [
        region("polygonlabels", label, points=[[100 * x / W, 100 * y / H] for x, y in points])
        for label, points in shapes
    ]
    write_label_studio(root, task_of(*regions))


WRITERS: dict[str, Callable[[Path, Shapes], None]] = {
    "labelme": in_labelme, "yolo": in_yolo, "cvat": in_cvat, "label_studio": in_label_studio,
}  # fmt: skip


def opened(root: Path, format: str, split: str = "train", **more: Any):
    section = {"format": format, "root": str(root), "classes": NAMES, **more}
    return open_split(Data.model_validate(section), split)


def message_of(read: Callable[[], Any], kind: type[DataError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        read()
    return str(caught.value)


@pytest.mark.parametrize("format", WRITERS)
def test_masks_are_those_of_an_independent_library(format: str, tmp_path: Path) -> None:
    WRITERS[format](tmp_path, [("dog", DOG), ("cat", CAT)])
    cat, dog = inside(CAT), inside(DOG)
    assert (cat & dog).sum() > 100 and cat.sum() > dog.sum()
    for overlap in ("order", "area", None):
        dataset = opened(tmp_path, format, polygons={"overlap": overlap})
        smaller_on_top = overlap == "area" or (overlap is None and format == "yolo")
        first, second = ((cat, 1), (dog, 2)) if smaller_on_top else ((dog, 2), (cat, 1))
        expected = np.zeros((H, W), int)
        for area, label in (first, second):
            expected[area] = label
        assert dataset.ids == ["a"] and dataset.labels(0).tolist() == expected.tolist()
        assert dataset[0].labels.tolist() == expected.tolist() and dataset.sizes() == [(H, W)]


@pytest.mark.parametrize("format", WRITERS)
def test_the_fingerprint_covers_the_annotation(format: str, tmp_path: Path) -> None:
    prints = []
    for shapes in ([("dog", DOG)], [("cat", DOG)], [("dog", DOG)]):
        WRITERS[format](tmp_path, shapes)
        prints.append(opened(tmp_path, format).fingerprint())
    assert prints[0] == prints[2] != prints[1]


@pytest.mark.parametrize("format", ["labelme", "cvat", "label_studio"])
def test_labels_of_no_class(format: str, tmp_path: Path) -> None:
    WRITERS[format](tmp_path, [("cat", CAT), ("dgo", DOG)])
    message = message_of(lambda: opened(tmp_path, format).labels(0))
    assert "'dgo'" in message and "it names 'dog'" in message and "data.polygons.other=void" in message
    assert '"dgo"' in message  # the whole list, ready to paste
    for other, id in (("background", 0), ("void", 255)):
        labels = opened(tmp_path, format, polygons={"other": other}).labels(0).numpy()
        assert (labels[inside(DOG)] == id).all()
    WRITERS[format](
        tmp_path, [("cat", CAT), ("_background_", DOG), ("__ignore__", [(0, 0), (3, 0), (3, 3), (0, 3)])]
    )
    labels = opened(tmp_path, format).labels(0).numpy()
    assert (labels[inside(DOG)] == 0).all() and (labels[:3, :3] == 255).all()


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(5, 4), (50, 8)], "2 points, and needs three"),
        ([(5, 4), (50, 8), (float("nan"), 3)], "no number"),
        ([(5, 4), (50, 8), (500, 3)], "outside the image|shares of width"),
    ],
)
def test_damaged_outlines_follow_on_error(format: str, points: Any, words: str, tmp_path: Path) -> None:
    WRITERS[format](tmp_path, [("cat", points)])
    if format == "yolo" and len(points) == 2:
        return  # four numbers are a box there, which has a test of its own
    message = message_of(lambda: opened(tmp_path, format)[0], UnreadableSample)
    assert any(word in message for word in words.split("|")), message
    assert "a.png" in message and "data.on_error=skip" in message


def test_a_box_of_yolo_is_no_mask(tmp_path: Path) -> None:
    write_yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    message = message_of(lambda: opened(tmp_path, "yolo")[0])
    assert "a box" in message and "line 1" in message
    write_yolo(tmp_path, "7 0.1 0.1 0.5 0.1 0.5 0.5")
    assert "class 7 has no name" in message_of(lambda: opened(tmp_path, "yolo")[0])
    write_yolo(tmp_path, "0 0.1 0.1 x 0.1 0.5 0.5")
    assert "not a class and numbers" in message_of(lambda: opened(tmp_path, "yolo")[0], UnreadableSample)


@pytest.mark.parametrize(
    "names", ["names: 3", "names: cat", "names: [[a, b]]", "names: {a: cat}", "- 1", "names: [a"]
)
def test_a_description_of_yolo_that_is_wrong(names: str, tmp_path: Path) -> None:
    in_yolo(tmp_path, [("cat", CAT)])
    (tmp_path / "data.yaml").write_text(f"{names}\n")
    assert "data.yaml" in message_of(lambda: opened(tmp_path, "yolo"))


def test_an_image_without_a_text_file_of_yolo_has_no_object(tmp_path: Path) -> None:
    in_yolo(tmp_path, [("cat", CAT)])
    photo(tmp_path / "train/images/b.png")
    dataset = opened(tmp_path, "yolo")
    assert dataset.ids == ["a", "b"] and dataset.labels(1).max() == 0
    assert len(dataset.fingerprint()) == 64


@pytest.mark.parametrize("format", ["labelme", "cvat", "label_studio"])
def test_another_size_than_the_annotated_one(format: str, tmp_path: Path) -> None:
    WRITERS[format](tmp_path, [("cat", CAT)])
    image = next(tmp_path.rglob("a.png"))
    photo(image, (W // 2, H // 2))
    message = message_of(lambda: opened(tmp_path, format)[0])
    assert "60x40" in message and "30x20" in message and "Use the image that was annotated" in message


@pytest.mark.parametrize("format", WRITERS)
def test_missing_images_and_splits(format: str, tmp_path: Path) -> None:
    WRITERS[format](tmp_path, [("cat", CAT)])
    assert "'nosuch'" in message_of(lambda: opened(tmp_path, format, "nosuch"))
    assert "no folder" in message_of(lambda: opened(tmp_path / "x", format))
    next(tmp_path.rglob("a.png")).unlink()
    message = message_of(lambda: opened(tmp_path, format))
    assert "missing" in message or "no annotations" in message


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("labelme", '{"shapes": [{"label": "cat"'),
        ("labelme", ""),
        ("labelme", '{"shapes": [{"label": "cat"}]}'),
        ("labelme", '{"shapes": 3}'),
        ("labelme", '{"shapes": ' + "[" * 100_000),
    ],
)
def test_a_cut_file_is_an_unreadable_sample(format: str, text: str, tmp_path: Path) -> None:
    path = write_labelme(tmp_path, "a", [])
    path.write_text(text)
    assert "a.json" in message_of(lambda: opened(tmp_path, format)[0], UnreadableSample)


def test_a_cut_export_is_named(tmp_path: Path) -> None:
    path = write_label_studio(tmp_path, task_of())
    path.write_text(path.read_text()[:-20])
    assert "export.json is not complete JSON" in message_of(lambda: opened(tmp_path, "label_studio"))
    for spoilt in ([{**task_of(), "annotations": ["x"]}], [{"image": "a.png", "data": 3}]):
        path.write_text(json.dumps(spoilt))
        assert "not Label Studio's JSON export" in message_of(lambda: opened(tmp_path, "label_studio"))
    path = write_cvat(tmp_path / "cvat", "")
    path.write_text(path.read_text()[:-20])
    assert "annotations.xml is not complete XML" in message_of(lambda: opened(tmp_path / "cvat", "cvat"))
    path.write_text("<annotations><version>1.1</version></annotations>")
    assert "annotations.xml lists no images" in message_of(lambda: opened(tmp_path / "cvat", "cvat"))


@pytest.mark.parametrize(
    "body", ['<!ENTITY a "aa"><!ENTITY b "&a;&a;">', '<!ENTITY a SYSTEM "file:///etc/passwd">']
)
def test_xml_with_entities_is_refused(body: str, tmp_path: Path) -> None:
    write_cvat(
        tmp_path, '<polygon label="&a;" points="0,0;1,0;1,1"/>', head=f"<!DOCTYPE annotations [{body}]>"
    )
    assert "document type" in message_of(lambda: opened(tmp_path, "cvat"))


def test_two_annotations_of_one_image(tmp_path: Path) -> None:
    write_labelme(tmp_path, "a", [])
    (tmp_path / "train/b.json").write_text(json.dumps({"shapes": [], "imagePath": "a.png"}))
    message = message_of(lambda: opened(tmp_path, "labelme"))
    assert "a.png is annotated 2 times" in message and "b.json" in message
    both = task_of()
    both["annotations"] *= 2
    write_label_studio(tmp_path / "studio", both)
    assert "task 7 has 2 annotations" in message_of(lambda: opened(tmp_path / "studio", "label_studio"))
    both["annotations"] = [{**both["annotations"][0], "was_cancelled": True}, both["annotations"][0]]
    write_label_studio(tmp_path / "studio", both, {**task_of(), "id": 8, "annotations": []})
    dataset = opened(tmp_path / "studio", "label_studio")
    assert dataset.ids == ["a"] and "left out: 1 (ids 8)" in dataset.note


def test_other_shapes_of_labelme(tmp_path: Path) -> None:
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 2] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    shapes = [
        labelme_shape("cat", [[1, 1], [5, 3]], "rectangle"),
        labelme_shape("dog", [[30, 20], [30, 26]], "circle"),
        labelme_shape("dog", [[10, 20], [13, 22]], "mask", mask=text),
    ]
    write_labelme(tmp_path, "a", shapes)
    labels = opened(tmp_path, "labelme").labels(0).numpy()
    y, x = np.mgrid[:H, :W] + 0.5
    expected = 2 * (np.hypot(x - 30, y - 20) < 6)
    expected[1:3, 1:5] = 1
    expected[21, 12] = 2
    assert labels.tolist() == expected.tolist()
    for spoilt in ("", "AAAA", base64.b64encode(file.getvalue()[:40]).decode()):
        write_labelme(tmp_path, "a", [labelme_shape("dog", [[10, 20], [13, 22]], "mask", mask=spoilt)])
        assert "a mask that cannot be read" in message_of(
            lambda: opened(tmp_path, "labelme")[0], UnreadableSample
        )
    for kind, points in (("point", [[3, 3]]), ("linestrip", [[3, 3], [4, 4], [9, 9]])):
        write_labelme(tmp_path, "a", [labelme_shape("cat", points, kind)])
        assert f"a {kind} of 'cat' has no area" in message_of(lambda: opened(tmp_path, "labelme")[0])


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


def packed(values: list[int], widths: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """Values of 8 bits in the stream of thi.ng/rle-pack: runs, and single values as literals."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    place = 0
    while place < len(values):
        length = 1
        while place + length < len(values) and values[place + length] == values[place] and length < 2**16:
            length += 1
        which = next(i for i, width in enumerate(widths) if length - 1 < 2**width)
        bits += f"{int(length > 1)}{which:02b}{length - 1:0{widths[which]}b}{values[place]:08b}"
        place += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_brushes_and_turned_boxes_of_label_studio(tmp_path: Path) -> None:
    mask = inside(CAT) & ~inside(DOG)  # with a bay, or holes
    rle = packed(np.repeat(mask.ravel() * 255, 4).tolist())
    assert brush_area(rle, H, W).tolist() == mask.tolist()
    box = {"x": 50.0, "y": 0.0, "width": 20.0, "height": 10.0, "rotation": 90}
    write_label_studio(
        tmp_path,
        task_of(region("brushlabels", "cat", format="rle", rle=rle), region("rectanglelabels", "dog", **box)),
    )
    expected = mask.astype(int)
    expected[0:12, 26:30] = 2  # 12 px wide and 4 high, turned about (30, 0)
    assert opened(tmp_path, "label_studio").labels(0).tolist() == expected.tolist()
    for spoilt in (rle[: len(rle) // 2], [], packed([255] * 8)):
        with pytest.raises(UnreadableSample, match="brush"):
            brush_area(spoilt, H, W)


def test_splits_by_share_list_and_subset(tmp_path: Path) -> None:
    for number in range(40):
        write_labelme(tmp_path, f"a{number}", [])
    halves = [
        opened(tmp_path, "labelme", split, polygons={"val_share": 0.5}).ids for split in ("train", "val")
    ]
    assert min(map(len, halves)) > 5 and sorted(halves[0] + halves[1]) == sorted(
        f"train/a{n}" for n in range(40)
    )
    (tmp_path / "few.txt").write_text("train/a3.png\na5\n")
    message = message_of(lambda: opened(tmp_path, "labelme", "few"))
    assert "a5" in message
    (tmp_path / "few.txt").write_text("train/a3.png\ntrain/a5\n")
    assert opened(tmp_path, "labelme", "few").ids == ["train/a3", "train/a5"]
    path = write_cvat(tmp_path / "cvat", "")
    photo(tmp_path / "cvat/train/images/Val/b.png")
    text = path.read_text().replace("<image ", '<image subset="Train" ')
    second = '<image id="1" name="b.png" subset="Val" width="60" height="40"/></annotations>'
    path.write_text(text.replace("</annotations>", second))
    assert opened(path.parent, "cvat", "Train").ids == ["a"]
    assert opened(path.parent, "cvat", "Val").ids == ["b"]
    assert "no annotations" in message_of(lambda: opened(path.parent, "cvat", "test"))


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


def test_one_folder_of_yolo_is_divided_by_a_share(tmp_path: Path) -> None:
    for number in range(20):
        photo(tmp_path / f"images/{number}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{number}.txt").write_text("0 0.0 0.0 0.5 0.0 0.5 1.0 0.0 1.0\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: {0: cat, 1: dog}\n")
    splits = [opened(tmp_path, "yolo", split, polygons={"val_share": 0.5}) for split in ("train", "val")]
    assert sorted(splits[0].ids + splits[1].ids) == sorted(str(number) for number in range(20))
    assert min(map(len, splits)) > 2 and splits[0].labels(0).sum() == H * W / 2


def test_paths_of_another_machine_and_lists_of_yolo(tmp_path: Path) -> None:
    in_yolo(tmp_path, [("cat", CAT)])
    photo(tmp_path / "train/images/b.png")
    (tmp_path / "mine.txt").write_text("./train/images/b.png\n")
    (tmp_path / "data.yaml").write_text(
        "path: /home/else/data\ntrain: /home/else/data/train/images\nval: mine.txt\nnames: [cat, dog]\n"
    )
    assert opened(tmp_path, "yolo").ids == ["a", "b"]
    assert opened(tmp_path, "yolo", "val").ids == ["train/images/b"]


def without(key: str, of: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in of.items() if name != key}


CAT_OF_LABELME = labelme_shape("cat", CAT)
MASK_OF_LABELME = labelme_shape("cat", [[1, 1], [5, 5]], "mask", mask="AAAA")
CAT_OF_LABEL_STUDIO = region("polygonlabels", "cat", points=[[1, 1], [9, 1], [9, 9]])
KEYPOINT = region("keypointlabels", "cat", x=1, y=1, width=1)
CAT_OF_CVAT = '<polygon label="cat" points="1,1;9,1;9,9" z_order="0"/>'


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (without("points", CAT_OF_LABELME), "shape 0: 'points' is missing"),
        (without("label", CAT_OF_LABELME), "shape 0: it has no label"),
        (CAT_OF_LABELME | {"label": None}, "shape 0: it has no label"),
        (CAT_OF_LABELME | {"points": [["a", 1], [2, 2], [3, 1]]}, "shape 0: .*'cat'.*not two numbers"),
        (MASK_OF_LABELME, "a mask that cannot be read"),
        (without("mask", MASK_OF_LABELME), "shape 0: 'mask' is missing"),
        ("cat", "shape 0: a value is of another kind"),
        ('<blob label="cat"/>', "shape 0: a blob of 'cat' has no area"),
        (CAT_OF_CVAT.replace('label="cat" ', ""), "shape 0: 'label' is missing"),
        (CAT_OF_CVAT.replace("1,1;", "1;"), "shape 0: .*'cat'.*not two numbers"),
        (without("original_width", CAT_OF_LABEL_STUDIO), "region 0: 'original_width' is missing"),
        (region("brushlabels", "cat", format="rle"), "region 0: 'rle' is missing"),
        (KEYPOINT, "region 0: keypointlabels of 'cat' cannot be drawn"),
    ],
)
def test_a_shape_that_is_not_as_its_format_has_it_is_named(shape: Any, words: str, tmp_path: Path) -> None:
    """And `data.on_error: skip` leaves its image out: the error is an UnreadableSample."""
    if isinstance(shape, str) and shape.startswith("<"):
        format = "cvat"
        write_cvat(tmp_path, shape)
    elif "original_height" in shape:
        format = "label_studio"
        write_label_studio(tmp_path, task_of(shape))
    else:
        format = "labelme"
        write_labelme(tmp_path, "a", [shape])
    assert re.search(words, message_of(lambda: opened(tmp_path, format)[0], UnreadableSample))


def test_an_image_of_cvat_without_a_name(tmp_path: Path) -> None:
    path = write_cvat(tmp_path, CAT_OF_CVAT)
    path.write_text(path.read_text().replace('name="a.png" ', ""))
    assert "image 0 has no name" in message_of(lambda: opened(tmp_path, "cvat"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
@pytest.mark.parametrize("format", ["labelme", "label_studio"])
def test_json_of_any_unicode(format: str, encoding: str, tmp_path: Path) -> None:
    WRITERS[format](tmp_path, [("cat", CAT)])
    [path] = (tmp_path / "train").glob("*.json")
    path.write_text(path.read_text(), encoding=encoding)
    assert (opened(tmp_path, format).labels(0).numpy() == inside(CAT)).all()


def test_text_files_of_yolo_without_an_image_are_noted(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, "0 .1 .1 .5 .1 .5 .5")
    path.with_name("b.txt").write_text("")
    path.with_name("classes.txt").write_text("cat")
    assert re.search(r"not used: 1 \(.*b\.txt\)", opened(tmp_path, "yolo").note)


@pytest.mark.parametrize("format", WRITERS)
def test_where_a_share_finds_nothing_it_says_what_it_looked_for(format: str, tmp_path: Path) -> None:
    photo(tmp_path / "pictures/a.png")
    message = message_of(lambda: opened(tmp_path, format, polygons={"val_share": 0.2}))
    assert "There: pictures" in message and "val_share" not in message
