"""Run lengths in a CSV file, against masks drawn by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import DataError
from engine.data.formats import Polygons
from engine.data.formats.drawn import open_drawn
from engine.data.formats.files import FileDataset

H, W = 3, 4


def photos(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(folder / name)


def opened(root: Path, *classes: str, split: str = "train") -> FileDataset:
    return open_drawn("rle_csv", root, split, ("background", *classes), polygons=Polygons())


def test_runs_go_down_the_columns_from_pixel_1(tmp_path: Path) -> None:
    photos(tmp_path / "train_images", "a.png", "b.png", "c.png")
    (tmp_path / "train.csv").write_text(
        "ImageId,ClassId,EncodedPixels\na.png,1,1 2 6 1\na.png,2,6 2 12 1\nb.png,1,\n", "utf-8-sig"
    )
    dataset = opened(tmp_path, "class_1", "class_2")
    assert dataset.labels(0).tolist() == [[1, 0, 2, 0], [1, 0, 0, 0], [0, 2, 0, 2]]
    assert dataset.ids == ["train_images/a", "train_images/b"] and not dataset.labels(1).any()
    assert "1 (" in dataset.note and "c.png" in dataset.note


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("id,rle_mask\na,1 3\nb,\n", "object"),
        ("ImageId_ClassId,EncodedPixels\na.png_4,1 3\nb.png_4,-1\n", "class_4"),
        ("Image_Label,EncodedPixels\na.png_Fish,1 3\nb.png_Fish,\n", "Fish"),
        ("img,label,rle\na.png,crack,1 3\nb.png,,nan\n", "crack"),
    ],
)
def test_other_headings(tmp_path: Path, text: str, name: str) -> None:
    photos(tmp_path / "images", "a.png", "b.png")
    (tmp_path / "train.csv").write_text(text)
    (tmp_path / "sample_submission.csv").write_text("id,rle_mask\nz,1 1\n")
    dataset = opened(tmp_path, name)
    assert [int(dataset.labels(i).sum()) for i in range(2)] == [3, 0]


@pytest.mark.parametrize(
    ("runs", "said"),
    [("1 3 10", "not pairs"), ("abc1 2", "not pairs"), ("11 3", "beyond the 12 pixels"), ("0 2", "beyond")],
)
def test_wrong_runs_are_named(tmp_path: Path, runs: str, said: str) -> None:
    photos(tmp_path / "images", "a.png")
    (tmp_path / "train.csv").write_text(f"ImageId,EncodedPixels\na.png,{runs}\n")
    with pytest.raises(DataError, match=said) as error:
        opened(tmp_path, "object").labels(0)
    assert "train.csv" in str(error.value)


def test_a_folder_without_such_a_file_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image,mask\na.png,b.png\n")
    with pytest.raises(DataError, match=r"ImageId and EncodedPixels"):
        opened(tmp_path, "object")


def test_an_image_that_is_missing_is_named(tmp_path: Path) -> None:
    photos(tmp_path / "images", "a.png")
    (tmp_path / "train.csv").write_text("ImageId,EncodedPixels\na.png,1 1\nzz.png,1 1\n")
    with pytest.raises(DataError, match="zz.png"):
        opened(tmp_path, "object")
