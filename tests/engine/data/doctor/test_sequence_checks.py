"""Frames of one sequence on both sides of a split, and names that only look like it."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from engine.command import main
from engine.data import open_split
from engine.data.doctor import examine, list_samples_of
from engine.data.options import Data
from engine.data.sequences import are_consecutive, group_name, group_of_frames, sequences_of
from engine.recipe import load_recipe

SIZE = (80, 64)  # width, height
Place = Callable[[str, str], tuple[Path, Path]]


def frame(sequence: int, number: int) -> tuple[Image.Image, Image.Image]:
    """A scene of rectangles, of which one moves; and its mask."""
    rng = np.random.default_rng(sequence)
    image, mask = Image.new("RGB", SIZE, tuple(rng.integers(0, 255, 3).tolist())), Image.new("L", SIZE)
    for _ in range(8):
        x, y, w, h = rng.integers(4, 40, 4).tolist()
        box = [2 * x - 8, y, 2 * x - 8 + w, y + h]
        ImageDraw.Draw(image).rectangle(box, fill=tuple(rng.integers(0, 255, 3).tolist()))
    box = [4 + 5 * number, 20, 20 + 5 * number, 40]
    ImageDraw.Draw(image).rectangle(box, fill=(255, 255, 255))
    ImageDraw.Draw(mask).rectangle(box, fill=1)
    return image, mask


def photo(sequence: int, number: int) -> tuple[Image.Image, Image.Image]:
    """Another scene each time."""
    return frame(100 + 50 * sequence + number, 3)


def draw(place: Place, make=frame, numbers: Callable[[int], list[int]] = lambda _: list(range(8))) -> None:
    """Four sequences; every fourth frame is for val."""
    for sequence in range(4):
        for place_in, number in enumerate(numbers(sequence)):
            split = "val" if place_in % 4 == 2 else "train"
            files = place(split, f"street{sequence}_{number:04d}")
            for picture, file in zip(make(sequence, place_in), files, strict=True):
                file.parent.mkdir(parents=True, exist_ok=True)
                picture.save(file)


def in_lists(root: Path, images: str, masks: str, lists: str) -> Place:
    def place(split: str, id: str) -> tuple[Path, Path]:
        path = root / lists / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{id}\n")
        return root / images / f"{id}.png", root / masks / f"{id}.png"

    return place


def in_voc(root: Path) -> Place:
    return in_lists(root, "JPEGImages", "SegmentationClass", "ImageSets/Segmentation")


def in_folders(root: Path) -> Place:
    return lambda split, id: (root / split / "images" / f"{id}.png", root / split / "masks" / f"{id}.png")


def section(root: Path, format_: str, **values: object) -> Data:
    own = {"root": str(root), "format": format_, "train": "train", "classes": ["still", "moving"]}
    return Data.model_validate({**own, **values})


def found_in(data: Data) -> list:
    report = examine(list_samples_of(data), lambda done, total: None).report
    return [found for found in report.findings if found.check == "sequences"]


@pytest.mark.parametrize(
    ("format_", "place"),
    [
        ("voc", in_voc),
        ("folder", in_voc),
        ("folder", lambda root: in_lists(root, "images", "masks", ".")),
        ("folder", in_folders),
    ],
    ids=["VOC", "VOC as a folder", "lists", "split folders"],
)
def test_frames_of_one_sequence_in_both_splits_are_found(tmp_path: Path, format_: str, place) -> None:
    draw(place(tmp_path))
    (found,) = found_in(section(tmp_path, format_))
    assert found.severity == "hurts"
    assert "8 of 8 images of val are frames of sequences that train has, too: 4 sequences" in found.what
    assert found.where[0] == "street0: 6 frames in train, 2 in val"


@pytest.mark.parametrize("classes", ["[still, moving]", None], ids=["own classes", "those of VOC"])
@pytest.mark.parametrize("kind", ["voc", "lists", "share"])
def test_the_recipe_lines_split_by_sequence(
    tmp_path: Path, monkeypatch, capsys, kind: str, classes: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    place = {
        "voc": in_voc(Path("data")),
        "lists": in_lists(Path("data"), "images", "masks", "."),
        "share": lambda split, id: (Path(f"data/images/{id}.png"), Path(f"data/masks/{id}.png")),
    }[kind]
    draw(place)
    format_ = "voc" if kind == "voc" else "folder"
    share = ", folder: {val_share: 0.3}" if kind == "share" else ""
    named = f", classes: {classes or 'voc21'}" if classes or kind != "voc" else ""
    Path("r.yaml").write_text(
        f"name: r\ndata: {{format: {format_}, root: data, train: train{named}{share}}}\n"
    )
    main(["doctor", "r.yaml"])
    remedy = re.search(r"Split by sequence: ([^│\n]*)", capsys.readouterr().out)
    lines = shlex.split(remedy[1])
    data = load_recipe(Path("r.yaml"), lines).data
    assert found_in(data) == []
    ids = {split: open_split(data, split).ids for split in ("train", "val")}
    assert sum(map(len, ids.values())) == 32 and all(ids.values())
    assert sequences_of(ids["train"]).keys().isdisjoint(sequences_of(ids["val"]))
    main(["doctor", "r.yaml", *lines])
    assert "Split by sequence" not in capsys.readouterr().out


def test_in_a_fold_the_comparison_keeps_sequences_together(tmp_path: Path) -> None:
    draw(in_voc(tmp_path))
    ids = (tmp_path / "ImageSets/Segmentation/train.txt").read_text().split()
    (tmp_path / "fold_0.txt").write_text("\n".join(ids[::3]))
    (found,) = found_in(section(tmp_path, "voc", fold=str(tmp_path / "fold_0.txt")))
    [pattern] = re.findall("--group '(.+)' and another --out", found.remedy)
    assert {group_name(id, pattern) for id in ids} == {f"street{sequence}_" for sequence in range(4)}


def test_sequences_that_are_apart_are_no_finding(tmp_path: Path) -> None:
    draw(lambda split, id: in_folders(tmp_path)("val" if id.startswith("street3") else "train", id))
    assert found_in(section(tmp_path, "folder")) == []


def test_photos_named_by_year_as_in_voc_are_no_finding(tmp_path: Path) -> None:
    numbers = lambda sequence: np.random.default_rng(sequence).choice(9999, 8, replace=False).tolist()  # noqa: E731
    draw(in_voc(tmp_path), photo, numbers)
    assert found_in(section(tmp_path, "voc")) == []


def test_names_alone_are_a_note(tmp_path: Path) -> None:
    draw(in_voc(tmp_path), photo)
    (found,) = found_in(section(tmp_path, "voc"))
    assert found.severity == "note" and "by their names" in found.what


def test_frames_with_gaps_are_found_by_their_pixels(tmp_path: Path) -> None:
    numbers = lambda sequence: np.sort(np.random.default_rng(sequence).choice(900, 8, replace=False)).tolist()  # noqa: E731
    draw(in_folders(tmp_path), frame, numbers)
    assert [found.severity for found in found_in(section(tmp_path, "folder"))] == ["hurts"]


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (["a/1", "b/2"], {"a/", "b/"}),
        (["0001_0005", "0001_0006"], {"0001_"}),
        (["clip2_17", "clip2_18"], {"clip2_"}),
        (["IMG12"], {"IMG"}),
        (["000000000139", "12", "dog", "7_left"], set()),
    ],
)
def test_the_name_of_a_sequence(ids: list[str], names: set[str]) -> None:
    assert sequences_of(ids).keys() == names


def test_numbers_alone_are_no_sequences() -> None:
    assert group_of_frames([str(number) for number in range(100, 400, 7)]) is None


@pytest.mark.parametrize(
    ("numbers", "consecutive"),
    [([1, 2, 3], True), ([0, 30, 90], True), ([5, 1, 90], False), ([4], False)],
)
def test_consecutive_numbers(numbers: list[int], consecutive: bool) -> None:
    assert are_consecutive(numbers) is consecutive
