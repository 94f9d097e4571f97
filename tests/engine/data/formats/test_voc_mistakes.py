"""Errors of the VOC reader for wrong folders, lists and files: which one it is, and what to type."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from engine.data import DataError, open_split
from engine.data.formats.voc import open_voc
from tests.engine.data.formats.voc_files import (
    image_path,
    mask_path,
    save_mask,
    split_path,
)
from tests.engine.data.refusals import message_of

# Folders and lists


def test_a_missing_root_says_what_to_type(tmp_path):
    message = message_of(lambda: open_voc(tmp_path / "nowhere", "train"))
    assert str(tmp_path / "nowhere") in message and "data.root=" in message and "JPEGImages" in message


def test_a_root_that_is_not_set_says_what_to_type():
    section = SimpleNamespace(format="voc", root=None, classes="voc21", ignore_index=255, also=[], fold=None)
    assert "data.root=" in message_of(lambda: open_split(section, "train"))


def test_a_missing_split_names_those_there_and_the_closest(voc_folder):
    message = message_of(lambda: open_voc(voc_folder, "trian"))
    assert "trian.txt" in message and "Splits there: train, val." in message
    assert message.endswith("Did you mean train?")


def test_a_folder_without_lists_is_not_in_voc_layout(tmp_path):
    message = message_of(lambda: open_voc(tmp_path, "train"))
    assert "not in VOC layout" in message and str(tmp_path / "ImageSets/Segmentation") in message


def test_a_root_one_or_two_folders_too_high_names_the_right_one(voc_folder, tmp_path):
    assert f"Did you mean data.root={voc_folder}?" in message_of(lambda: open_voc(tmp_path, "train"))
    devkit = tmp_path / "data/VOCdevkit"
    devkit.mkdir(parents=True)
    moved = voc_folder.rename(devkit / "VOC2012")
    message = message_of(lambda: open_voc(tmp_path / "data", "train"))
    assert f"Did you mean data.root={moved}?" in message


def test_a_folder_without_lists_names_no_splits(voc_folder):
    for split in ("train", "val"):
        split_path(voc_folder, split).unlink()
    assert "Splits there: none" in message_of(lambda: open_voc(voc_folder, "train"))


def test_an_empty_split_is_an_error(voc_folder):
    split_path(voc_folder).write_text("\n \n")
    assert str(split_path(voc_folder)) in message_of(lambda: open_voc(voc_folder, "train"))


def test_an_id_listed_twice_is_named(voc_folder):
    split_path(voc_folder).write_text("val_000001\nval_000000\nval_000002\nval_000001\n")
    message = message_of(lambda: open_voc(voc_folder, "train"))
    assert "val_000001" in message and "val_000000" not in message and str(split_path(voc_folder)) in message


@pytest.mark.parametrize(
    ("what", "folder", "ending"), [("image", "JPEGImages", "jpg"), ("mask", "SegmentationClass", "png")]
)
def test_missing_files_are_counted_and_the_first_five_named(voc_folder, what, folder, ending):
    for number in range(6):
        (voc_folder / folder / f"train_{number:06d}.{ending}").unlink()
    split_path(voc_folder).write_text(split_path(voc_folder).read_text() + "val_000000\n")
    message = message_of(lambda: open_voc(voc_folder, "train"))
    assert f"6 of 7 {what} files are missing" in message and "and 1 more" in message
    for number in range(6):
        path = voc_folder / folder / f"train_{number:06d}.{ending}"
        assert (str(path) in message) == (number < 5)


# Files


def test_a_mask_of_another_size_is_named_with_both_sizes(voc_folder):
    save_mask(np.zeros((40, 57)), mask_path(voc_folder))
    message = message_of(lambda: open_voc(voc_folder, "train")[0])
    assert str(mask_path(voc_folder)) in message and str(image_path(voc_folder)) in message
    assert "57x40" in message and "56x40" in message


def test_ids_outside_the_classes_are_named_with_the_file(voc_folder):
    labels = np.zeros((40, 56))
    labels[3, 4:7] = (21, 200, 255)
    save_mask(labels, mask_path(voc_folder))
    message = message_of(lambda: open_voc(voc_folder, "train")[0])
    assert message == message_of(lambda: open_voc(voc_folder, "train").labels(0))
    assert (
        str(mask_path(voc_folder)) in message and "label ids 21, 200," in message and "21 classes" in message
    )


def test_id_255_is_unknown_where_the_recipe_has_another_ignore_index(voc_folder):
    dataset = open_voc(voc_folder, "train", ignore_index=254)
    assert "label ids 255," in message_of(lambda: dataset[0])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16", "1"])
def test_a_mask_that_does_not_hold_ids_is_refused(voc_folder, mode):
    Image.new(mode, (56, 40)).save(mask_path(voc_folder))
    message = message_of(lambda: open_voc(voc_folder, "train")[0])
    assert str(mask_path(voc_folder)) in message and "palette" in message


@pytest.mark.parametrize("path_of", [image_path, mask_path])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named(voc_folder, path_of, kept):
    path, noise = path_of(voc_folder), np.random.default_rng(0).integers(0, 21, (40, 56))
    if path.suffix == ".png":  # the fixture's mask is so small that truncation may leave its pixels intact
        save_mask(noise, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    dataset = open_voc(voc_folder, "train")
    message = message_of(lambda: dataset[0])
    assert str(path) in message and "Replace it" in message
    assert dataset[1].id == "train_000001"


def test_a_mask_with_a_broken_chunk_is_named(voc_folder):
    save_mask(np.random.default_rng(0).integers(0, 21, (400, 400)), mask_path(voc_folder), compress_level=0)
    whole = bytearray(mask_path(voc_folder).read_bytes())
    second = whole.index(b"IDAT", whole.index(b"IDAT") + 4)
    whole[second : second + 4] = b"\xff\xff\xff\xff"
    mask_path(voc_folder).write_bytes(whole)
    assert str(mask_path(voc_folder)) in message_of(lambda: open_voc(voc_folder, "train")[0])


@pytest.mark.parametrize("path_of", [image_path, mask_path])
def test_a_text_file_in_place_of_an_image_is_named(voc_folder, path_of):
    path_of(voc_folder).write_text("<html>404 not found</html>")
    assert str(path_of(voc_folder)) in message_of(lambda: open_voc(voc_folder, "train")[0])


@pytest.mark.parametrize("path_of", [image_path, mask_path])
def test_a_damaged_file_is_never_another_error_than_a_data_error(voc_folder, path_of):
    """With any bytes overwritten, the sample is read, or a DataError names the file."""
    rng = np.random.default_rng(0)
    path = path_of(voc_folder)
    whole, outcomes = path.read_bytes(), set()
    dataset = open_voc(voc_folder, "train")
    header_lengths = [bytes(whole[:11]) + bytes([length]) + whole[12:] for length in (0, 1, 5, 200)]
    random_damage = []
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 20)):
            damaged[place] = rng.integers(0, 256)
        random_damage.append(bytes(damaged))
    for damaged in header_lengths + random_damage:
        path.write_bytes(damaged)
        try:
            outcomes.add(type(dataset[0]).__name__)
        except DataError as error:
            outcomes.add("DataError")
            assert str(path) in str(error)
    assert "DataError" in outcomes


def test_reading_the_sizes_names_a_damaged_image(voc_folder):
    image_path(voc_folder).write_bytes(b"")
    assert str(image_path(voc_folder)) in message_of(open_voc(voc_folder, "train").sizes)
