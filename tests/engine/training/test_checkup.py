"""The doctor at the start of a run: it stops the run, caches its result, and can be turned off."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from engine.data import DataError
from engine.prepare import main as prepare
from engine.recipe import load_recipe
from engine.run import main
from engine.run_folder import RunFolder
from engine.training import checkup
from engine.training.checkup import check_data
from engine.training.distributed import Process
from tests.drawn_sets import three_sets
from tests.engine.tiny_run import RECIPE, TINY_VOC, VOC_RECIPE

ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture
def values(voc_folder, tmp_path) -> list[str]:
    """Overrides that make a small training on the VOC folder of recipes/b0_ce_dice.yaml."""
    return [*TINY_VOC, f"data.root={voc_folder}", f"output.dir={tmp_path / 'runs'}"]


def spoil(root: Path) -> None:
    path = root / "SegmentationClass/train_000002.png"
    labels = np.array(Image.open(path))
    labels[:5] = 99
    Image.fromarray(labels).save(path)


def check(values: list[str], *more: str) -> tuple[object, str]:
    """What `check_data` returns and prints."""
    console = Console(file=io.StringIO(), width=300)
    diagnosis = check_data(load_recipe(VOC_RECIPE, [*values, *more]), ALONE, console)
    return diagnosis, console.file.getvalue()


def test_a_run_keeps_the_findings_of_the_doctor(values, tmp_path) -> None:
    assert main([VOC_RECIPE, *values, "name=one"]) == 0
    content = json.loads(RunFolder(tmp_path / "runs/one").doctor.read_text())
    assert [f["check"] for f in content["findings"] if f["severity"] == "note"][-1] == "absent_classes"


def test_data_that_would_spoil_a_run_stops_it_before_its_folder(voc_folder, values, tmp_path, capsys) -> None:
    spoil(voc_folder)
    assert main([VOC_RECIPE, *values, "name=one"]) == 2
    captured = capsys.readouterr()
    assert "unknown_values" in captured.out
    assert "unknown_values" in captured.err and "99" in captured.err
    assert "data.doctor=off" not in captured.err  # the training would stop at such a mask
    assert not (tmp_path / "runs/one").exists()


def test_off_does_not_examine_the_data(voc_folder, values, monkeypatch) -> None:
    spoil(voc_folder)
    monkeypatch.setattr(checkup, "list_sets", None)  # would raise when called
    assert check(values, "data.doctor=off") == (None, "")


def test_unchanged_data_is_examined_once(values, monkeypatch) -> None:
    first, message = check(values)
    monkeypatch.setattr(checkup, "report_on", None)
    again, said_again = check(values, "train.steps=3", "name=other")
    assert again == first and said_again == message


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"])
def test_data_with_a_changed_file_is_examined_again(voc_folder, values, monkeypatch, folder) -> None:
    check(values)
    path = sorted((voc_folder / folder).iterdir())[0]
    if path.suffix == ".txt":
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    else:
        os.utime(path, ns=(1, 1))
    read = []
    monkeypatch.setattr(checkup, "report_on", lambda *arguments: read.append(arguments) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        check(values)
    assert len(read) == 1


def test_a_pack_that_was_written_again_is_examined_again(voc_folder, values, tmp_path) -> None:
    """Of the same name and ids, with other masks."""
    pack = [VOC_RECIPE, *values, "--out", str(tmp_path / "p.h5")]
    packed = ["data.format=packed", f"data.root={tmp_path / 'p.h5'}"]
    assert prepare(["pack", *pack]) == 0
    first, _ = check([value for value in values if "data.root" not in value], *packed)
    for path in (voc_folder / "SegmentationClass").iterdir():
        Image.fromarray(np.zeros_like(np.array(Image.open(path)))).save(path)
    assert prepare(["pack", *pack, "--overwrite"]) == 0
    again, _ = check([value for value in values if "data.root" not in value], *packed)
    assert "one_class" not in {found.check for found in first.findings}
    assert "one_class" in {found.check for found in again.findings}


def test_other_classes_are_examined_again(values) -> None:
    names = ",".join(f"class{id}" for id in range(21))
    first, _ = check(values)
    other, _ = check(values, f"data.classes=[{names}]")
    assert first.findings != other.findings


def test_the_remedy_for_a_damaged_image_works_when_it_is_typed(voc_folder, values) -> None:
    """The findings of the first start are kept, and those of a start that leaves images out are others."""
    path = voc_folder / "JPEGImages/train_000002.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"or leave them out: data\.on_error=skip"):
        check(values)
    assert "Training leaves them out" in check(values, "data.on_error=skip")[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [("(?s).*", '{"findings": [{}]}'), ('"readable": true', '"readable": false'), ("(?s)^.", "[")],
)
def test_a_damaged_cache_is_replaced(values, tmp_path, old: str, new: str) -> None:
    first, _ = check(values)
    (path,) = (tmp_path / "runs/.doctor").iterdir()
    altered = re.sub(old, new, path.read_text(), count=1)
    assert altered != path.read_text()
    path.write_text(altered)
    assert check(values)[0] == first
    assert json.loads(path.read_text())["num_samples"] == {"train": 6, "val": 4}


def test_drawn_scenes_are_not_examined(tmp_path) -> None:
    recipe = load_recipe(RECIPE, [f"output.dir={tmp_path}"])
    assert check_data(recipe, ALONE, Console(file=io.StringIO())) is None


@pytest.mark.parametrize(
    ("is_drawn", "typed", "remedy"),
    [
        (True, "data.select=train", "data.select=null"),  # there are two splits only
        (False, "data.select=train", "data.select=<a split of other images>"),
        (True, "data.val=train", "data.val=<a split of other images>"),
        (False, "data.val=train", "data.val=<a split of other images>"),
    ],
)
def test_a_split_with_two_uses_is_named_where_the_data_is_not_examined(
    values: list[str], is_drawn: bool, typed: str, remedy: str
) -> None:
    recipe, more = (RECIPE, []) if is_drawn else (VOC_RECIPE, [*values, "data.doctor=off"])
    printed = []
    for overrides in ([*more, typed], more):
        console = Console(file=io.StringIO(), width=300)
        assert check_data(load_recipe(recipe, overrides), ALONE, console) is None
        printed.append(console.file.getvalue())
    assert "train is both trained on and scored" in printed[0]
    assert f"Remedy: {remedy}\n" in printed[0]
    assert not printed[1]


def test_a_split_with_two_uses_is_named_by_its_set_where_there_are_several(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(three_sets(tmp_path) + "model: {arch: segformer, variant: b0, from_scratch: true}\n")
    recipe = load_recipe(path, ["data.doctor=off", "data.also.1.val=train"])
    console = Console(file=io.StringIO(), width=300)
    check_data(recipe, ALONE, console)
    printed = console.file.getvalue()
    assert "set lorries: train is both trained on and scored" in printed
    assert "data.also.1.val=<a split" in printed and "data.val" not in printed
    assert printed.count("is both trained") == 1


def test_a_broken_link_is_reported_as_damage(voc_folder, values) -> None:
    mask = voc_folder / "SegmentationClass/train_000002.png"
    mask.unlink()
    mask.symlink_to(voc_folder / "gone.png")
    with pytest.raises(DataError, match="(?s)damaged.*train_000002.png"):
        check(values)


def test_a_broken_link_among_unlabelled_images_is_reported_as_damage(voc_folder, values, tmp_path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 40), "red").save(photos / "a.png")
    (photos / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match="(?s)damaged.*b.png.*data.on_error=skip"):
        check(values, f"data.unlabelled.root={photos}")
    assert "damaged" in check(values, f"data.unlabelled.root={photos}", "data.on_error=skip")[1]


def test_missing_masks_stop_with_the_readers_message(voc_folder, values) -> None:
    (voc_folder / "SegmentationClass/train_000002.png").unlink()
    with pytest.raises(DataError, match="train_000002.png") as caught:
        check(values)
    assert "doctor" not in str(caught.value)  # turning it off would not help
