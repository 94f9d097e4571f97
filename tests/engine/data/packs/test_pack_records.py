"""Encoded records: copies of the files where decoding them gives the same pixels, otherwise PNGs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.masks import SameIds
from engine.data.packs.pack import write_pack
from engine.data.packs.pack_records import Encoded
from engine.data.packs.packed import PackedDataset
from engine.data.sample import DataError, Sample
from engine.data.synthetic import SyntheticScenes

RNG = np.random.default_rng(0)
IDS = np.repeat(np.array([[0, 1, 255, 1, 0, 0]], np.uint8), 8, axis=0)  # (8, 6)


class Shifted:
    """An encoding: the file holds ids that are one too high."""

    def __call__(self, stored, path: Path):
        return (stored - 1).astype(np.uint8)

    def identity(self) -> str:
        return "shifted"


def grey_16_bit(path: Path) -> None:
    Image.fromarray(RNG.integers(0, 1 << 16, (8, 6), dtype=np.uint16)).save(path)


def turned_photo(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(path, exif=exif)


def transparent(path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (8, 6, 4), dtype=np.uint8)).save(path)


def file_set(folder: Path, draw, mask, mapping) -> FileDataset:
    draw(folder / "a.png")
    Image.fromarray(mask).save(folder / "mask.png")
    pair = Pair("a", folder / "a.png", folder / "mask.png")
    return FileDataset([pair], ("ground", "thing"), ((0, 0, 0), (9, 9, 9)), 255, mapping)


@pytest.mark.parametrize("draw", [grey_16_bit, turned_photo, transparent])
def test_every_kind_of_image_is_copied_and_read_identically(tmp_path, draw):
    dataset = file_set(tmp_path, draw, IDS, SameIds(2, 255))
    plan = Encoded(dataset).plan(0)
    assert (plan.image_file, plan.mask_file) == (tmp_path / "a.png", tmp_path / "mask.png")
    write_pack({"all": dataset}, tmp_path / "pack.h5")
    found = PackedDataset(tmp_path / "pack.h5", "all")[0]
    assert torch.equal(found.image, dataset[0].image) and found.image.shape == (3, 8, 6)
    assert found.labels.tolist() == IDS.tolist()


def test_a_mask_that_needs_mapping_becomes_a_png_of_ids(tmp_path):
    dataset = file_set(tmp_path, transparent, IDS + 1, Shifted())
    assert Encoded(dataset).plan(0).mask_file is None
    write_pack({"all": dataset}, tmp_path / "pack.h5")
    found = PackedDataset(tmp_path / "pack.h5", "all")
    assert found[0].labels.tolist() == IDS.tolist()
    assert found.label_counts().tolist() == [[24, 16]]


def test_one_file_of_all_masks_is_never_copied(tmp_path):
    both = file_set(tmp_path, transparent, IDS, SameIds(2, 255))
    both._pairs *= 2
    both.ids = ["a", "b"]
    assert Encoded(both).plan(0).mask_file is None
    assert Encoded(both).plan(0).image_file == tmp_path / "a.png"


def test_drawn_scenes_have_no_files_and_are_the_same_from_a_pack(tmp_path):
    scenes = SyntheticScenes("val", 2, 32)
    write_pack({"val": scenes}, tmp_path / "pack.h5")
    packed = PackedDataset(tmp_path / "pack.h5", "val")
    for index in range(2):
        assert torch.equal(packed[index].image, scenes[index].image)
        assert torch.equal(packed[index].labels, scenes[index].labels)


class Planes(SyntheticScenes):
    """Scenes of five bands, with a mask of each class."""

    bands = ("red", "green", "blue", "nir", "swir")

    def __getitem__(self, index: int) -> Sample:
        scene = super().__getitem__(index)
        image = torch.cat([scene.image, 255 - scene.image[:2]])  # (5, h, w)
        masks = [(scene.labels == number).byte() for number in range(len(self.class_names))]
        return Sample(scene.id, image, torch.stack(masks))  # (C, h, w)


def test_the_limit_of_pixels_is_that_of_one_band_or_mask(tmp_path, monkeypatch):
    planes = Planes("val", 2, 32)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 32)
    write_pack({"val": planes}, tmp_path / "pack.h5")
    packed = PackedDataset(tmp_path / "pack.h5", "val", bands=list(Planes.bands))
    for index in range(2):
        assert torch.equal(packed[index].image, planes[index].image)
        assert torch.equal(packed[index].labels, planes[index].labels)
        assert torch.equal(packed.labels(index), planes.labels(index))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 32 - 1)
    for read, what in ((packed.labels, "label"), (packed.__getitem__, "image")):
        with pytest.raises(DataError, match="--max-pixels=1024") as error:
            read(1)
        assert f"{tmp_path / 'pack.h5'}: the {what} of {planes.ids[1]!r}" in str(error.value)


def test_an_image_above_the_limit_of_pixels_is_named_by_pack_and_id(tmp_path, monkeypatch):
    scenes = SyntheticScenes("val", 1, 32)
    write_pack({"val": scenes}, tmp_path / "pack.h5")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 32 - 1)
    packed = PackedDataset(tmp_path / "pack.h5", "val")
    for read in (packed.labels, packed.__getitem__):
        with pytest.raises(DataError, match="decompression bomb") as error:
            read(0)
        assert str(error.value).startswith(f"{tmp_path / 'pack.h5'}: the ") and scenes.ids[0] in str(
            error.value
        )


def test_planes_of_another_size_than_the_table_says_are_not_decoded(tmp_path):
    planes = Planes("val", 1, 32)
    write_pack({"val": planes}, tmp_path / "pack.h5")
    packed = PackedDataset(tmp_path / "pack.h5", "val", bands=list(Planes.bands))
    packed._sizes = [(31, 32)]
    with pytest.raises(DataError, match="not 5 x 31 x 32"):
        packed[0]
