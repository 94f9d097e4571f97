"""Images and masks as people have them in folders and lists, and how they become splits."""

import os
import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from engine.data import open_split
from engine.doctor import main as doctor
from engine.new import main
from engine.recipe import load_recipe
from tests.engine.new.drawn import H, W, draw, labels_of, new_recipe, require_labels, save, two_splits, write


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png"),
        ("Images/SPLIT/f{}.jpg", "Labels/SPLIT/f{}.png"),
        ("SPLIT/f{}.jpg", "SPLITannot/f{}.png"),
        ("SPLIT_images/f{}.png", "SPLIT_masks/f{}.png"),
        ("x_SPLIT/f{}.png", "y_SPLIT/f{}.png"),
        ("SPLIT/f{}.jpg", "SPLIT/f{}.png"),
        ("SPLIT/f{}.png", "SPLIT/f{}_mask.png"),
        ("deep/er/SPLIT/img/f{}.jpg", "deep/er/SPLIT/gt/f{}.png"),
        ("photos_v2/SPLIT/f{}.jpg", "drawn_labels/SPLIT/f{}.png"),
        ("SPLIT/left/f{}.jpg", "SPLIT/sem/f{}.png"),  # from here on only the files tell which are masks
        ("b/SPLIT/f{}.png", "a/SPLIT/f{}.png"),
        ("SPLIT_raw/f{}.jpg", "SPLIT_manual/f{}.png"),
        ("set_SPLIT/clip/Images/f{}.png", "set_SPLIT/clip/Labels/f{}.png"),
        ("SPLIT/images/f{}_photo.jpg", "SPLIT/drawn/f{}_by_me.png"),
    ],
)
def test_folders_of_splits(images: str, masks: str) -> None:
    two_splits(images, masks)
    require_labels(new_recipe(), 3, 2)


@pytest.mark.parametrize("names", ["img lab", "x y", "B A", "orig out"])
def test_masks_are_found_by_what_the_files_hold(capsys, names: str) -> None:
    images, masks = names.split()
    draw(f"{images}/f{{}}.png", f"{masks}/f{{}}.png", range(6))
    recipe = new_recipe()
    assert (recipe.data.folder.images, recipe.data.folder.masks) == (images, masks)
    assert f"images in {images}, masks in {masks}" in capsys.readouterr().out


def test_images_and_masks_in_several_folders_are_one_set(capsys) -> None:
    """Tiles, or clips of a video, each with folders of its own; photos of another place are named."""
    for number in range(4):
        draw(f"tile {number}/photos/f{{}}.jpg", f"tile {number}/labels/f{{}}.png", range(3))
    save(Path("data/.hidden/f0.png"), labels_of(0))
    require_labels(new_recipe(), 9, 3)
    assert "not used" not in capsys.readouterr().out
    Path("data.yaml").unlink()
    save(Path("data/more/deep/f9.png"), labels_of(0))
    save(Path("data/more/deep/f8.png"), labels_of(0))
    require_labels(new_recipe(), 2, 1)
    assert re.search(
        r"20 images below \S+data not used: 3 in \S+data/tile \d/labels", capsys.readouterr().out
    )


def test_the_largest_of_several_folders_is_taken(capsys) -> None:
    draw("few/a/f{}.jpg", "few/a_mask/f{}.png", range(2))
    draw("many/b/f{}.jpg", "many/b_mask/f{}.png", range(5))
    require_labels(new_recipe(), 4, 1)
    assert "4 images below" in capsys.readouterr().out


def test_masks_with_a_single_value_are_passed_over(capsys) -> None:
    """Of a field of view, as sets of retinas have them; alone they are no masks of classes."""
    for split, numbers in (("training", range(3)), ("test", range(3, 5))):
        draw(f"{split}/images/{{}}_{split}.png", f"{split}/mask/{{}}_{split}_mask.png", numbers, np.ones_like)
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    assert "hold the same single value" in capsys.readouterr().err
    for split, numbers in (("training", range(3)), ("test", range(3, 5))):
        draw(f"{split}/images/{{}}_{split}.png", f"{split}/1st_manual/{{}}_manual1.png", numbers)
    require_labels(new_recipe(), 3, 2)


def test_masks_as_png_are_taken_before_the_same_as_jpeg() -> None:
    draw("a_images/f{}.jpg", "a_masks/f{}.jpg", range(5))
    draw("b_images/f{}.png", "b_masks/f{}.png", range(5))
    require_labels(new_recipe(), 4, 1)


