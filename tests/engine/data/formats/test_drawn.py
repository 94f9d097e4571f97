"""LabelMe, YOLO, CVAT and Label Studio alike: the masks that are drawn, and files that are wrong."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from engine.data.sample import UnreadableSample
from tests.engine.data.formats.annotated import (
    CAT,
    CAT_OF_CVAT,
    DOG,
    H,
    Shapes,
    W,
    in_yolo,
    inside,
    labelme_shape,
    message_of,
    opened,
    photo,
    region,
    task_of,
    write_cvat,
    write_label_studio,
    write_labelme,
)


def in_labelme(root: Path, shapes: Shapes) -> None:
    write_labelme(root, "a", [labelme_shape(label, points) for label, points in shapes])


def in_cvat(root: Path, shapes: Shapes) -> None:
    tags = [
        f'<polygon label="{label}" source="manual" occluded="0" '
        f'points="{";".join(f"{x},{y}" for x, y in points)}" z_order="0"></polygon>'
        for label, points in shapes
    ]
    write_cvat(root, "".join(tags))


def in_label_studio(root: Path, shapes: Shapes) -> None:
    regions = [
        region("polygonlabels", label, points=[[100 * x / W, 100 * y / H] for x, y in points])
        for label, points in shapes
    ]
    write_label_studio(root, task_of(*regions))


WRITERS: dict[str, Callable[[Path, Shapes], None]] = {
    "labelme": in_labelme, "yolo": in_yolo, "cvat": in_cvat, "label_studio": in_label_studio,
}  # fmt: skip


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


@pytest.mark.parametrize("format", ["labelme", "cvat", "label_studio"])
def test_another_size_than_the_annotated_one(format: str, tmp_path: Path) -> None:
    WRITERS[format](tmp_path, [("cat", CAT)])
    image = next(tmp_path.rglob("a.png"))
    photo(image, (W // 2, H // 2))
    message = message_of(lambda: opened(tmp_path, format)[0])
    assert "60x40" in message and "30x20" in message and "Use the image that was annotated" in message


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("format", WRITERS)
def test_images_of_bands_that_pillow_does_not_read(format: str, tmp_path: Path) -> None:
    """Their masks are those of the same annotations on RGB."""
    WRITERS[format](tmp_path, [("dog", DOG), ("cat", CAT)])
    expected = opened(tmp_path, format).labels(0).tolist()
    image = next(tmp_path.rglob("a.png"))
    image.unlink()
    layout = {"driver": "GTiff", "count": 5, "height": H, "width": W, "dtype": np.uint8}
    with rasterio.open(image.with_suffix(".tif"), "w", **layout) as file:
        file.write(np.zeros((5, H, W), np.uint8))
    for text in (path for path in tmp_path.rglob("*") if path.suffix in (".json", ".xml")):
        text.write_text(text.read_text().replace("a.png", "a.tif"))
    dataset = opened(tmp_path, format, bands=5)
    assert dataset[0].labels.tolist() == dataset.labels(0).tolist() == expected


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


def without(key: str, of: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in of.items() if name != key}


CAT_OF_LABELME = labelme_shape("cat", CAT)
MASK_OF_LABELME = labelme_shape("cat", [[1, 1], [5, 5]], "mask", mask="AAAA")
CAT_OF_LABEL_STUDIO = region("polygonlabels", "cat", points=[[1, 1], [9, 1], [9, 9]])
KEYPOINT = region("keypointlabels", "cat", x=1, y=1, width=1)


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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
@pytest.mark.parametrize("format", ["labelme", "label_studio"])
def test_json_of_any_unicode(format: str, encoding: str, tmp_path: Path) -> None:
    WRITERS[format](tmp_path, [("cat", CAT)])
    [path] = (tmp_path / "train").glob("*.json")
    path.write_text(path.read_text(), encoding=encoding)
    assert (opened(tmp_path, format).labels(0).numpy() == inside(CAT)).all()


@pytest.mark.parametrize("format", WRITERS)
def test_where_a_share_finds_nothing_it_says_what_it_looked_for(format: str, tmp_path: Path) -> None:
    photo(tmp_path / "pictures/a.png")
    message = message_of(lambda: opened(tmp_path, format, polygons={"val_share": 0.2}))
    assert "There: pictures" in message and "val_share" not in message
