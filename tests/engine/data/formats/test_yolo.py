"""Text files of YOLO: outlines, paths, splits."""

import re
from pathlib import Path

import pytest

from engine.data.sample import UnreadableSample
from tests.engine.data.formats.annotated import CAT, H, W, in_yolo, message_of, opened, photo, write_yolo


def test_a_box_of_yolo_is_no_mask(tmp_path: Path) -> None:
    write_yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    message = message_of(lambda: opened(tmp_path, "yolo")[0])
    assert "a box" in message and "line 1" in message
    write_yolo(tmp_path, "7 0.1 0.1 0.5 0.1 0.5 0.5")
    assert "class 7 has no name" in message_of(lambda: opened(tmp_path, "yolo")[0])
    write_yolo(tmp_path, "0 0.1 0.1 x 0.1 0.5 0.5")
    assert "not a class and numbers" in message_of(lambda: opened(tmp_path, "yolo")[0], UnreadableSample)


@pytest.mark.parametrize(
    "names", ["names: 3", "names: cat", "names: [[a, b]]", "names: {a: cat}", "- 1", "names: [a"]
)
def test_a_description_of_yolo_that_is_wrong(names: str, tmp_path: Path) -> None:
    in_yolo(tmp_path, [("cat", CAT)])
    (tmp_path / "data.yaml").write_text(f"{names}\n")
    assert "data.yaml" in message_of(lambda: opened(tmp_path, "yolo"))


def test_an_image_without_a_text_file_of_yolo_has_no_object(tmp_path: Path) -> None:
    in_yolo(tmp_path, [("cat", CAT)])
    photo(tmp_path / "train/images/b.png")
    dataset = opened(tmp_path, "yolo")
    assert dataset.ids == ["a", "b"] and dataset.labels(1).max() == 0
    assert len(dataset.fingerprint()) == 64


def test_one_folder_of_yolo_is_divided_by_a_share(tmp_path: Path) -> None:
    for number in range(20):
        photo(tmp_path / f"images/{number}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{number}.txt").write_text("0 0.0 0.0 0.5 0.0 0.5 1.0 0.0 1.0\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: {0: cat, 1: dog}\n")
    splits = [opened(tmp_path, "yolo", split, polygons={"val_share": 0.5}) for split in ("train", "val")]
    assert sorted(splits[0].ids + splits[1].ids) == sorted(str(number) for number in range(20))
    assert min(map(len, splits)) > 2 and splits[0].labels(0).sum() == H * W / 2


def test_paths_of_another_machine_and_lists_of_yolo(tmp_path: Path) -> None:
    in_yolo(tmp_path, [("cat", CAT)])
    photo(tmp_path / "train/images/b.png")
    (tmp_path / "mine.txt").write_text("./train/images/b.png\n")
    (tmp_path / "data.yaml").write_text(
        "path: /home/else/data\ntrain: /home/else/data/train/images\nval: mine.txt\nnames: [cat, dog]\n"
    )
    assert opened(tmp_path, "yolo").ids == ["a", "b"]
    assert opened(tmp_path, "yolo", "val").ids == ["train/images/b"]


def test_text_files_of_yolo_without_an_image_are_noted(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, "0 .1 .1 .5 .1 .5 .5")
    path.with_name("b.txt").write_text("")
    path.with_name("classes.txt").write_text("cat")
    assert re.search(r"not used: 1 \(.*b\.txt\)", opened(tmp_path, "yolo").note)
