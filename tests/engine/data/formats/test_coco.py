"""COCO instances on a tiny data set: classes by name, small over large objects, crowds, and invalid files."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from engine.data.bands import band_names
from engine.data.formats.coco import MOST_BYTES, instance_files, open_coco
from models.class_names import VOC
from tests.engine.data.refusals import message_of

CATEGORIES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "boat", "bird", "cat", "dog",
    "horse", "sheep", "cow", "bottle", "chair", "couch", "potted plant", "dining table", "tv", "toaster",
)  # fmt: skip
H, W = 6, 8
DOWNLOADED = "annotations/instances_train2017.json"


def box(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def drawn(*rows: str) -> list[list[int]]:
    """Labels as text: . background, p person, c cat, # void."""
    return [[{".": 0, "p": 15, "c": 8, "#": 255}[character] for character in row] for row in rows]


def content_of(*annotations: dict, num_images: int = 2) -> dict:
    categories = [{"id": 10 + place, "name": name} for place, name in enumerate(CATEGORIES)]
    ids = {category["name"]: category["id"] for category in categories}
    return {
        "images": [
            {"id": 100 + n, "file_name": f"{n:012}.jpg", "height": H, "width": W} for n in range(num_images)
        ],
        "categories": categories,
        "annotations": [
            {
                "id": number,
                "image_id": 100,
                "iscrowd": 0,
                **annotation,
                "category_id": ids[annotation["category"]],
            }
            for number, annotation in enumerate(annotations)
        ],
    }


@pytest.fixture
def tree(tmp_path: Path):
    """Writes a data set in the layout of COCO's downloads; returns its root."""

    def write(
        content, images: str = "train2017", annotations: str = "annotations/instances_train2017.json"
    ) -> Path:
        root = tmp_path / "coco"
        for path in (root / images, (root / annotations).parent):
            path.mkdir(parents=True, exist_ok=True)
        for n in range(2):
            Image.new("RGB", (W, H), (n, 0, 0)).save(root / images / f"{n:012}.jpg")
        (root / annotations).write_text(content if isinstance(content, str) else json.dumps(content))
        return root

    return write


def test_smaller_objects_are_on_top_and_crowds_are_void_below(tree) -> None:
    crowd = np.zeros((H, W), bool)
    crowd[0:4, 0:3] = True
    columns = crowd.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns.view(np.int8), [0]])))
    counts = np.diff(np.concatenate([[0], edges, [H * W]])).tolist()
    root = tree(
        content_of(
            {"category": "cat", "segmentation": box(4, 1, 6, 3)},
            {"category": "person", "segmentation": box(1, 1, 8, 5)},
            {"category": "person", "iscrowd": 1, "segmentation": {"size": [H, W], "counts": counts}},
            {"category": "toaster", "segmentation": box(0, 5, 8, 6)},
            {"category": "toaster", "iscrowd": 1, "segmentation": box(0, 5, 8, 6)},
        )
    )
    dataset = open_coco(root, "train2017")
    expected = drawn(
        "###.....",
        "#pppccpp",
        "#pppccpp",
        "#ppppppp",
        ".ppppppp",
        "........",
    )
    assert dataset[0].labels.tolist() == dataset.labels(0).tolist() == expected
    assert dataset.stored_mask(0).tolist() == expected
    assert dataset[1].labels.tolist() == [[0] * W] * H
    assert dataset.ids == ["000000000000", "000000000001"] and dataset.sizes() == [(H, W)] * 2
    assert dataset.class_names == VOC and dataset.palette[15] == (192, 128, 128)
    assert dataset.ignore_index == 255


def test_every_voc_class_is_found_under_its_name_in_coco(tree) -> None:
    names = {"airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor",
             "potted plant": "pottedplant", "dining table": "diningtable"}  # fmt: skip
    for category in CATEGORIES[:-1]:
        dataset = open_coco(
            tree(content_of({"category": category, "segmentation": box(0, 0, W, H)})), "train2017"
        )
        [label] = dataset.labels(0).unique().tolist()
        assert VOC[label] == names.get(category, category)