def test_the_content_of_folders_that_does_not_tell(capsys) -> None:
    """Two folders of masks for the same photos; photos of two kinds; masks of two kinds."""
    draw("x/f{}.jpg", "y/f{}.png", range(3))
    draw("x/f{}.jpg", "z/f{}.png", range(3), lambda labels: labels + 1)
    assert main(["data"]) == 2
    said = capsys.readouterr().err
    assert "x with masks in y or x with masks in z" in said
    assert "data.folder: {images: x, masks: y, val_share: 0.2}" in said
    for kept in ("x", "y"):
        shutil.rmtree("data")
        draw("x/f{}.jpg", "y/f{}.png", range(3))
        shutil.rmtree(Path("data", "y" if kept == "x" else "x"))
        shutil.copytree(Path("data", kept), "data/other")
        assert main(["data"]) == 2 and "not understood" in capsys.readouterr().err
    assert not Path("data.yaml").exists()


def test_lists_of_paths_from_the_folder_above(capsys) -> None:
    """With semicolons, as spreadsheets of some countries write them."""
    draw("a/pics/f{}.jpg", "a/ann/m{}.png", range(5))
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        rows = [f"a/pics/f{number}.jpg;a/ann/m{number}.png" for number in numbers]
        write(f"{split}.csv", "\n".join(["image;mask", *rows]))
    require_labels(new_recipe(), 3, 2)


@pytest.mark.parametrize("splits", ["Train Valid", "training validation", "train test"])
def test_other_names_of_splits(splits: str) -> None:
    train, val = splits.split()
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", train, val)
    recipe = new_recipe()
    assert (recipe.data.train, recipe.data.val) == (train, val)
    require_labels(recipe, 3, 2)


@pytest.mark.parametrize(
    ("name", "line", "encoding"),
    [
        ("SPLIT.txt", "f{n}", "utf-8"),
        ("SPLIT.txt", "f{n}.jpg", "utf-8-sig"),
        ("SPLIT.txt", "f{n}", "utf-16"),
        ("SPLIT.txt", "images/f{n}.jpg masks/m{n}.png", "utf-8"),
        ("SPLIT.txt", "f{n}", "utf-16-le"),
        ("SPLIT.txt", "f{n}", "utf-16-be"),
        ("ImageSets/Segmentation/SPLIT.txt", "/images/f{n}.jpg /masks/m{n}.png", "utf-8"),
        ("lists/SPLIT.csv", "f{n}.jpg,m{n}.png", "utf-8"),
    ],
)
def test_lists(name: str, line: str, encoding: str) -> None:
    """Those of pairs have masks of other names, so that only the list can say which belong together."""
    has_pairs = "m{n}" in line
    draw("images/f{}.jpg", "masks/m{}.png" if has_pairs else "masks/f{}.png", range(5))
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        lines = ["image,mask"] if name.endswith("csv") else []
        lines += [line.format(n=number) for number in numbers]
        write(name.replace("SPLIT", split), "\r\n".join(lines) + "\r\n", encoding)
    require_labels(new_recipe(), 3, 2)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("f{}.jpg", "f{}.png"),
        ("images/a/f{}.jpg", "masks/a/f{}.png"),
        ("case{}/image.png", "case{}/mask.png"),
        ("photos/f{}.jpg", "annotations/pixel-level/f{}.png"),
        ("png_images/IMAGES/img_{}.png", "png_masks/MASKS/seg_{}.png"),
    ],
)
def test_a_folder_without_splits_gets_a_share_of_its_own(images: str, masks: str) -> None:
    draw(images, masks, range(12))
    recipe = new_recipe()
    assert 0 < recipe.data.folder.val_share < 0.5
    ids = [set(open_split(recipe.data, split).ids) for split in ("train", "val")]
    assert len(ids[0] | ids[1]) == 12 and not ids[0] & ids[1] and min(map(len, ids)) > 0


def test_frames_of_one_sequence_stay_on_one_side() -> None:
    for sequence in "abcdef":
        draw(f"images/{sequence}_{{}}.jpg", f"masks/{sequence}_{{}}.png", range(4))
    recipe = new_recipe()
    sides = [{id[0] for id in open_split(recipe.data, split).ids} for split in ("train", "val")]
    assert sides[0] | sides[1] == set("abcdef") and not sides[0] & sides[1]


@pytest.mark.parametrize("image", ["jpg", "JPG", "png"])
def test_the_layout_of_voc_with_images_of_any_ending(image: str) -> None:
    draw(f"JPEGImages/f{{}}.{image}", "SegmentationClass/f{}.png", range(5))
    write("ImageSets/Segmentation/train.txt", "f0\nf1\nf2\n")
    write("ImageSets/Segmentation/val.txt", "f3\nf4\n")
    require_labels(new_recipe(), 3, 2)


