"""Of the images below a folder that is named, those in a folder of masks are left out."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.data.inputs import input_images
from engine.data.mask_folders import without_masks
from engine.data.options import Data
from engine.data.rasters import in_memory
from engine.data.survey import contents

VOC: dict[str, Any] = {"format": "voc", "root": "x"}
FOLDER: dict[str, Any] = {"format": "folder", "root": "x", "classes": ["a", "b"]}


def own(**folder: str) -> dict[str, Any]:
    return {**FOLDER, "folder": folder}


def left(root: Path, section: dict[str, Any], inputs: list[str]) -> tuple[list[str], str]:
    images, note = without_masks(
        input_images([str(root / text) for text in inputs], root / "out"), Data.model_validate(section)
    )
    return sorted(image.path.relative_to(root).as_posix() for image in images), note


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("section", "images", "masks"),
    [
        (VOC, ["images/1.jpg"], ["masks/1.png"]),  # the usual names count for every run
        (FOLDER, ["train/Images/1.jpg", "val/Images/2.jpg"], ["train/labels/1.png", "val/labels/2.png"]),
        (FOLDER, ["images/train/1.jpg", "test.jpg"], ["masks/train/1.png"]),
        (VOC, ["JPEGImages/1.jpg"], ["SegmentationClassAug/1.png", "SegmentationObject/1.png"]),
        (own(images="rgb", masks="gt_fine"), ["rgb/1.png"], ["gt_fine/1.png", "gt_fine/a/1.png"]),
        (own(masks="ann"), ["photos/1.png"], ["ann/1.png"]),
        (own(images="{split}_x", masks="{split}_y"), ["train_x/1.png"], ["train_y/1.png"]),
        (own(images="d/img/{split}", masks="d/ann/{split}"), ["d/img/train/1.png"], ["d/ann/train/1.png"]),
        ({"format": "cityscapes", "root": "x"}, ["leftImg8bit/val/c/1.png"], ["gtFine/val/c/1.png"]),
        ({"format": "camvid", "root": "x"}, ["train/1.png", "val/2.png"], ["trainannot/1.png"]),
        ({"format": "ade20k", "root": "x"}, ["images/training/1.jpg"], ["annotations/training/1.png"]),
        ({"format": "coco_stuff", "root": "x"}, ["train2017/1.jpg"], ["stuffthingmaps/train2017/1.png"]),
    ],
)
def test_masks_beside_images_are_left_out(
    tmp_path: Path, section: dict[str, Any], images: list[str], masks: list[str]
) -> None:
    write(tmp_path, *images, *masks)
    found, note = left(tmp_path, section, ["."])
    assert found == sorted(images)
    assert f"{len(masks)} of {len(masks) + len(images)} images" in note
    assert str(tmp_path / PurePosixPath(masks[0]).parts[0]) in note


def test_what_is_named_is_used(tmp_path: Path) -> None:
    write(tmp_path, "images/1.jpg", "masks/1.png")
    both = ["images/1.jpg", "masks/1.png"]
    assert left(tmp_path, FOLDER, ["masks"]) == (["masks/1.png"], "")
    assert left(tmp_path, FOLDER, ["masks/1.png"]) == (["masks/1.png"], "")
    assert left(tmp_path, FOLDER, ["masks/*.png"]) == (["masks/1.png"], "")
    assert left(tmp_path, FOLDER, ["*"]) == (both, "")
    assert left(tmp_path, FOLDER, [".", "masks"]) == (both, "")


@pytest.mark.parametrize("names", [["labels/1.jpg", "2.jpg"], ["masks/1.png", "masks/2.png"], ["gt/a/1.jpg"]])
def test_a_folder_that_is_beside_no_images_is_not_one_of_masks(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path, *names)
    assert left(tmp_path, FOLDER, ["."]) == (sorted(names), "")


def test_all_are_used_where_none_would_be_left(tmp_path: Path) -> None:
    write(tmp_path, "masks/1.png")
    (tmp_path / "images").mkdir()
    assert left(tmp_path, FOLDER, ["."]) == (["masks/1.png"], "")


PHOTO = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
COLOURS = np.zeros((20, 20, 3), np.uint8)
COLOURS[4:9] = 255, 0, 0


def draw(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("image", "mask"),
    [("a.jpg", "a.png"), ("a.tif", "a.png"), ("b/a.png", "b/a_mask.png"), ("a.jpg", "a.jpg.png")],
)
@pytest.mark.parametrize("drawn", [COLOURS, COLOURS[..., 0]])
def test_masks_beside_their_images_in_one_folder_are_left_out(
    tmp_path: Path, image: str, mask: str, drawn: np.ndarray
) -> None:
    draw(tmp_path / image, PHOTO)
    draw(tmp_path / mask, drawn)
    found, note = left(tmp_path, FOLDER, ["."])
    assert found == [image]
    assert note == f"1 of 2 images is left out as a mask beside its image: {tmp_path / mask}."
    assert left(tmp_path, FOLDER, [".", mask]) == (sorted([image, mask]), "")
    [kept], _ = without_masks(input_images([str(tmp_path)], tmp_path / "out"), Data.model_validate(FOLDER))
    assert kept.name == str(Path(image).with_suffix(""))  # as if the mask were not there
    (tmp_path / "more").mkdir()
    moved = f"more/{Path(mask).name}"  # what `trident diagnose --next` says
    (tmp_path / mask).rename(tmp_path / moved)
    assert left(tmp_path, FOLDER, ["."]) == (sorted([image, moved]), "")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_of_large_tiffs_parts_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be larger than the memory, and be predicted by tiles."""

    def decoded_as_a_whole(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(contents, "WHOLE_PX", 399)  # PHOTO has 400
    monkeypatch.setattr(contents, "stored_values", decoded_as_a_whole)
    for name, pixels in (("a", PHOTO), ("a_mask", COLOURS), ("b", PHOTO), ("b_mask", PHOTO)):
        draw(tmp_path / f"{name}.tif", pixels)
    assert left(tmp_path, FOLDER, ["."])[0] == ["a.tif", "b.tif", "b_mask.tif"]
    tall = in_memory(np.arange(1000, dtype=np.uint16).reshape(1, 1000, 1))
    rows = [*range(38, 294), *range(372, 628), *range(705, 961)]  # 256 around 1/6, 1/2 and 5/6 of 1000
    assert np.unique(contents._parts(tall)).tolist() == rows


def test_masks_in_a_folder_and_beside_their_images_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "x/images/1.jpg", "x/masks/1.png")
    for name in ("a", "b"):
        draw(tmp_path / f"{name}.jpg", PHOTO)
        draw(tmp_path / f"{name}.png", COLOURS)
    found, note = left(tmp_path, FOLDER, ["."])
    assert found == ["a.jpg", "b.jpg", "x/images/1.jpg"]
    first, second = note.split(". ")
    assert first.startswith("1 of 6 images is left out, found in a folder of masks beside one of images: ")
    assert second.startswith("2 of 6 images are left out as masks beside their images: ")
    (tmp_path / "x/masks").rename(tmp_path / "x/more")  # what `trident diagnose --next` says
    assert "x/more/1.png" in left(tmp_path, FOLDER, ["."])[0]


def test_photos_with_the_names_of_masks_are_used(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", PHOTO)
    draw(tmp_path / "a.png", PHOTO)
    draw(tmp_path / "a_mask.png", PHOTO[..., 0])
    draw(tmp_path / "plan.png", COLOURS)  # of no other image
    (tmp_path / "a.gif").touch()  # unreadable: named where it is predicted
    names = ["a.gif", "a.jpg", "a.png", "a_mask.png", "plan.png"]
    assert left(tmp_path, FOLDER, ["."]) == (names, "")