def test_classes_of_the_recipe_are_found_by_name_and_the_first_is_the_background(tree) -> None:
    root = tree(content_of({"category": "toaster", "segmentation": box(0, 0, 2, 1)}))
    dataset = open_coco(root, "train2017", ("nothing", "Potted-Plant", "Toaster"))
    assert dataset.labels(0)[0].tolist() == [2, 2, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("images/train2017", "annotations/instances_train2017.json"),
        ("train2017", "train2017/_annotations.coco.json"),
        ("train2017", "annotations/train2017.json"),
        ("images", "train2017.json"),
    ],
)
def test_other_layouts_are_found(tree, images: str, annotations: str) -> None:
    root = tree(content_of({"category": "cat", "segmentation": box(0, 0, W, H)}), images, annotations)
    assert open_coco(root, "train2017").labels(0).unique().tolist() == [8]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("first", ["images", "annotations", "categories"])
def test_a_file_is_found_whichever_part_is_first_and_long(tree, first: str, encoding: str) -> None:
    content = content_of(*[{"category": "cat", "segmentation": box(0, 0, W, H)}] * 600)
    content["images"][0]["note"] = content["categories"][0]["note"] = "x" * 2 * MOST_BYTES
    others = [key for key in content if key != first]
    root = tree(content, "images", "train2017.json")
    text = json.dumps({key: content[key] for key in [first, *others]})
    assert len(json.dumps(content[first])) > MOST_BYTES
    (root / "train2017.json").write_bytes(text.encode(encoding))
    (root / "list.json").write_text('["images"]')
    (root / "options.json").write_text('{"images": 3}')
    assert [*instance_files(root)] == ["train2017"]
    assert open_coco(root, "train2017").labels(0).unique().tolist() == [8]


def test_the_fingerprint_covers_the_objects(tree) -> None:
    prints = [
        open_coco(
            tree(content_of({"category": "cat", "segmentation": box(0, 0, x, 2)})), "train2017"
        ).fingerprint()
        for x in (2, 3, 2)
    ]
    assert prints[0] == prints[2] != prints[1]


def test_unknown_splits_and_classes_are_named_with_a_suggestion(tree) -> None:
    root = tree(content_of())
    assert "Splits there: train2017." in message_of(lambda: open_coco(root, "train2018"))
    assert "Did you mean train2017?" in message_of(lambda: open_coco(root, "train2018"))
    assert "no folder" in message_of(lambda: open_coco(root / "x", "train2017"))
    message = message_of(lambda: open_coco(root, "train2017", ("background", "persn", "cat")))
    assert "no category persn" in message and "Did you mean person?" in message
    message = message_of(lambda: open_coco(root, "train2017", ("person", "cat")))
    assert """Type 'data.classes=["background", "person", "cat"]'.""" in message


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[1, 2]], [[1, 2, 3, 4]], {}])
def test_the_box_of_an_object_without_an_outline_is_void(tree, segmentation) -> None:
    without = {"category": "cat", "segmentation": segmentation, "bbox": [1, 1, 4, 3]}
    root = tree(
        content_of(
            without,
            {"category": "person", "segmentation": box(2, 2, 4, 3)},
            {"category": "cat", "segmentation": segmentation},  # without a box, too
        )
    )
    dataset = open_coco(root, "train2017")
    rows = ("........", ".####...", ".#pp#...", ".####...", "........", "........")
    assert dataset.labels(0).tolist() == drawn(*rows)
    assert "instances_train2017.json: 2 (ids 0, 2)" in dataset.note


