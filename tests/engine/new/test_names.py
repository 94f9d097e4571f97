"""Names of classes: from the command, a terminal, and the files of other tools."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from engine.data import open_split
from engine.new import main
from engine.recipe import load_recipe
from tests.engine.new.drawn import (
    COLOURS,
    draw,
    labels_of,
    new_recipe,
    two_splits,
    write,
)


def test_names_come_from_a_file_or_from_the_command() -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    write("classes.txt", "ground\nroad\nsky\nnever drawn\n")
    assert new_recipe().data.classes == ["ground", "road", "sky", "never drawn"]
    Path("data/classes.txt").unlink()
    assert main(["data", "--out", "named.yaml", "--classes", "a", "b", "c"]) == 0
    assert load_recipe("named.yaml").data.classes == ["a", "b", "c"]
    assert main(["data", "--out", "two.yaml", "--classes", "a", "b"]) == 2 and not Path("two.yaml").exists()


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("ground, c+ road,sky\n", ["ground", "c+ road", "sky"]),
        ("\n", ["background", "class_1", "class_2"]),
        ("", ["background", "class_1", "class_2"]),  # the end of the input
        ("ground, road\n", None),
    ],
)
def test_in_a_terminal_names_are_asked_for(typed: str, names: list[str] | None, monkeypatch) -> None:
    terminal = io.StringIO(typed)
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    assert main(["data", "--out", "named.yaml"]) == (0 if names else 2)
    assert not names or load_recipe("named.yaml").data.classes == names


def test_without_a_terminal_it_is_said_how_numbered_classes_get_names(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    assert main(["data"]) == 0
    said = capsys.readouterr().out
    assert "they are called background, class_1, class_2. Write their names into data.classes" in said
    blanks = re.findall(r"<name \d>", said.partition("--classes")[2])
    Path("data.yaml").unlink()
    assert main(["data", "--classes", *(f"c{number}" for number in range(len(blanks)))]) == 0
    assert "names" not in capsys.readouterr().out
    assert load_recipe("data.yaml").data.classes == ["c0", "c1", "c2"]


def test_colours_are_named_by_a_file() -> None:
    for split in ("train", "val"):
        draw(f"{split}/images/f{{}}.png", f"{split}/masks/f{{}}.png", range(2), lambda m: COLOURS[m])
    write("class_dict.csv", "name,r,g,b\nroad,200,30,30\nsky,30,30,200\nVoid,0,0,0\n")
    recipe = new_recipe()
    assert [item.name for item in recipe.data.classes] == ["road", "sky"]
    labels = open_split(recipe.data, "val").labels(0).numpy()
    assert (labels == np.array([255, 0, 1])[labels_of(0)]).all()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("train/_classes.csv", "Pixel Value, Class\n0, background\n1, apple\n2, pear\n"),
        ("dataset.json", json.dumps({"labels": {"background": 0, "apple": 1, "pear": 2}})),
        ("dataset.json", json.dumps({"labels": {"0": "background", "1": "apple", "2": "pear"}})),
        ("labels.csv", "id,label\n0,background\n1,apple\n2,pear\n"),
    ],
)
def test_names_in_the_files_of_tools(file: str, text: str) -> None:
    two_splits("SPLIT/f{}.jpg", "SPLIT/f{}_mask.png")
    write(file, text)
    assert new_recipe().data.classes == ["background", "apple", "pear"]


@pytest.mark.parametrize("text", ["image,label\nf0,1\nf1,2\nf2,0\nf3,1\n", "[]", "3"])
def test_a_table_without_the_names_of_classes_is_none(text: str) -> None:
    two_splits("SPLIT/f{}.jpg", "SPLIT/f{}_mask.png")
    write("labels.csv" if "," in text else "dataset.json", text)
    assert new_recipe().data.classes == ["background", "class_1", "class_2"]


@pytest.mark.parametrize(
    ("file", "text", "classes"),
    [
        ("labels.txt", "0: ground\n1: road\n2: sky\n", ["ground", "road", "sky"]),
        ("classes.txt", "0 ground\n1 road\n2 open sky\n", ["ground", "road", "open sky"]),
        ("classes.txt", "2,sky\n0,ground\n1,road\n", ["ground", "road", "sky"]),
        ("classes.txt", "2 lanes\n4 lanes\nsky\n", ["2 lanes", "4 lanes", "sky"]),
        ("names.txt", "road\nsky\n", ["background", "road", "sky"]),  # of objects alone
        ("labels.txt", "1: road\n2: sky\n", ["background", "road", "sky"]),
        ("labels.txt", "__ignore__\n_background_\nroad\nsky\n", ["_background_", "road", "sky"]),  # LabelMe's
        ("classes.txt", "ground\nroad\nsky\nvoid\n", ["ground", "road", "sky"]),
    ],
)
def test_a_file_names_the_ids(file: str, text: str, classes: list[str]) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    write(file, text)
    assert new_recipe().data.classes == classes


def test_void_in_a_file_keeps_its_id() -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    write("classes.txt", "void\nroad\nsky\n")
    recipe = new_recipe()
    assert recipe.data.classes == ["road", "sky"]
    labels = open_split(recipe.data, "val").labels(0).numpy()
    assert (labels == np.array([255, 0, 1])[labels_of(3)]).all()


def test_a_file_whose_names_do_not_fit_is_named(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    write("class_dict.csv", "name,r,g,b\nroad,200,30,30\nsky,30,30,200\n")
    assert new_recipe().data.classes == ["background", "class_1", "class_2"]
    assert "class_dict.csv has 2 names, which do not fit" in " ".join(capsys.readouterr().out.split())
