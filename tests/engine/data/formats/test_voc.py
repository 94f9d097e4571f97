"""The VOC reader: what it reads, pixel by pixel, from generated folders and real photos."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data import class_names_of, open_split
from engine.data.formats.voc import open_voc, voc_palette
from models.class_names import VOC
from tests.engine.data.formats.voc_files import (
    TRAIN_0,
    image_path,
    mask_path,
    save_mask,
    split_path,
)
from tests.engine.data.refusals import message_of

PUBLISHED_COLOURS = (
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
    (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128),
    (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
)  # fmt: skip

# What is read


def test_pixels_come_as_rgb_channels_first_and_labels_as_written(voc_folder):
    pixels = np.zeros((40, 56, 3), np.uint8)
    pixels[:16] = (200, 40, 20)  # upper rows red, lower left green, lower right blue
    pixels[16:, :24] = (30, 180, 60)
    pixels[16:, 24:] = (10, 50, 220)
    Image.fromarray(pixels).save(image_path(voc_folder), quality=100, subsampling=0)
    labels = np.random.default_rng(0).choice([*range(21), 255], (40, 56)).astype(np.uint8)
    save_mask(labels, mask_path(voc_folder))

    sample = open_voc(voc_folder, "train")[0]

    assert sample.id == TRAIN_0
    assert sample.image.dtype == sample.labels.dtype == torch.uint8
    assert sample.image.shape == (3, 40, 56) and sample.image.is_contiguous()
    difference = sample.image.permute(1, 2, 0).int() - torch.from_numpy(pixels).int()
    assert difference.abs().max() <= 4  # what JPEG itself changes
    assert torch.equal(sample.labels, torch.from_numpy(labels))


def test_a_split_has_the_order_of_its_list_and_the_image_sizes(voc_folder):
    split_path(voc_folder, "mine").write_text("val_000003\ntrain_000004\n")
    dataset = open_voc(voc_folder, "mine")
    assert dataset.ids == ["val_000003", "train_000004"] and len(dataset) == 2
    assert dataset.sizes() == [(45, 45), (72, 41)]
    assert [tuple(dataset[i].labels.shape) for i in range(2)] == dataset.sizes()


def test_a_list_may_name_images_with_their_endings(voc_folder):
    image_path(voc_folder, "train_000001").rename(image_path(voc_folder, "train_000001").with_suffix(".JPG"))
    image_path(voc_folder, "train_000002").rename(image_path(voc_folder, "a.b"))
    mask_path(voc_folder, "train_000002").rename(mask_path(voc_folder, "a.b"))
    split_path(voc_folder, "mine").write_text("train_000000.jpg\ntrain_000001.JPG\na.b\n")
    assert open_voc(voc_folder, "mine").ids == ["train_000000", "train_000001", "a.b"]
    split_path(voc_folder, "mine").write_text("train_000000.jpg\ntrain_000000\n")
    assert "names train_000000 more than once" in message_of(lambda: open_voc(voc_folder, "mine"))


def test_void_borders_stay_void(voc_folder):
    labels = open_voc(voc_folder, "train")[0].labels
    assert labels.unique().tolist() == [0, 15, 255]


def test_an_8_bit_grey_mask_holds_ids_too(voc_folder):
    labels = np.random.default_rng(1).integers(0, 21, (40, 56)).astype(np.uint8)
    Image.fromarray(labels, "L").save(mask_path(voc_folder))
    assert torch.equal(open_voc(voc_folder, "train")[0].labels, torch.from_numpy(labels))


@pytest.mark.parametrize(
    ("mode", "colour", "file_format"),
    [("L", 77, "JPEG"), ("RGBA", (77, 77, 77, 9), "PNG"), ("CMYK", (0, 0, 0, 178), "JPEG"), ("P", 77, "PNG")],
)
def test_grey_transparent_cmyk_and_palette_images_become_rgb(voc_folder, mode, colour, file_format):
    image = Image.new(mode, (56, 40), colour)
    if mode == "P":
        image.putpalette([id for id in range(256) for _ in range(3)])
    image.save(image_path(voc_folder), file_format)
    image = open_voc(voc_folder, "train")[0].image
    assert image.shape == (3, 40, 56) and image.dtype == torch.uint8
    assert (image.int() - 77).abs().max() <= 2


@pytest.mark.parametrize(("image", "mask"), [("JPG", "PNG"), ("png", "png"), ("Jpeg", "tif"), ("PNG", "bmp")])
def test_images_and_masks_may_have_other_endings(voc_folder, image, mask):
    expected = open_voc(voc_folder, "train")[0]
    for path, ending in ((image_path(voc_folder), image), (mask_path(voc_folder), mask)):
        with Image.open(path) as stored:
            stored.load()
            path.unlink()
            stored.save(path.with_suffix(f".{ending}"))
    found = open_voc(voc_folder, "train")[0]
    assert found.labels.equal(expected.labels) and found.image.shape == expected.image.shape
    assert found.id == expected.id


def test_accents_in_a_list_may_have_another_form_than_in_the_folder(voc_folder):
    image_path(voc_folder).rename(image_path(voc_folder, "e\u0301"))  # as macOS writes it
    mask_path(voc_folder).rename(mask_path(voc_folder, "\u00e9"))
    split_path(voc_folder).write_text("\u00e9\n")
    assert len(open_voc(voc_folder, "train")[0].labels) == 40


def test_a_photo_with_an_exif_orientation_is_rotated_and_its_mask_with_it(voc_folder):
    upright = open_voc(voc_folder, "train")[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation 6: rotated by 90 degrees clockwise for display
    with Image.open(image_path(voc_folder)) as stored:
        stored.load()
    stored.save(image_path(voc_folder), quality=95, exif=exif)

    dataset = open_voc(voc_folder, "train")
    turned = torch.rot90(upright.labels, -1)
    assert dataset[0].image.shape == (3, 56, 40) and dataset.sizes()[0] == (56, 40)
    assert (dataset[0].image.int() - torch.rot90(upright.image, -1, (1, 2)).int()).abs().max() < 20
    assert torch.equal(dataset[0].labels, turned)  # drawn on the stored pixels, so it is rotated with them

    save_mask(turned.numpy(), mask_path(voc_folder))  # drawn on the photo as it is shown
    assert torch.equal(dataset[0].labels, turned)


def test_the_palette_is_the_published_colour_map():
    assert voc_palette(21) == PUBLISHED_COLOURS
    assert voc_palette()[255] == (224, 224, 192)  # void, the colour of the borders
    assert len(set(voc_palette())) == 256


def test_the_data_set_has_classes_palette_and_ignore_index(voc_folder):
    dataset = open_voc(voc_folder, "train", ("ground", *VOC[1:16]), ignore_index=200)
    assert dataset.class_names[0] == "ground" and len(dataset.class_names) == 16
    assert dataset.palette == PUBLISHED_COLOURS[:16]
    assert dataset.ignore_index == 200


# The fingerprint


def test_the_fingerprint_is_the_same_after_the_folder_is_moved(voc_folder, tmp_path):
    before = open_voc(voc_folder, "train").fingerprint()
    moved = shutil.copytree(voc_folder, tmp_path / "elsewhere")
    shutil.rmtree(voc_folder)
    assert open_voc(moved, "train").fingerprint() == before


def test_the_fingerprint_changes_when_a_mask_changes_but_not_its_size(voc_folder):
    before = open_voc(voc_folder, "train").fingerprint()
    old = mask_path(voc_folder).read_bytes()
    save_mask(np.zeros((40, 56)), mask_path(voc_folder), compress_level=0)
    blank, num_bytes = open_voc(voc_folder, "train").fingerprint(), mask_path(voc_folder).stat().st_size
    save_mask(np.full((40, 56), 3), mask_path(voc_folder), compress_level=0)
    assert mask_path(voc_folder).stat().st_size == num_bytes  # otherwise the next line would test nothing
    filled = open_voc(voc_folder, "train").fingerprint()
    assert len({before, blank, filled}) == 3
    mask_path(voc_folder).write_bytes(old)
    assert open_voc(voc_folder, "train").fingerprint() == before


def test_the_fingerprint_depends_on_split_classes_and_images(voc_folder):
    fingerprints = [
        open_voc(voc_folder, "train").fingerprint(),
        open_voc(voc_folder, "val").fingerprint(),
        open_voc(voc_folder, "train", VOC[:16]).fingerprint(),
    ]
    Image.new("RGB", (56, 40), (1, 2, 3)).save(image_path(voc_folder))
    fingerprints.append(open_voc(voc_folder, "train").fingerprint())
    assert len(set(fingerprints)) == 4


# From the recipe's section


def test_open_split_follows_the_data_section(voc_folder):
    names = [f"class {id}" for id in range(16)]
    section = SimpleNamespace(
        format="voc",
        root=str(voc_folder),
        classes=names,
        ignore_index=255,
        on_error="raise",
        range="auto",
        bands=None,
        also=[],
        fold=None,
    )
    dataset = open_split(section, "val")
    assert len(dataset) == 4 and dataset.class_names == tuple(names)
    section.classes = "voc21"
    assert class_names_of(section) == VOC and len(VOC) == 21
    assert VOC[0] == "background" and VOC[15] == "person" and VOC[20] == "tvmonitor"


# Real photos


@pytest.mark.parametrize(("split", "count"), [("train", 437), ("trainaug", 800), ("val", 223)])
def test_real_photos_are_counted_and_read(shared_voc, split, count):
    dataset = open_voc(shared_voc, split)
    assert len(dataset) == count
    sizes = dataset.sizes()
    for index in (0, count // 2, count - 1):
        sample = dataset[index]
        assert tuple(sample.labels.shape) == sizes[index] == tuple(sample.image.shape[1:])
        assert sample.image.float().std() > 10  # a photo, not a flat colour
        assert set(sample.labels.unique().tolist()) <= {*range(21), 255}
        assert len(sample.labels.unique()) > 1


def test_no_real_photo_is_in_train_and_val(shared_voc):
    splits = {split: set(open_voc(shared_voc, split).ids) for split in ("train", "trainaug", "val")}
    assert splits["train"] < splits["trainaug"]
    assert not splits["trainaug"] & splits["val"]
