"""Masks that hold no label ids according to the recipe: colours, black and white, ids of another table."""

import json

import numpy as np
import pytest
from PIL import Image

from engine.data.doctor.fix import write_fixed_copy
from engine.data.doctor.meaning import OUTSIDE, label_of
from engine.data.formats.masks import BlackAndWhite, Colours, MappedValues, SameIds, Table
from engine.data.formats.voc import voc_palette
from models.class_names import VOC

FOLDER = {"images": "JPEGImages", "masks": "SegmentationClass"}
COLOURED = [{"name": name, "colour": list(colour)} for name, colour in zip(VOC, voc_palette(), strict=False)]
VOID_COLOUR = list(voc_palette()[255])


@pytest.fixture
def coloured(tree) -> dict:
    """The data set with masks in colours; returns the values of a recipe that declares them."""
    tree.change_masks(tree.colours)
    as_folder(tree)
    return {"format": "folder", "classes": COLOURED, "folder": {**FOLDER, "void_colours": [VOID_COLOUR]}}


@pytest.fixture
def binary(tree) -> dict:
    """The data set with black and white masks; returns the values of a recipe that declares them."""
    tree.change_masks(lambda m: np.where(m % 2, 255, 0).astype(np.uint8))
    as_folder(tree)
    return {"format": "folder", "classes": ["ground", "object"], "folder": {**FOLDER, "values": "binary"}}


def as_folder(tree) -> None:
    """Lists in the place where data.format=folder reads them."""
    for split in ("train", "val"):
        (tree.root / f"{split}.txt").write_text(tree.list_path(split).read_text())


def checks(tree, values: dict) -> list[str]:
    return [found.check for found in tree.findings(**values)]


def change(tree, pixels_of) -> None:
    for id in tree.ids():
        Image.fromarray(pixels_of(np.array(Image.open(tree.mask(id))))).save(tree.mask(id))


def test_colours_named_in_the_recipe_give_no_finding(tree, coloured) -> None:
    assert checks(tree, coloured) == []
    rows = {row["value"]: row["name"] for row in tree.examine(**coloured).report.values}
    assert rows["(192, 128, 128)"] == "person" and rows["(224, 224, 192)"] == "void" and len(rows) == 22


def test_swapped_colours_are_found_and_swapped_back(tree, coloured, tmp_path) -> None:
    meant = {id: np.array(Image.open(tree.mask(id))) for id in tree.ids()}
    change(tree, lambda m: np.ascontiguousarray(m[..., ::-1]))
    assert checks(tree, coloured) == ["bgr_masks"]
    found = tree.examine(**coloured)
    write_fixed_copy(found.facts, found.meaning, tree.root, tmp_path / "out", lambda done, total: None)
    assert checks(tree, {**coloured, "root": str(tmp_path / "out")}) == []
    for id, pixels in meant.items():
        assert (np.array(Image.open(tmp_path / "out/SegmentationClass" / f"{id}.png")) == pixels).all()


def test_a_colour_of_no_class_is_named(tree, coloured) -> None:
    change(
        tree, lambda m: np.where((m == (192, 128, 128)).all(-1, keepdims=True), (1, 2, 3), m).astype(np.uint8)
    )
    (found,) = tree.findings(**coloured)
    assert found.check == "unknown_values"
    assert "(1, 2, 3) (5,040 pixels)" in found.what and "void_colours" in found.remedy


def test_interpolated_colours_are_found(tree, coloured) -> None:
    change(tree, tree.smoothed)
    assert checks(tree, coloured) == ["soft_masks"]


def test_black_and_white_masks_declared_in_the_recipe_give_no_finding(tree, binary) -> None:
    assert checks(tree, binary) == []


def test_interpolated_black_and_white_masks_are_found(tree, binary) -> None:
    change(tree, tree.smoothed)
    assert checks(tree, binary) == ["soft_masks"]


def fixed(tree, values: dict, out) -> dict[str, np.ndarray]:
    """The masks of a repaired copy, after a check that the changed recipe finds nothing wrong with it."""
    found = tree.examine(**values)
    copy = write_fixed_copy(found.facts, found.meaning, tree.root, out, lambda done, total: None)
    changed = {**values, "folder": {**values["folder"]}}
    for key, value in copy.changes.items():
        part = changed["folder"] if key.startswith("data.folder.") else changed
        part[key.rpartition(".")[2]] = value
    assert checks(tree, changed) == []
    return {id: np.array(Image.open(out / "SegmentationClass" / f"{id}.png")) for id in tree.ids()}


@pytest.mark.parametrize("made_by", ["JPEG", "interpolation"])
@pytest.mark.parametrize("kind", ["colours", "black and white"])
def test_soft_masks_take_the_nearest_class(tree, tmp_path, request, kind: str, made_by: str) -> None:
    """A mix of two of VOC's colours may be close to a third; there is none in black and white."""
    meant = {id: tree.read_mask(id) for id in tree.ids()}
    values = request.getfixturevalue("coloured" if kind == "colours" else "binary")
    if made_by == "JPEG":
        for id in tree.ids():
            pixels = np.array(Image.open(tree.mask(id)))
            Image.fromarray(pixels).save(tree.mask(id), "JPEG", quality=90, subsampling=0)
    else:
        change(tree, tree.smoothed)
    assert checks(tree, values) == ["soft_masks"]
    for id, mask in fixed(tree, values, tmp_path / "out").items():
        expected = meant[id] if kind == "colours" else meant[id] % 2
        sure = mask != 255
        assert sure.mean() > 0.5 if kind == "colours" else sure.all()
        assert (mask != expected)[sure & (meant[id] != 255)].mean() < 0.03


