"""Which images two data sets share: by content, not by name or folder."""

import shutil
from collections.abc import Container
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data import open_split
from engine.data.formats.files import FileDataset
from engine.data.options import Data
from engine.data.overlap import image_files, shared_images
from engine.data.resident import Resident
from engine.data.sample import Sample, UnreadableSample
from engine.data.sets import Part, SeveralSets
from engine.data.synthetic import SyntheticScenes


def draw(root: Path, split: str, seeds: dict[str, int], ending: str = ".png") -> None:
    for id, seed in seeds.items():
        pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3)).astype(np.uint8)
        for folder, content in (("images", pixels), ("masks", np.zeros((40, 50), np.uint8))):
            path = root / split / folder / f"{id}{ending if folder == 'images' else '.png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)


def opened(root: Path, split: str) -> FileDataset:
    section = {"root": str(root), "format": "folder", "classes": ["a", "b"]}
    dataset = open_split(Data.model_validate(section), split)
    assert isinstance(dataset, FileDataset)
    return dataset


def test_the_same_images_under_other_names_and_in_other_folders_are_found(tmp_path: Path) -> None:
    draw(tmp_path / "one", "train", {"a": 1, "b": 2, "c": 3})
    draw(tmp_path / "other", "val", {"x": 2, "y": 9, "a": 8})
    val, train = opened(tmp_path / "other", "val"), opened(tmp_path / "one", "train")
    assert shared_images(val, train) == {"x"}
    assert shared_images(train, train) == {"a", "b", "c"}
    in_memory = Resident(train, torch.device("cpu"), lambda done, total: None)
    assert shared_images(val, in_memory) == {"x"}


def test_the_files_of_every_kind_of_data_set(tmp_path: Path) -> None:
    draw(tmp_path, "train", {"a": 1, "b": 2})
    train = opened(tmp_path, "train")
    files = [tmp_path / f"train/images/{id}.png" for id in "ab"]
    both = SeveralSets([Part("one", None, "", train, None), Part("two", 0, "two/", train, None)], train)
    in_memory = Resident(train, torch.device("cpu"), lambda done, total: None)
    assert image_files(train) == image_files(in_memory) == files
    assert image_files(both) == [*files, *files]
    assert image_files(SyntheticScenes("train", 2, 32)) == []


def test_files_of_equal_size_are_compared(tmp_path: Path) -> None:
    draw(tmp_path, "train", {"a": 1, "b": 2}, ".bmp")
    draw(tmp_path, "val", {"c": 3, "d": 2}, ".bmp")
    assert shared_images(opened(tmp_path, "val"), opened(tmp_path, "train")) == {"d"}


def test_files_that_differ_in_one_pixel_are_not_the_same(tmp_path: Path) -> None:
    draw(tmp_path, "train", {"a": 1}, ".bmp")
    draw(tmp_path, "val", {"a": 1}, ".bmp")
    pixels = np.zeros((200, 200, 3), np.uint8)  # of more bytes than those that are compared first
    for split in ("train", "val"):
        pixels[50, 50] = 255 * (split == "val")
        Image.fromarray(pixels).save(tmp_path / split / "images/a.bmp")
        Image.fromarray(np.zeros((200, 200), np.uint8)).save(tmp_path / split / "masks/a.png")
    assert shared_images(opened(tmp_path, "val"), opened(tmp_path, "train")) == set()


def test_an_image_that_is_missing_is_in_no_other_data_set(tmp_path: Path) -> None:
    draw(tmp_path, "train", {"a": 1})
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    val, train = opened(tmp_path, "val"), opened(tmp_path, "train")
    val.image_path(0).unlink()
    assert shared_images(val, train) == set()


@pytest.mark.parametrize(("split", "num"), [("train", 4), ("val", 0)])
def test_drawn_scenes_are_compared_as_a_whole(split: str, num: int) -> None:
    section = Data.model_validate(
        {"format": "synthetic", "synthetic": {"size": 32, "train_samples": 4, "val_samples": 3}}
    )
    assert len(shared_images(open_split(section, split), open_split(section, "train"))) == num


def test_images_without_files_are_the_same_by_name_and_pixels() -> None:
    some = SyntheticScenes("train", 2, 32)
    assert shared_images(some, SyntheticScenes("train", 3, 32)) == set(some.ids)
    assert shared_images(some, SyntheticScenes("train", 3, 32, seed=1)) == set()


class Counted(SyntheticScenes):
    """Scenes of which some have other pixels, and some cannot be read; which are read is noted."""

    def __init__(self, other: Container[int] = (), unreadable: Container[int] = (), size: int = 32) -> None:
        super().__init__("train", 100, size)
        self.other, self.unreadable, self.read = other, unreadable, list[int]()

    def fingerprint(self) -> str:
        return str(id(self))

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        if index in self.unreadable:
            raise UnreadableSample("damaged")
        return Sample(self.ids[index], torch.full((3, 32, 32), int(index in self.other)), torch.zeros(32, 32))


def test_of_images_without_files_that_share_their_names_a_few_are_read() -> None:
    some = Counted()
    assert shared_images(some, Counted(range(100))) == set()
    assert len(some.read) <= 16 and min(some.read) == 0 and max(some.read) > 90
    some.read.clear()
    assert shared_images(some, Counted()) == set(some.ids) and len(some.read) <= 16


def test_images_without_files_of_other_sizes_are_not_read() -> None:
    some = Counted()
    assert shared_images(some, Counted(size=48)) == set() and some.read == []


def test_all_images_without_files_are_compared_where_some_are_the_same() -> None:
    some = Counted()
    assert shared_images(some, Counted(range(37, 100))) == set(some.ids[:37])


def test_images_without_files_that_cannot_be_read_are_not_known_to_be_shared() -> None:
    broken = Counted(unreadable=range(100))
    assert shared_images(broken, Counted(unreadable=range(100))) == set()
    assert broken.ids[0] not in shared_images(Counted(), Counted(unreadable=[0]))
    assert shared_images(Counted(range(1, 100)), Counted(unreadable=[0])) == set()


def test_the_size_of_one_image_that_is_not_known_hides_no_shared_ones(monkeypatch) -> None:
    def sizes(dataset: Counted) -> list[tuple[int, int]]:
        raise UnreadableSample("damaged")

    monkeypatch.setattr(Counted, "sizes", sizes)
    some = Counted()
    assert shared_images(some, Counted()) == set(some.ids)
