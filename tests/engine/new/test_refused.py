"""What is no data set is named, and nothing is written over."""

import errno
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.doctor import main as doctor
from engine.new import main
from tests.engine.new.drawn import H, W, draw, new_recipe, photo, save, two_splits, write


def test_a_single_image_is_no_data_set(capsys) -> None:
    draw("images/f{}.jpg", "masks/f{}.png", range(1))
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    said = capsys.readouterr().err
    assert "1 image in" in said and "add images" in said and "not understood" not in said


@pytest.mark.parametrize(
    ("change", "ending", "said"),
    [
        (photo, "png", "are they photos?"),
        (lambda m: m * np.float32(1.7), "tif", "3.4 (2,400 pixels): values between whole numbers"),
        (
            lambda m: np.arange(H * W, dtype=np.int32).reshape(H, W),
            "tif",
            "number objects instead of classes",
        ),
        (lambda m: np.full((H, W), np.nan, np.float32), "tif", "only nan"),
        (lambda m: m, "jpg", "export them as PNG"),
        (
            lambda m: np.dstack([np.full((H, W, 3), 255, np.uint8), (m > 0).astype(np.uint8) * 255]),
            "png",
            "Only their transparency differs",
        ),
    ],
)
def test_masks_that_are_no_classes_are_named(capsys, change, ending: str, said: str) -> None:
    for split in ("train", "val"):
        draw(f"{split}/images/f{{}}.png", f"{split}/masks/f{{}}.{ending}", range(2), change)
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_is_not_understood_lists_what_is_there(capsys) -> None:
    write("notes/readme.txt", "no images")
    write("notes/all.zip", "")
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    error = capsys.readouterr().err
    assert (
        "Looked for VOC, COCO, LabelMe" in error
        and "notes: 1 .txt, 1 .zip" in error
        and "data.folder" in error
    )
    assert "notes/all.zip. Unpack" in error
    assert main(["nowhere"]) == 2 and "No folder" in capsys.readouterr().err


def test_two_images_of_one_name_are_named_before_a_later_layout(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    for path in Path("data").glob("*/images/*.jpg"):
        save(path.with_suffix(".png"), np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8))
    assert main(["data"]) == 2
    said = capsys.readouterr().err
    assert "several images have the same name" in said and "data/train/images: 3 .jpg, 3 .png" in said


def test_nothing_is_overwritten(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    Path("data.yaml").write_text("mine")
    assert main(["data"]) == 2 and Path("data.yaml").read_text() == "mine"
    assert "--out=" in capsys.readouterr().err


def test_on_a_full_disk_no_half_of_a_recipe_is_left(capsys, monkeypatch) -> None:
    """It would stop the same command when there is space again."""
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")

    def write_half(path: Path, text: str, *arguments: object, **options: object) -> None:
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", write_half)
        assert main(["data"]) == 1
    said = capsys.readouterr().err
    assert "data.yaml" in said and "Free some space" in said
    assert not [*Path().glob("*data.yaml*")]
    assert main(["data"]) == 0


def test_a_damaged_image_is_left_to_the_doctor(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    damaged = Path("data/train/images/f0.jpg")
    damaged.write_bytes(damaged.read_bytes()[:200])
    new_recipe(exit_code=2)
    assert "trident doctor data.yaml" in capsys.readouterr().out
    assert doctor(["data.yaml"]) == 2


def test_photos_are_no_masks(capsys) -> None:
    coarse = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 7), dtype=np.uint8))
    photo = np.asarray(coarse.resize((W, H), Image.Resampling.BICUBIC))
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", change=lambda labels: photo)
    assert main(["data"]) == 2
    assert "Are they photos?" in capsys.readouterr().err and not Path("data.yaml").exists()


@pytest.mark.parametrize("content", [b"f0\nf0\n", b"f0\n\xe9\n", b"\n"], ids=["twice", "latin-1", "empty"])
def test_lists_that_cannot_be_used_are_named(content: bytes, capsys) -> None:
    draw("images/f{}.png", "masks/f{}.png", range(5))
    write("train.txt", "f1\nf2\n")
    Path("data/val.txt").write_bytes(content)
    assert new_recipe().data.folder.val_share
    assert re.search(r"lists of train and val were not used: .*val\.txt", capsys.readouterr().out)


@pytest.mark.parametrize("name", ["folds.csv", "splits.json"])
def test_a_table_of_the_images_that_is_not_read_is_named(name: str, capsys) -> None:
    draw("images/f{}.png", "masks/f{}.png", range(5))
    write(name, "".join(f'"f{number}", {number % 2}\n' for number in range(5)))
    write("notes.txt", "made in May, with f10 to f14 left out")
    assert new_recipe().data.folder.val_share
    said = capsys.readouterr().out
    assert "1 file with names of images not used" in said and name in said and "notes.txt" not in said


def test_characters_that_no_recipe_holds_are_left_out_of_its_comments(capsys) -> None:
    draw("images/f{}.png", "masks/f{}.png", range(5))
    write("train.txt", "f0\nf1\0\x07\n")
    write("val.txt", "f2\n")
    assert new_recipe().data.folder.val_share


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("<!DOCTYPE html><html>", "a web page"),
        ("", "It is empty"),
    ],
)
def test_a_file_that_is_no_image_is_named_as_what_it_is(start: str, said: str, capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    write("train/images/f1.jpg", start)
    assert main(["data"]) == 2 and said in " ".join(capsys.readouterr().out.split())


def test_masks_that_cannot_be_read_are_named_with_the_reason(capsys) -> None:
    draw("images/f{}.png", "masks/f{}.tif", range(3))
    for mask in Path("data/masks").iterdir():
        mask.write_bytes(b"no image")
    assert main(["data"]) == 2
    assert re.search(r"masks/f\d\.tif cannot be read .*Save masks as PNG", capsys.readouterr().err)


def test_the_folder_of_the_images_alone_is_answered_with_the_one_above(capsys) -> None:
    draw("images/f{}.jpg", "masks/f{}.png", range(4))
    assert main(
        ["data/images"]
    ) == 2 and f"type the folder of both: trident new {Path('data').resolve()}" in (capsys.readouterr().err)
    assert main(["data/images/f0.jpg"]) == 2 and "f0.jpg is no folder" in capsys.readouterr().err
    assert main(["dat"]) == 2 and "Did you mean" in capsys.readouterr().err
