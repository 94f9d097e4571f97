"""The table of formats, and a format from outside, given by its import path."""

import inspect
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest
from PIL import Image

from engine.data import DataError, Dataset, open_split
from engine.data.formats import CLASS_TABLES, FORMATS
from engine.data.options import Data

CODE = """
from pathlib import Path
import numpy as np
from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.masks import SameIds

TEXT = "not a function"

def open_flat(root, split, class_names, ignore_index, palette=None):
    assert palette is None
    pairs = [Pair(path.stem, path, path) for path in sorted(Path(root, split).glob("*.png"))]
    mask = lambda pair: np.full((2, 3), int(pair.id), np.uint8)
    encoding = SameIds(len(class_names), ignore_index)
    return FileDataset(pairs, class_names, ((0, 0, 0),) * len(class_names), ignore_index, encoding, mask)

def open_twice(root, split, class_names, ignore_index):
    data = open_flat(root, split, class_names, ignore_index)
    data.ids[1] = data.ids[0]
    return data

def open_drawn(split, class_names):
    return [split, *class_names]

def open_broken(split):
    raise KeyError("palette")

def open_with_more(root, split, number):
    return None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch) -> str:
    (tmp_path / "outside_formats.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "outside_formats", raising=False)
    return "outside_formats"


def section(format: str, **data) -> Data:
    return Data.model_validate({"format": format, "classes": ["a", "b"]} | data)


def message_of(data: Data) -> str:
    with pytest.raises(DataError) as caught:
        open_split(data, "train")
    return str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_the_opener_and_options_of_each_format_exist(name: str) -> None:
    keys = {*Data.model_fields}
    assert FORMATS[name].fixed.keys() | FORMATS[name].own_defaults.keys() <= keys
    parameters = inspect.signature(resolve_name(FORMATS[name].opener)).parameters
    assert "split" in parameters and {*parameters} <= keys | {"split", "class_names", "palette"}
    assert FORMATS[name].defaults.get("classes", "voc21") in [*CLASS_TABLES, []]


def test_a_format_from_outside_gets_what_it_has_parameters_for(module, tmp_path: Path) -> None:

    (tmp_path / "train").mkdir()
    for id in (0, 1):
        Image.new("RGB", (3, 2)).save(tmp_path / "train" / f"{id}.png")
    data = section(f"{module}:open_flat", root=str(tmp_path), on_error="skip")
    assert (data.train, data.val) == ("train", "val")
    dataset: Dataset = open_split(data, "train")
    assert dataset.ids == ["0", "1"] and dataset.class_names == ("a", "b") and dataset.ignore_index == 255
    assert dataset[1].labels.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert (
        dataset.skipped is not None
        and open_split(section(data.format, root=data.root), "train").skipped is None
    )


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("no_such_module:open", ["no_such_module", "working folder"]),
        ("outside_formats:open_flt", ["open_flt", "package.module:function"]),
        ("outside_formats:TEXT", ["type str"]),
        ("outside_formats:open_drawn", ["list", "fingerprint", "FileDataset"]),
        ("outside_formats:open_flat", ["data.root=<"]),
        ("outside_formats:open_broken", ["KeyError", "palette", "train"]),
    ],
)
def test_errors_of_a_format_from_outside_name_the_key_and_the_problem(
    module, name: str, parts: list[str]
) -> None:
    message = message_of(section(name))
    assert all(part in message for part in parts), message
    assert "data.root" in parts[0] or ("data.format" in message and name in message)


def test_parameters_of_an_opener_that_have_no_value_are_named(module, tmp_path: Path) -> None:
    message = message_of(section(f"{module}:open_with_more", root=str(tmp_path)))
    assert "data.format" in message and "number" in message


def test_keys_that_an_opener_has_no_parameter_for_are_refused(module, tmp_path: Path) -> None:
    named = {"format": f"{module}:open_flat", "root": str(tmp_path)}
    message = message_of(section(**named, polygons={"other": "void"}))
    assert "data.polygons" in message and "no parameter polygons" in message
    with pytest.raises(DataError, match="found no image"):  # what is typed next gets further
        open_split(section(**named, polygons=None), "train")
    colours = [{"name": "a", "colour": [0, 0, 0]}, {"name": "b", "colour": [9, 9, 9]}]
    named["format"] = f"{module}:open_twice"
    assert "no parameter palette" in message_of(section(**named, classes=colours))


def test_two_images_of_one_id_are_refused(module, tmp_path: Path) -> None:
    """Scores are kept by id, so that of one would be lost."""
    (tmp_path / "train").mkdir()
    for name in "01":
        Image.new("RGB", (3, 2)).save(tmp_path / f"train/{name}.png")
    assert len(open_split(section(f"{module}:open_flat", root=str(tmp_path)), "train")) == 2
    message = message_of(section(f"{module}:open_twice", root=str(tmp_path)))
    assert "several images have the id '0'" in message and "data.format" in message


def test_the_format_in_the_docs_works(tmp_path: Path, monkeypatch) -> None:
    docs = (Path(__file__).parents[4] / "docs/data.md").read_text()
    (tmp_path / "documented_format.py").write_text(docs.split("```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "train").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "train" / "x.jpg")
    Image.new("L", (3, 2), 1).save(tmp_path / "train" / "x.png")
    dataset = open_split(section("documented_format:my_open", root=str(tmp_path)), "train")
    assert dataset.ids == ["x"] and dataset[0].labels.tolist() == [[1, 1, 1]] * 2


def test_a_split_without_an_image_is_an_error_that_names_it(module, tmp_path: Path) -> None:
    message = message_of(section(f"{module}:open_flat", root=str(tmp_path)))
    assert "'train'" in message and f"{module}:open_flat" in message and "data.train" in message
