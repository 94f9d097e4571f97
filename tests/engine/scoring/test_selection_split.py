"""Selection splits that share images with others. Files of a few bytes stand for the images."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import DataError, Dataset, open_split
from engine.data.options import Data
from engine.run_folder import RunFolderError
from engine.scoring import training_images
from engine.scoring.selection_split import open_apart
from engine.scoring.training_images import training_splits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Splits a, b, val of two images each, and held of 150; all are different."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for split, number in {"a": 2, "b": 2, "val": 2, "held": 150}.items():
        ids = [f"{split}{place:03d}" for place in range(number)]
        write_list(tmp_path, split, ids)
        for id in ids:
            for file in (image(tmp_path, id), tmp_path / f"SegmentationClass/{id}.png"):
                file.write_text(id)
    return tmp_path


def image(root: Path, id: str) -> Path:
    return root / f"JPEGImages/{id}.jpg"


def write_list(root: Path, split: str, ids: Sequence[str]) -> None:
    (root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{id}\n" for id in ids))


def section(root: Path, train: str, **values) -> Data:
    return Data(root=str(root), train=train, **values)


def chosen_apart(root: Path, trained: Sequence[Data], fingerprints: Sequence[str | None]) -> Dataset:
    now = section(root, "a")
    val = "val", open_split(now, "val")
    return open_apart(now, "held", trained, fingerprints, val, "Name another split.")


def test_training_images_of_each_member_are_found_where_the_data_was_moved_to(root: Path) -> None:
    """The manifest of an ensemble has the fingerprint of its first member alone."""
    before = [section(root / "gone", "a"), section(root / "gone", "b"), section(root / "gone", "nowhere")]
    of_a, of_b = (open_split(section(root, name), name).fingerprint() for name in "ab")
    now = section(root, "a")
    found = training_splits(before, now, [of_a, None, None])
    assert [split.ids for split in found] == [["a000", "a001"], ["b000", "b001"]]
    write_list(root, "held", ["held000", "b001"])
    for fingerprints in ([of_a, None], [of_a, of_b]):
        with pytest.raises(RunFolderError, match=r"1 of 2 images of split 'held' is among those.*: b001\."):
            chosen_apart(root, before[:2], fingerprints)


def test_other_images_of_the_same_split_names_are_not_those_that_were_trained_on(root: Path) -> None:
    assert training_splits([section(root / "gone", "a")], section(root, "a"), ["of other images"]) == []


def test_training_images_of_a_further_set_are_found_where_it_was_moved_to(root: Path) -> None:
    further = {"name": "more", "train": "b", "classes": "voc21"}
    own = {"name": "first", "classes": "voc21"}
    before = section(root / "gone", "a", also=[{**further, "root": str(root / "gone")}], **own)
    now = section(root, "held", also=[{**further, "root": str(root)}], **own)
    [found] = training_splits([before], now, [None])
    assert found.ids == ["a000", "a001", "more/b000", "more/b001"]


def test_each_training_split_is_opened_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(
        training_images, "open_split", lambda data, name: opened.append(name) or open_split(data, name)
    )
    training_splits([section(root, name) for name in "aabb"], section(root, "a"), [None] * 4)
    assert opened == ["a", "b"]


@pytest.mark.parametrize(("split", "where"), [("a", "that members were trained on"), ("val", "in 'val'")])
def test_a_single_equal_image_of_another_name_is_a_warning(
    root: Path, split: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    trained = [section(root, "a")], [None]
    image(root, "held007").write_text(f"{split}000")
    with caplog.at_level(logging.WARNING):
        assert len(chosen_apart(root, *trained)) == 150
    assert "1 of 150 images of split 'held' is " in caplog.text
    assert where in caplog.text and ": held007." in caplog.text

    image(root, "held008").write_text(f"{split}001")
    image(root, "held009").write_text(f"{split}001")
    image(root, "held010").write_text(f"{split}001")
    named = "held007, held008, held009 and 1 more"
    with pytest.raises(RunFolderError, match=f"4 of 150 images of split 'held' are .*{where}.*: {named}"):
        chosen_apart(root, *trained)


@pytest.mark.parametrize("split", ["a", "val"])
def test_a_single_image_of_the_same_name_is_refused(root: Path, split: str) -> None:
    held = [f"held{place:03d}" for place in range(149)]
    write_list(root, "held", [*held, f"{split}000"])
    with pytest.raises(RunFolderError, match=f"1 of 150 images of split 'held' is .*: {split}000"):
        chosen_apart(root, [section(root, "a")], [None])


def test_a_split_without_a_labelled_pixel_is_refused(root: Path) -> None:
    write_list(root, "held", ["held000", "held001"])
    for id in ("held000", "held001"):
        Image.new("RGB", (4, 4)).save(image(root, id))
        Image.fromarray(np.full((4, 4), 255, np.uint8)).save(root / f"SegmentationClass/{id}.png")
    with pytest.raises(DataError, match="Split 'held' has no labelled pixel.*another split with data.select"):
        chosen_apart(root, [section(root, "a")], [None])
