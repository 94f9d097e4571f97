"""The data section by format: its defaults, and which keys cannot be combined."""

import pytest

from engine.recipe import RecipeError, load_recipe
from engine.recipe.differences import explain

RED, BLUE = "{name: red, colour: [255, 0, 0]}", "{name: blue, colour: [0, 0, 255]}"
COLOURS = f"format: folder, classes: [{RED}, {BLUE}]"


@pytest.fixture
def data_of(tmp_path):
    def data_of(text: str):
        (tmp_path / "r.yaml").write_text(f"data: {{{text}}}\n")
        return load_recipe(tmp_path / "r.yaml").data

    return data_of


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("voc", ("trainaug", "val", "voc21")),
        ("coco", ("train2017", "val2017", "voc21")),
        ("coco_stuff", ("train2017", "val2017", "coco_stuff171")),
        ("ade20k", ("training", "validation", "ade150")),
        ("cityscapes", ("train", "val", "cityscapes19")),
        ("camvid", ("train", "val", "camvid11")),
        ("synthetic", ("train", "val", "scenes6")),
        ("folder, classes: [a, b]", ("train", "val", ["a", "b"])),
    ],
)
def test_each_format_has_its_own_defaults(data_of, format: str, expected: tuple) -> None:
    data = data_of(f"format: {format}")
    assert (data.train, data.val, data.classes) == expected
    assert data.ignore_index == 255 and data.on_error == "raise"
    assert (data.folder is None) == (data.format != "folder")


def test_given_values_override_the_defaults_of_the_format(data_of) -> None:
    data = data_of("format: ade20k, train: validation")
    assert (data.train, data.val) == ("validation", "validation")
    assert data_of("format: coco, classes: [background, car]").classes == ["background", "car"]
    data = data_of(f"{COLOURS}, folder: {{void_colours: [[0, 0, 0]], val_share: 0.1}}")
    assert [(item.name, item.colour) for item in data.classes] == [
        ("red", [255, 0, 0]),
        ("blue", [0, 0, 255]),
    ]
    assert data.folder.val_share == 0.1 and data.folder.values == "ids"


def test_colours_are_kept_when_written_and_explained(tmp_path) -> None:
    text = f"data: {{{COLOURS}, folder: {{void_colours: [[0, 0, 0]]}}}}\n"
    (tmp_path / "r.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "r.yaml")
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    again = load_recipe(tmp_path / "again.yaml")
    assert again.data == recipe.data and again.data.classes[1].colour == [0, 0, 255]
    rows = {key: (str(value), source) for key, value, source in explain(recipe)}
    shown = [value for key, value in rows.items() if key.startswith("data.classes")]
    assert "255" in str(shown) and "r.yaml" in str(shown)


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("format: folder", "classes", "expected the names by label id, such as [background, road]"),
        ("format: folder, classes: [a, b], folder: null", "folder", "expected a section; leave the key out"),
        ("format: voc, folder: {}", "folder", "this is for format: folder only"),
        ("format: ade20k, classes: voc21", "classes", "format: ade20k works with ade150 only"),
        ("format: ade20k, classes: [a, b]", "classes", "format: ade20k works with ade150 only"),
        ("format: cityscapes, ignore_index: 0", "ignore_index", "format: cityscapes works with 255 only"),
        ("format: coco, ignore_index: 0", "ignore_index", "format: coco works with 255 only"),
        (f"format: voc, classes: [{RED}, {BLUE}]", "classes", "colours are for format: folder only"),
        (f"format: folder, classes: [{RED}, blue]", "classes", "expected a colour for each class"),
        (f"format: folder, classes: [{RED}, {{name: b, colour: [255, 0, 0]}}]", "classes", "each different"),
        (f"format: folder, classes: [{RED}, {RED}]", "classes", "expected at least 2 names, each different"),
        (f"{COLOURS}, folder: {{values: binary}}", "folder", "values: binary needs the names of two classes"),
        ("format: folder, classes: [a, b, c], folder: {values: binary}", "folder", "two classes"),
        (
            "format: folder, classes: [a, b], folder: {void_colours: [[0, 0, 0]]}",
            "folder",
            "classes with colours",
        ),
        (f"{COLOURS}, folder: {{void_colours: [[255, 0, 0]]}}", "folder", "a colour that a class has"),
        (f"{COLOURS}, ignore_index: 1", "folder", "data.ignore_index is the label id of a class"),
        ("format: folder, classes: [a, b], folder: {val_share: 1.0}", "folder.val_share", "less than 1"),
        (
            "format: folder, classes: [{name: a, colour: [1, 2]}, b]",
            "classes.0.colour",
            "at least 3",
        ),
        ("format: folder, classes: [{name: a, colour: [1, 2, 256]}, b]", "classes.0.colour.2", "at most 255"),
        ("format: folder, classes: [{name: a, color: [1, 2, 3]}, b]", "classes.0", "colour"),
    ],
)
def test_each_mistake_names_its_key(data_of, text: str, key: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        data_of(text)
    lines = str(caught.value).split("\n  ")[1:]
    assert any(line.startswith(f"data.{key}") and message in line for line in lines), str(caught.value)


def test_polygons_are_for_formats_of_outlines(data_of) -> None:
    given = "classes: [background, cat], polygons: {val_share: 0.2}"
    for format in ("coco", "labelme", "yolo", "cvat", "label_studio", "rle_csv"):
        assert data_of(f"format: {format}, {given}").polygons.val_share == 0.2
    with pytest.raises(
        RecipeError, match="this is for format: coco, labelme, yolo, cvat, label_studio, rle_csv"
    ):
        data_of(f"format: folder, {given}")