def test_probabilities_have_a_threshold_of_one_half_and_nan_is_void(tree, binary, tmp_path) -> None:
    rng = np.random.default_rng(0)
    drawn = {id: rng.random(tree.read_mask(id).shape).astype(np.float32) for id in tree.ids()}
    for id, probability in drawn.items():
        probability[:4] = np.nan
        Image.fromarray(probability).save(tree.mask(id), "TIFF")
    assert checks(tree, binary) == ["soft_masks"]
    for id, mask in fixed(tree, binary, tmp_path / "out").items():
        assert (mask == np.where(np.isnan(drawn[id]), 255, drawn[id] >= 0.5)).all()


def test_a_third_level_of_gray_is_not_taken_for_a_soft_border(tree, binary, tmp_path) -> None:
    change(tree, lambda m: np.where(np.indices(m.shape)[0] < 20, 128, m).astype(np.uint8))
    (found,) = tree.findings(**binary)
    assert (
        found.check == "unknown_values" and "128 (" in found.what and "data.folder.values=ids" in found.remedy
    )


def test_other_formats_are_copied_without_what_cannot_be_read(tree, tmp_path) -> None:
    """ADE20K, whose masks hold ids of their own: these stay as they are."""
    for split in ("training", "validation"):
        for id in tree.ids("train" if split == "training" else "val"):
            image, mask = (tmp_path / "ade" / folder / split for folder in ("images", "annotations"))
            image.mkdir(parents=True, exist_ok=True), mask.mkdir(parents=True, exist_ok=True)
            tree_image = Image.open(tree.image(id))
            tree_image.save(image / f"{id}.jpg")
            Image.fromarray(tree.read_mask(id) % 150 + 1).save(mask / f"{id}.png")
    (tmp_path / "ade/images/training/train_1.jpg").write_bytes(b"")
    values = {"format": "ade20k", "root": str(tmp_path / "ade"), "train": "training", "val": "validation"}
    values["classes"] = "ade150"
    assert "--fix" in next(f for f in tree.findings(**values) if f.check == "damaged").remedy
    found = tree.examine(**values)
    out = tmp_path / "out"
    copy = write_fixed_copy(found.facts, found.meaning, tmp_path / "ade", out, lambda done, total: None)
    assert len(copy.done) == 1 and "1 sample left out" in copy.done[0]
    left = out / "annotations/training/train_0.png"
    assert left.read_bytes() == (tmp_path / "ade/annotations/training/train_0.png").read_bytes()
    assert "damaged" not in checks(tree, {**values, "root": str(out)})


def test_a_repaired_copy_is_not_offered_for_coco(tree, tmp_path) -> None:
    outline = [[10, 10, 60, 10, 60, 40, 10, 40]]
    for split in ("train", "val"):
        folder = tmp_path / "coco" / split
        folder.mkdir(parents=True)
        Image.fromarray(tree.photo()).save(folder / "0.jpg")
        (folder / "1.jpg").write_bytes(b"")
        images = [{"id": i, "file_name": f"{i}.jpg", "height": 96, "width": 112} for i in (0, 1)]
        objects = [
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "segmentation": outline} for i in (0, 1)
        ]
        content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
    values = {"format": "coco", "root": str(tmp_path / "coco"), "classes": ["background", "cat"]}
    findings = tree.findings(**values, train="train", val="val")
    assert "damaged" in [found.check for found in findings]
    assert not any("--fix" in found.remedy for found in findings)


@pytest.mark.parametrize(
    ("mapping", "value", "form", "label"),
    [
        (SameIds(3, 255), 2, "uint8", 2),
        (SameIds(3, 255), 255, "uint8", 255),
        (SameIds(3, 255), 3, "uint8", OUTSIDE),
        (SameIds(3, 255), 2, "uint16", OUTSIDE),
        (SameIds(3, 255), 0x020202, "uint8x3", OUTSIDE),
        (Table.of("city", {7: 0, 0: 255}), 7, "uint8", 0),
        (Table.of("city", {7: 0, 0: 255}), 1, "uint8", OUTSIDE),
        (BlackAndWhite(), 255, "uint8", 1),
        (BlackAndWhite(), 1, "bool", 1),
        (BlackAndWhite(), 0xFFFFFF, "uint8x3", 1),
        (BlackAndWhite(), 0.5, "float32", OUTSIDE),
        (SameIds(3, 255), 1.5, "uint8", OUTSIDE),
        (MappedValues(((float("nan"), 255), (7, 1))), float("nan"), "float32", 255),
        (MappedValues(((float("nan"), 255), (7, 1))), 7, "uint8x2", 1),
        (Colours(((1, 2, 3), (9, 8, 7)), (0, 1)), 0x090807, "uint8x3", 1),
        (Colours(((1, 2, 3), (9, 8, 7)), (0, 1)), 0x070809, "uint8x4", OUTSIDE),
    ],
)
def test_a_value_has_the_label_that_the_recipe_gives_it(mapping, value, form, label) -> None:
    assert label_of(mapping, value, form) == label