def test_objects_of_which_none_has_an_outline_are_an_error(tree) -> None:
    objects = [{"category": "cat", "segmentation": []} for _ in range(7)]
    message = message_of(lambda: open_coco(tree(content_of(*objects)), "train2017"))
    assert "7 objects" in message and "ids 0, 1, 2, 3, 4 and 2 more" in message


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("a\\b\\0.jpg", "train2017/a/b/0.jpg"),
        ("C:\\photos\\0.jpg", "train2017/0.jpg"),
        ("/home/me/photos/0.jpg", "train2017/0.jpg"),
        ("/root/photos/0.jpg", "train2017/0.jpg"),  # which most users may not look into
        ("/etc/hostname/0.jpg", "train2017/0.jpg"),
        ("train2017/0.jpg", "train2017/0.jpg"),
        ("0.jpg", "train2017/0.JPG"),
        ("\u00e9.jpg", "train2017/e\u0301.jpg"),
        ("a\\0.jpg", "train2017/a\\0.jpg"),  # a name on Linux
    ],
)
def test_images_are_found_as_other_systems_name_them(tree, written: str, stored: str) -> None:
    content = content_of({"category": "cat", "segmentation": box(0, 0, 4, 2)}, num_images=1)
    content["images"][0]["file_name"] = written
    root = tree(content)
    (root / stored).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (W, H), (9, 8, 7)).save(root / stored, "JPEG")
    dataset = open_coco(root, "train2017")
    assert dataset.image_path(0) == root / stored and dataset[0].labels.sum() == 8 * 8


def test_a_background_category_is_class_0(tree) -> None:
    content = content_of(
        {"category": "person", "segmentation": box(0, 0, 8, 6)},
        {"category": "cat", "segmentation": box(0, 0, 2, 1)},
    )
    content["categories"][CATEGORIES.index("cat")]["name"] = "_background_"
    for first in ("background", "_background_", "BG"):
        dataset = open_coco(tree(content), "train2017", (first, "person"))
        assert dataset.labels(0).sum() == W * H - 2
    message = message_of(lambda: open_coco(tree(content), "train2017", ("person", "_background_", "dog")))
    assert """'data.classes=["background", "person", "dog"]'""" in message


def test_names_that_differ_in_signs_are_matched_exactly(tree) -> None:
    content = content_of(
        {"category": "person", "segmentation": box(0, 0, 8, 1)},
        {"category": "cat", "segmentation": box(0, 1, 8, 2)},
    )
    for name, other in (("person", "c+"), ("cat", "c-")):
        content["categories"][CATEGORIES.index(name)]["name"] = other
    dataset = open_coco(tree(content), "train2017", ("background", "c-", "c+"))
    assert dataset.labels(0)[:2, 0].tolist() == [2, 1]
    dataset = open_coco(tree(content), "train2017", ("background", "c-"))  # c+ is not among the classes
    assert dataset.labels(0)[:2, 0].tolist() == [0, 1]
    message = message_of(lambda: open_coco(tree(content), "train2017", ("background", "C", "c ")))
    assert "no category C, c " in message


def test_ids_may_be_text_in_one_place_and_numbers_in_another(tree) -> None:
    content = content_of({"category": "cat", "segmentation": box(0, 0, 4, 2)})
    content["annotations"][0]["image_id"] = "100"
    for category in content["categories"]:
        category["id"] = str(category["id"])
    assert open_coco(tree(content), "train2017").labels(0).sum() == 8 * 8


def test_width_and_height_that_are_swapped_are_said(tree) -> None:
    content = content_of({"category": "cat", "segmentation": box(0, 0, 4, 2)})
    for image in content["images"]:
        image["width"], image["height"] = H, W
    message = message_of(lambda: open_coco(tree(content), "train2017")[0])
    assert "Width and height are swapped" in message


