"""Outlines, boxes and run lengths in the files of annotation tools."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.data import open_split
from engine.doctor import main as doctor
from engine.new import main
from engine.prepare import main as prepare
from engine.recipe import load_recipe
from tests.engine.new.drawn import H, W, draw, new_recipe, require_labels, save, write


def coco_split(split: str, **changes: object) -> None:
    outline = [[10, 10, 60, 10, 60, 40, 10, 40]]
    for number in range(2):
        save(Path(f"data/{split}/{number}.jpg"), np.zeros((H, W, 3), np.uint8))
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(2)]
    objects = [{"id": 1, "image_id": 0, "category_id": 4, "iscrowd": 0, "segmentation": outline}]
    content = {"images": images, "annotations": objects, "categories": [{"id": 4, "name": "cat"}], **changes}
    write(f"annotations/instances_{split}.json", json.dumps(content))


def test_coco_without_the_sizes_of_its_images() -> None:
    for split in ("train", "val"):
        coco_split(split)
    assert (open_split(new_recipe().data, "val").labels(0) == 1).sum() == 50 * 30


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": [{"id": 0, "file_name": "gone.jpg"}]}, "1 of 1 image file is missing: "),
        ({"annotations": [{"id": 1, "image_id": 0, "category_id": 4, "bbox": [1, 1, 5, 5]}]}, "Boxes alone"),
    ],
)
def test_what_is_wrong_with_a_file_of_coco_is_said_alone(changes: dict, said: str, capsys) -> None:
    for split in ("train", "val"):
        coco_split(split, **changes)
    assert main(["data"]) == 2
    error = capsys.readouterr().err
    assert said in error and "annotations/instances_train.json" in error
    assert "Looked for" not in error and "cannot be paired" not in error and "move them so" not in error


def test_coco_with_a_background_category() -> None:
    outline = [[10, 10, 60, 10, 60, 40, 10, 40]]
    for split in ("train", "val"):
        save(Path(f"data/{split}/0.jpg"), np.zeros((H, W, 3), np.uint8))
        categories = [{"id": 0, "name": "_background_"}, {"id": 4, "name": "cat"}]
        objects = [{"id": 1, "image_id": 0, "category_id": 4, "iscrowd": 0, "segmentation": outline}]
        images = [{"id": 0, "file_name": "0.jpg", "height": H, "width": W}]
        content = {"images": images, "annotations": objects, "categories": categories}
        write(f"annotations/instances_{split}.json", json.dumps(content))
    recipe = new_recipe()
    assert recipe.data.format == "coco" and recipe.data.classes == ["background", "cat"]
    assert (open_split(recipe.data, "val").labels(0) == 1).sum() == 50 * 30


LABELME = {"version": "5.2.1", "shapes": [{"label": "cat", "points": [[1, 2], [3, 4], [5, 6]]}]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("images/f0.json", json.dumps({**LABELME, "imagePath": "f0.png"}), "1 file of polygons of labelme"),
        ("via.json", '{"_via_settings": {}, "_via_img_metadata": {}}', "the VGG Image Annotator"),
        ("labels/f0.txt", "0 0.1 0.2 0.3 0.2\n", "Boxes alone are no masks"),
        ("annotations.xml", '<annotations><polygon label="cat" points="1,2"/></annotations>', "CVAT"),
        ("result.json", '{"images": [], "annotations": [], "categories": []}', "lists no categories"),
    ],
)
def test_annotations_that_are_no_masks_are_named(capsys, name: str, text: str, said: str) -> None:
    for number in range(3):
        save(Path(f"data/images/f{number}.png"), np.zeros((H, W, 3), np.uint8))
    write(name, text)
    assert main(["data"]) == 2
    printed = capsys.readouterr().err
    assert said in printed and f"data/{name}" in printed


def write_labelme(folder: str, numbers: range) -> None:
    for number in numbers:
        save(Path("data", folder, f"f{number}.png"), np.full((H, W, 3), 90 + number, np.uint8))
        boxes = (("cat", [[20, 20 + number], [60, 50]]), ("dog", [[60, 55], [90, 75]]))
        shapes = [{"label": label, "shape_type": "rectangle", "points": points} for label, points in boxes]
        content = {"shapes": shapes, "imagePath": f"f{number}.png", "imageHeight": H, "imageWidth": W}
        write(f"{folder}/f{number}.json", json.dumps(content))


def write_yolo(split: str, numbers: range) -> None:
    write("data.yaml", "train: ../train/images\nval: ../valid/images\nnames: {0: cat, 1: dog}\n")
    for number in numbers:
        save(Path("data", split, "images", f"f{number}.png"), np.full((H, W, 3), 90 + number, np.uint8))
        lines = []
        for label, (x0, y0, x1, y1) in enumerate(((20, 20 + number, 60, 50), (60, 55, 90, 75))):
            corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
            lines.append(f"{label} " + " ".join(f"{x / W:.6f} {y / H:.6f}" for x, y in corners))
        write(f"{split}/labels/f{number}.txt", "\n".join(lines))


def write_cvat(numbers: range) -> None:
    images = []
    for number in numbers:
        save(Path("data", "images", f"f{number}.png"), np.full((H, W, 3), 90 + number, np.uint8))
        box = '<box label="{}" xtl="{}" ytl="{}" xbr="{}" ybr="{}" z_order="0"/>'
        inner = box.format("cat", 20, 20 + number, 60, 50) + box.format("dog", 60, 55, 90, 75)
        images.append(f'<image name="f{number}.png" width="{W}" height="{H}">{inner}</image>')
    write("annotations.xml", f"<annotations>{''.join(images)}</annotations>")


def write_label_studio(numbers: range) -> None:
    tasks = []
    for number in numbers:
        save(Path("data", "images", f"f{number}.png"), np.full((H, W, 3), 90 + number, np.uint8))
        regions = [
            {"type": "rectanglelabels", "original_width": W, "original_height": H, "value": {
                "x": 100 * x0 / W, "y": 100 * y0 / H, "width": 100 * (x1 - x0) / W,
                "height": 100 * (y1 - y0) / H, "rectanglelabels": [label]}}
            for label, (x0, y0, x1, y1) in (("cat", (20, 20 + number, 60, 50)), ("dog", (60, 55, 90, 75)))
        ]  # fmt: skip
        data = {"image": f"/data/upload/3/0a1b2c3d-f{number}.png"}
        tasks.append({"id": number, "data": data, "annotations": [{"result": regions}]})
    write("project.json", json.dumps(tasks))


def test_outlines_may_name_images_in_another_folder(capsys) -> None:
    write_labelme("photos", range(8))
    Path("data/truth").mkdir()
    for path in sorted(Path("data/photos").glob("*.json")):
        content = json.loads(path.read_text())
        write(f"truth/{path.name}", json.dumps(content | {"imagePath": f"../photos/{path.stem}.png"}))
        path.unlink()
    assert new_recipe().data.format == "labelme"
    assert doctor(["data"]) == 0
    output = capsys.readouterr().out
    assert "8 samples" in output and "not used" not in output and "without a file" not in output


@pytest.mark.parametrize(
    ("format", "draw_all"),
    [
        ("labelme", lambda: (write_labelme("train", range(3)), write_labelme("val", range(3, 5)))),
        ("yolo", lambda: (write_yolo("train", range(3)), write_yolo("valid", range(3, 5)))),
    ],
)
def test_annotated_splits(format: str, draw_all, capsys) -> None:
    draw_all()
    recipe = new_recipe()
    assert recipe.data.format == format and recipe.data.classes == ["background", "cat", "dog"]
    require_labels(recipe, 3, 2)
    assert doctor(["data"]) == 0
    assert "outlines of 2 classes, cat, dog" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("format", "draw_all"),
    [
        ("labelme", lambda: write_labelme(".", range(20))),
        ("cvat", lambda: write_cvat(range(20))),
        ("label_studio", lambda: write_label_studio(range(20))),
    ],
)
def test_annotations_without_splits_and_their_masks(format: str, draw_all) -> None:
    draw_all()
    recipe = new_recipe()
    assert recipe.data.format == format and 0 < recipe.data.polygons.val_share < 0.5
    train, val = (open_split(recipe.data, split) for split in ("train", "val"))
    require_labels(recipe, len(train), len(val))
    assert len(train) + len(val) == 20
    assert prepare(["masks", "data", "--out", "drawn"]) == 0
    assert prepare(["masks", "data.yaml", "--out", "drawn"]) == 2  # nothing is overwritten
    assert main(["drawn"]) == 0
    of_masks = load_recipe("drawn.yaml")
    assert of_masks.data.format == "folder"
    require_labels(of_masks, len(train), len(val))
    assert list(of_masks.data.classes) == ["background", "cat", "dog"]


@pytest.mark.parametrize(
    "file", ["annotations/instances_default.json", "annotations/all.json", "result.json"]
)
def test_a_single_file_of_coco_is_divided(file: str, capsys) -> None:
    outline = {"segmentation": [[10, 10, 60, 10, 60, 40, 10, 40]], "category_id": 3, "iscrowd": 0}
    for number in range(4):
        draw(f"images/f{number}.png", "unused/{}.png", range(1))
    sizes = {"width": W, "height": H}
    content = {
        "images": [{"id": n, "file_name": f"f{n}.png", **sizes} for n in range(4)],
        "annotations": [{"id": n, "image_id": n, **outline} for n in range(4)],
        "categories": [{"id": 3, "name": "tooth"}],
    }
    write(file, json.dumps(content))
    write("setup.json", '{"images": "none"}')
    recipe = new_recipe()
    train, val = (open_split(recipe.data, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 1) and list(recipe.data.classes) == ["background", "tooth"]
    assert int((train.labels(0) == 1).sum()) == 50 * 30
    Path("data.yaml").unlink()
    for image in content["images"]:
        image |= {"width": H, "height": W}
    write(file, json.dumps(content))
    new_recipe(exit_code=2)
    said = " ".join(capsys.readouterr().out.split())
    assert "width and height are swapped" in said and "Correct width and height of these images in" in said
    assert file in said and "Export these masks" not in said


def test_run_lengths_in_a_csv_file(capsys) -> None:
    draw("train_images/f{}.jpg", "drawn/f{}.png", range(5))
    shutil.rmtree("data/drawn")
    rows = [f"f{number}.jpg,{id},{(id - 1) * 240 + 1} 80" for number in range(5) for id in (1, 2)]
    write("train.csv", "\n".join(["ImageId,ClassId,EncodedPixels", *rows]))
    recipe = new_recipe()
    assert recipe.data.format == "rle_csv" and list(recipe.data.classes) == [
        "background",
        "class_1",
        "class_2",
    ]
    train = open_split(recipe.data, "train")
    expected = np.zeros((H, W), np.uint8)
    expected[:, 0], expected[:, 3] = 1, 2
    assert len(train) == 4 and (train.labels(0).numpy() == expected).all()
    assert prepare(["masks", "data.yaml", "--out", "masks"]) == 0


def test_two_annotated_images_are_divided() -> None:
    write_labelme(".", range(2))
    recipe = new_recipe()
    assert recipe.data.classes == ["background", "cat", "dog"]
    require_labels(recipe, 1, 1)


def test_a_cut_annotation_is_named(capsys) -> None:
    write_labelme("train", range(3))
    write_labelme("val", range(3, 5))
    path = Path("data/train/f1.json")
    path.write_text(path.read_text()[:-30])
    assert main(["data"]) == 2
    assert prepare(["masks", "data", "--out", "drawn"]) == 2
    captured = capsys.readouterr()
    assert "f1.json is not complete JSON" in captured.err and not Path("drawn").exists()
    write_cvat(range(3))
    write("annotations.xml", Path("data/annotations.xml").read_text()[:-30])
    assert doctor(["data"]) == 2
