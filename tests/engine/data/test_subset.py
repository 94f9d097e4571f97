"""data.fold: the images of a list are val, the others of data.train are trained on, in every format."""

import pickle
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from engine.data import open_split
from engine.data.options import Data
from engine.data.sample import DataError, Dataset


def written(tmp_path: Path, *ids: str) -> str:
    path = tmp_path / "fold.txt"
    path.write_text("".join(f"{id}\n" for id in ids))
    return str(path)


def both(data: Data) -> tuple[Dataset, Dataset]:
    return open_split(data, data.train), open_split(data, data.val)


def test_two_parts_of_the_training_split(voc_folder: Path, tmp_path: Path) -> None:
    whole = Data.model_validate({"root": str(voc_folder), "train": "train"})
    fold = written(tmp_path, "train_000004", "JPEGImages/train_000001.jpg")
    data = whole.model_copy(update={"fold": fold})
    train, val = both(data)
    assert train.ids == [f"train_00000{n}" for n in (0, 2, 3, 5)]
    assert val.ids == ["train_000001", "train_000004"]  # in the order of the split
    all_of_them = open_split(whole, "train")
    assert torch.equal(val[1].image, all_of_them[4].image) and torch.equal(
        val.labels(1), all_of_them.labels(4)
    )
    assert val.sizes() == [all_of_them.sizes()[1], all_of_them.sizes()[4]]
    assert len({d.fingerprint() for d in (train, val, all_of_them)}) == 3
    assert open_split(data.model_copy(update={"fold": None}), "val").ids[0] == "val_000000"


def test_a_split_by_a_list_is_the_same_as_a_fold(voc_folder: Path, tmp_path: Path) -> None:
    lists = voc_folder / "ImageSets/Segmentation"
    (lists / "own.txt").write_text("train_000001\ntrain_000004\n")
    data = Data.model_validate({"root": str(voc_folder), "train": "train"})
    fold = data.model_copy(update={"fold": str(lists / "own.txt")})
    assert open_split(fold, "val").fingerprint() == open_split(data, "own").fingerprint()


def test_a_format_without_files(tmp_path: Path) -> None:
    synthetic = {"size": 32, "train_samples": 5}
    whole = Data.model_validate({"format": "synthetic", "synthetic": synthetic})
    all_of_them = open_split(whole, "train")
    ids = list(all_of_them.ids)
    train, val = both(whole.model_copy(update={"fold": written(tmp_path, ids[3], ids[1])}))
    assert (train.ids, val.ids) == ([ids[0], ids[2], ids[4]], [ids[1], ids[3]])
    assert torch.equal(val[1].image, all_of_them[3].image) and torch.equal(
        val.labels(0), all_of_them.labels(1)
    )
    assert val.sizes() == [(32, 32)] * 2 and val.fingerprint() != train.fingerprint()
    assert pickle.loads(pickle.dumps(val)).ids == val.ids  # for worker processes


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            ["train_000001", "zebra", "val_000000"],
            r"2 of 3 images of .*fold.txt are not in split 'train': zebra",
        ),
        ([f"train_00000{n}" for n in range(6)], "names all images of split 'train'"),
        ([], "names no image"),
    ],
)
def test_lists_that_are_no_fold(ids: list[str], message: str, voc_folder: Path, tmp_path: Path) -> None:
    fold = written(tmp_path, *ids)
    data = Data.model_validate({"root": str(voc_folder), "train": "train", "fold": fold})
    with pytest.raises(DataError, match=message):
        open_split(data, "train")


def test_a_missing_list_is_named(voc_folder: Path) -> None:
    data = Data.model_validate({"root": str(voc_folder), "train": "train", "fold": "nowhere.txt"})
    with pytest.raises(DataError, match=r"nowhere\.txt cannot be read"):
        open_split(data, "val")


def test_val_needs_a_name_of_its_own() -> None:
    with pytest.raises(ValidationError, match="has to differ from data.train"):
        Data.model_validate({"train": "all", "val": "all", "fold": "f.txt"})
