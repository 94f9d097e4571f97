"""Masks that hold no label ids according to the recipe: colours, black and white, ids of another table."""

import numpy as np
import pytest
from PIL import Image

from engine.data.doctor.fix import write_fixed_copy
from engine.data.doctor.meaning import OUTSIDE, label_of
from engine.data.formats.masks import BlackAndWhite, Colours, SameIds, Table
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
        (Colours(((1, 2, 3), (9, 8, 7)), (0, 1)), 0x090807, "uint8x3", 1),
        (Colours(((1, 2, 3), (9, 8, 7)), (0, 1)), 0x070809, "uint8x4", OUTSIDE),
    ],
)
def test_a_value_has_the_label_that_the_recipe_gives_it(mapping, value, form, label) -> None:
    assert label_of(mapping, value, form) == label
