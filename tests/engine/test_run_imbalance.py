"""`trident run` with class weights by scheme and the rare sampler, on the tiny VOC folder."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from engine.data.class_counts import count_classes
from engine.data.class_weights import class_weights
from engine.data.formats.voc import open_voc
from engine.doctor import main as doctor
from engine.run import main
from tests.engine.tiny_run import TINY_VOC, VOC_RECIPE


@pytest.fixture
def rare_folder(voc_folder: Path) -> Path:
    """The tiny folder with a few pixels of class 1, aeroplane, in one training image."""
    path = voc_folder / "SegmentationClass/train_000001.png"
    labels = np.array(Image.open(path))
    labels[:2, :10] = 1
    Image.fromarray(labels).save(path)
    return voc_folder


def tiny(root: Path, *more: str) -> list[str]:
    return [
        VOC_RECIPE,
        *TINY_VOC,
        "model.decoder_width=16",
        f"data.root={root}",
        f"output.dir={root.parent / 'runs'}",
        "name=it",
        *more,
    ]


def saved_weights(root: Path) -> object:
    recipe = yaml.safe_load((root.parent / "runs/it/recipe.yaml").read_text())
    return recipe["loss"][0]["class_weights"]


def test_a_run_names_rare_classes_and_its_suggested_overrides_work(rare_folder, capsys):
    assert main(tiny(rare_folder, "data.sampler=uniform")) == 0
    printed = capsys.readouterr().out
    assert re.search(r"1 of the 5 classes present have under 1 %.*: aeroplane 0\.\d+ %\. Remedies:", printed)
    assert saved_weights(rare_folder) == "none"
    overrides = ["data.sampler=rare", "augment.crop_on=rare"]
    assert all(override in printed for override in overrides)
    assert main(tiny(rare_folder, *overrides, "loss.0.class_weights=median", "name=all")) == 0
    printed = capsys.readouterr().out
    assert "Remedies" not in printed
    assert re.search(r"class weights of cross_entropy \(median\): background 0\.\d+, aeroplane \d", printed)
    assert "sampler rare" in printed


def test_the_saved_recipe_holds_numbers_and_resume_takes_the_scheme_or_the_numbers(rare_folder, capsys):
    command = tiny(rare_folder, "loss.0.class_weights=inverse", "data.sampler=rare")
    assert main(command) == 0
    train = open_voc(str(rare_folder), "train")
    expected = class_weights("inverse", count_classes(train, lambda done, total: None))
    assert saved_weights(rare_folder) == expected
    assert len(set(expected)) > 2  # weights that differ between classes
    assert len(list((rare_folder / ".trident").glob("class_counts-*.npz"))) == 1
    assert main([*command, "--resume"]) == 0
    assert main([str(rare_folder.parent / "runs/it/recipe.yaml"), "--resume"]) == 0
    capsys.readouterr()

    other = tiny(rare_folder, "loss.0.class_weights=enet", "data.sampler=rare")
    assert main([*other, "--resume"]) == 2
    assert "loss.0.class_weights" in capsys.readouterr().err
    assert main([*command, "data.sampler=uniform", "--resume"]) == 2
    assert "data.sampler: rare in the run, uniform now" in capsys.readouterr().err


def test_crops_on_rare_classes_are_saved_as_ids_and_shown(rare_folder, tmp_path, capsys):
    command = tiny(rare_folder, "augment.crop_on=rare")
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "crops are redrawn for them, too" in printed and printed.count("aeroplane 0.") == 1
    saved = rare_folder.parent / "runs/it/recipe.yaml"
    assert yaml.safe_load(saved.read_text())["augment"]["crop_on"] == [1]
    assert main([*command, "--resume"]) == 0
    assert main([str(saved), "--resume"]) == 0
    capsys.readouterr()
    assert main([*command, "augment.crop_on=[2]", "--resume"]) == 2
    assert "augment.crop_on" in capsys.readouterr().err
    assert main([*command, "name=other", "augment.crop_on=[21]"]) == 2
    assert "21 is no class" in capsys.readouterr().err
    assert not (rare_folder.parent / "runs/other").exists()
    sheets = [tmp_path / f"{value}.png" for value in ("rare", "[1]", "[15]", "none")]
    for sheet in sheets:
        line = f"augment.crop_on={sheet.stem}"
        assert doctor([*command[:-1], line, "--show", "augment", "--out", str(sheet)]) == 0
    rare, by_id, on_persons, none = (sheet.read_bytes() for sheet in sheets)
    assert rare == by_id and on_persons != none


def test_resume_on_other_labels_reports_the_data_not_the_weights(rare_folder, capsys):
    command = tiny(rare_folder, "loss.0.class_weights=inverse")
    assert main(command) == 0
    path = rare_folder / "SegmentationClass/train_000000.png"
    labels = np.array(Image.open(path))
    Image.fromarray(np.where(labels == 255, 0, labels)).save(path)
    capsys.readouterr()
    assert main([*command, "--resume"]) == 2
    printed = capsys.readouterr().err
    assert "images of split 'train'" in printed and "class_weights" not in printed


def test_a_dry_run_names_rare_classes_and_weights_and_writes_nothing(rare_folder, capsys):
    before = sorted(rare_folder.parent.rglob("*"))
    assert main([*tiny(rare_folder), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "sampler auto: rare" in printed and "augment.crop_on=rare" in printed
    assert re.search(r"have under 1 %.*: aeroplane 0", printed)
    assert main([*tiny(rare_folder, "loss.0.class_weights=effective"), "--dry-run"]) == 0
    assert "class weights of cross_entropy (effective)" in capsys.readouterr().out
    assert sorted(rare_folder.parent.rglob("*")) == before


def test_explain_needs_no_data_and_shows_the_scheme(capsys):
    assert main([VOC_RECIPE, "data.root=nowhere", "loss.0.class_weights=median", "--explain"]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if "loss.0.class_weights" in line]
    assert " median " in row