def test_a_damaged_photo_whose_size_coco_does_not_say_is_named_with_a_remedy(tree) -> None:
    content = content_of({"category": "cat", "segmentation": box(0, 0, 4, 2)})
    del content["images"][0]["height"]
    root = tree(content)
    (root / "train2017" / "000000000000.jpg").write_bytes(b"no photo")
    message = message_of(lambda: open_coco(root, "train2017"))
    assert "000000000000.jpg" in message and "write its height and width into the file of COCO" in message


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_size_that_coco_does_not_say_is_read_from_images_of_any_bands(tree) -> None:
    content = content_of({"category": "cat", "segmentation": box(0, 0, 4, 2)})
    expected = open_coco(tree(content), "train2017").labels(0).tolist()
    content["images"][0].update(file_name="0.tif", height=None)
    root = tree(content)
    layout = {"driver": "GTiff", "count": 5, "height": H, "width": W, "dtype": np.uint8}
    with rasterio.open(root / "train2017/0.tif", "w", **layout) as file:
        file.write(np.zeros((5, H, W), np.uint8))
    dataset = open_coco(root, "train2017")
    dataset.bands = band_names(5)
    assert dataset.labels(0).tolist() == expected


def test_the_error_for_a_damaged_segmentation_names_file_and_image(tree) -> None:
    root = tree(content_of({"category": "cat", "segmentation": [[1, 2, 3]]}))
    message = message_of(lambda: open_coco(root, "train2017")[0])
    assert "instances_train2017.json" in message and "000000000000.jpg" in message and "polygon" in message


def test_a_point_far_outside_the_image_is_damage(tree) -> None:
    root = tree(content_of({"category": "cat", "segmentation": [[1, 1, 9000, 1, 9, 9]]}))
    message = message_of(lambda: open_coco(root, "train2017")[0])
    assert "(9000, 1), outside the image" in message and "data.on_error=skip" in message


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": 1}', '{"images": [], "annotations": []}', "\xff"]
)
def test_a_file_that_is_not_an_instances_file_is_named(tree, text: str) -> None:
    message = message_of(lambda: open_coco(tree(text), "train2017"))
    assert "instances_train2017.json is not a COCO instances file" in message


def test_missing_images_and_objects_of_unknown_images_are_counted(tree) -> None:
    content = content_of(num_images=9)
    message = message_of(lambda: open_coco(tree(content), "train2017"))
    assert "7 of 9 image files are missing" in message and "and 2 more" in message
    content = content_of({"category": "cat", "image_id": 77, "segmentation": box(0, 0, 1, 1)})
    assert "does not list: 77" in message_of(lambda: open_coco(tree(content), "train2017"))
    content = content_of({"category": "cat", "segmentation": box(0, 0, 1, 1)})
    content["annotations"][0]["category_id"] = 99
    assert "categories that it does not list: 99" in message_of(lambda: open_coco(tree(content), "train2017"))
    content = content_of() | {"categories": []}
    assert "lists no categories" in message_of(lambda: open_coco(tree(content), "train2017"))
    content = content_of()
    content["images"][1]["file_name"] = content["images"][0]["file_name"]
    assert "more than one image" in message_of(lambda: open_coco(tree(content), "train2017"))
    content["images"] = []
    assert "empty" in message_of(lambda: open_coco(tree(content), "train2017"))


def test_an_id_of_two_images_or_categories_is_refused(tree) -> None:
    """As in files that were joined, each numbered from 1: an object would be drawn on both images."""
    cat = {"category": "cat", "segmentation": box(1, 1, 4, 4)}
    content = content_of(cat)
    content["images"][1]["id"] = content["images"][0]["id"]
    message = message_of(lambda: open_coco(tree(content), "train2017"))
    assert "1 of 1 image id is that of several: 100 (000000000000.jpg and 000000000001.jpg)" in message
    content = content_of(cat)
    content["categories"].append({"id": content["categories"][0]["id"], "name": "cup"})
    message = message_of(lambda: open_coco(tree(content), "train2017"))
    assert "1 of 21 category ids is that of several: 10 (person and cup)" in message