def test_ids_of_voc_in_its_layout_get_its_names() -> None:
    draw("JPEGImages/f{}.jpg", "SegmentationClass/f{}.png", range(5), lambda labels: labels * 6)
    write("ImageSets/Segmentation/train.txt", "f0\nf1\nf2\n")
    write("ImageSets/Segmentation/val.txt", "f3\nf4\n")
    recipe = new_recipe()
    assert recipe.data.classes[6] == "bus" and recipe.data.classes[12] == "dog"
    labels = open_split(recipe.data, "val").labels(0).numpy()
    assert (labels == labels_of(3) * 6).all()


def test_folders_of_tools_and_other_forms_of_an_accent() -> None:
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        composed, split_up = (unicodedata.normalize(form, "é{}") for form in ("NFC", "NFD"))
        draw(f"{split}/images/{composed}.jpg", f"{split}/masks/{split_up}.png", numbers)
    save(Path("data/train/images/.ipynb_checkpoints/é0-checkpoint.jpg"), np.zeros((H, W, 3), np.uint8))
    Path("data/train/images/again").symlink_to(Path("data/train/images").absolute())
    require_labels(new_recipe(), 3, 2)


def renamed_without_utf_8(folder: str) -> None:
    """The file names in a folder as they come out of an archive made with another encoding."""
    for path in Path("data", folder).iterdir():
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9_" + os.fsencode(path.name)))


@pytest.mark.parametrize("splits", [True, False])
def test_names_that_are_no_utf_8_are_named(capsys, splits: bool) -> None:
    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.png") if splits else None
    draw("images/f{}.png", "masks/f{}.png", range(5)) if not splits else None
    folders = ("train/images", "train/masks", "val/images", "val/masks") if splits else ("images", "masks")
    for folder in folders:
        renamed_without_utf_8(folder)
    assert main(["data"]) == 2
    said = capsys.readouterr().err
    assert "bytes that are no UTF-8" in said and r"caf\udce9_f" in said and "Rename them" in said


@pytest.mark.parametrize("where", ["data/caf\udce9", "caf\udce9"])
def test_folders_whose_names_are_no_utf_8_are_named(capsys, where: str) -> None:
    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.png")
    Path("data").rename("there")
    Path(where).parent.mkdir(exist_ok=True)
    Path("there").rename(where)
    assert main([where.partition("/")[0]]) == 2
    assert "has bytes that are no UTF-8. Rename it." in capsys.readouterr().err
    assert doctor(["demo", f"data.root={where}"]) == 2
    assert "bytes that are no UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("count", [2, 3, 24])
def test_a_few_images_are_divided(count: int) -> None:
    draw("images/f{}.jpg", "masks/f{}.png", range(count))
    data = new_recipe().data
    ids = [open_split(data, split).ids for split in ("train", "val")]
    assert sorted(ids[0] + ids[1]) == sorted(f"f{n}" for n in range(count)) and ids[0]
    assert max(1, 0.1 * count) <= len(ids[1]) <= max(1, 0.3 * count)


def test_links_to_the_folder_itself_and_above_are_not_followed() -> None:
    draw("images/f{}.png", "masks/f{}.png", range(5))
    for name, target in (("images/up", ".."), ("masks/self", "."), ("masks/top", "../..")):
        os.symlink(target, Path("data", name))
    recipe = new_recipe()
    assert sum(len(open_split(recipe.data, split)) for split in ("train", "val")) == 5


def test_a_folder_is_found_from_another_one(capsys, monkeypatch) -> None:
    """The path has `..` in it."""
    draw("images/f{}.jpg", "masks/f{}.png", range(12))
    Path("here").mkdir()
    monkeypatch.chdir("here")
    assert main(["../data"]) == 0
    root = load_recipe("data.yaml").data.root
    assert root == str(Path("../data").resolve()) and "not used" not in capsys.readouterr().out


def test_what_is_to_be_typed_next_is_quoted(capsys) -> None:
    draw("images/f{}.jpg", "masks/f{}.png", range(12))
    assert main(["data", "--out", "a b.yaml"]) == 0 and capsys.readouterr().out.endswith(
        "trident run 'a b.yaml'\n"
    )
    Path("data").rename("a b")
    assert doctor(["a b"]) == 0 and capsys.readouterr().out.endswith("trident new 'a b'\n")
