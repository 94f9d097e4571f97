"""Run lengths in a CSV file, against masks drawn by hand."""

import csv
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


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_other_separators_and_encodings(tmp_path: Path, encoding: str, mark: str) -> None:
    photos(tmp_path / "images", "a.png")
    text = "ImageId,ClassId,EncodedPixels\na.png,Überzug,1 3\n,,\n\n".replace(",", mark)
    (tmp_path / "train.csv").write_bytes(text.encode(encoding))
    assert int(opened(tmp_path, "Überzug").labels(0).sum()) == 3


@pytest.mark.parametrize(
    ("headings", "row", "said"),
    [
        ("ImageId_ClassId,EncodedPixels", "a.png,1 3", "line 3: 'a.png' is not an image and its class"),
        ("ImageId_ClassId,EncodedPixels", "_4,1 3", "line 3: '_4' is not an image and its class"),
        ("ImageId,EncodedPixels", ",1 3", "line 3: '' is not an image"),
        ("ImageId,EncodedPixels", "/,1 3", "line 3: '/' is not an image"),
        ("ImageId,EncodedPixels", "\\,1 3", "line 3: '/' is not an image"),
        ("ImageId,EncodedPixels,Note", "a.png,5 2", "line 3: 2 entries for 3 headings"),
        ("ImageId,EncodedPixels", "a.png,5 2,7 2", "line 3: 3 entries for 2 headings"),
        ("ImageId,EncodedPixels", '"a.png,5 2', "line 3: 1 entry for 2 headings"),
        ("ImageId,EncodedPixels", "/data/b.png,1 3", "missing: .*b.png"),
        ("ImageId,EncodedPixels", "no\0folder/b.png,1 3", "missing: .*b.png"),
    ],
)
def test_a_row_that_is_not_understood_is_named(tmp_path: Path, headings: str, row: str, said: str) -> None:
    photos(tmp_path / "images", "a.png")
    (tmp_path / "train.csv").write_text(f"{headings}\n\n{row}\n")
    limit = csv.field_size_limit()
    with pytest.raises(DataError, match=said):
        opened(tmp_path, "object")
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("num_rows", [1, 9999])
def test_text_that_is_not_utf_8_is_named(tmp_path: Path, num_rows: int) -> None:
    rows = b"a.png,1 3\n" * num_rows  # many are more than Python's file buffer
    (tmp_path / "train.csv").write_bytes(b"ImageId,EncodedPixels\n" + rows + b"caf\xe9.png,1 3\n")
    with pytest.raises(DataError, match=f"train.csv, line {num_rows + 2}: its text is not UTF-8"):
        opened(tmp_path, "object")


def test_runs_may_be_longer_than_the_limit_of_csv(tmp_path: Path) -> None:
    photos(tmp_path / "images", "a.png")
    limit = csv.field_size_limit()
    (tmp_path / "train.csv").write_text(f"ImageId,EncodedPixels\na.png,{'1 1 ' * limit}\n")
    assert int(opened(tmp_path, "object").labels(0).sum()) == 1
    assert csv.field_size_limit() == limit


def test_images_of_one_name_are_told_apart_by_their_folders_or_refused(tmp_path: Path) -> None:
    photos(tmp_path / "data/one", "a.png")
    photos(tmp_path / "data/two", "a.png")
    rows = "ImageId,EncodedPixels\n/elsewhere/two/a.png,1 3\n"
    (tmp_path / "data/train.csv").write_text(rows)
    assert opened(tmp_path / "data", "object").ids == ["two/a"]
    (tmp_path / "data/train.csv").write_text(rows.replace("/elsewhere/two/", ""))
    with pytest.raises(DataError) as error:
        opened(tmp_path / "data", "object")
    assert all(f"data/{folder}/a.png" in str(error.value) for folder in ("one", "two"))


def test_several_files_are_not_mixed(tmp_path: Path) -> None:
    photos(tmp_path, "a.png", "b.png")
    (tmp_path / "train.csv").write_text("ImageId,EncodedPixels\na.png,1 3\n")
    (tmp_path / "test.csv").write_text("ImageId,EncodedPixels\nb.png,1 3\n")
    shared = Polygons(val_share=0.5)
    with pytest.raises(DataError, match=r"test\.csv, train\.csv.*data\.polygons\.val_share=null"):
        open_drawn("rle_csv", tmp_path, "train", ("background", "object"), polygons=shared)
    assert opened(tmp_path, "object").ids == ["a"]
    assert opened(tmp_path, "object", split="test").ids == ["b"]


def test_a_folder_without_such_a_file_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image,mask\na.png,b.png\n")
    with pytest.raises(DataError, match=r"ImageId and EncodedPixels"):
        opened(tmp_path, "object")


def test_an_image_that_is_missing_is_named(tmp_path: Path) -> None:
    photos(tmp_path / "images", "a.png")
    (tmp_path / "train.csv").write_text("ImageId,EncodedPixels\na.png,1 1\nzz.png,1 1\n")
    with pytest.raises(DataError, match="zz.png"):
        opened(tmp_path, "object")
