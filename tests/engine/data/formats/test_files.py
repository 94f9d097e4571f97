"""FileDataset: labels alone equal those of the sample, also for rotated photos; workers and fingerprint."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.formats.files import FileDataset, Pair, colours_in_file
from engine.data.formats.masks import Colours, SameIds
from engine.data.formats.voc import open_voc
from engine.data.sample import DataError

LABELS = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)  # 2 x 3 px, all different


def photo_and_mask(folder: Path, orientation: int, labels: np.ndarray) -> FileDataset:
    """A photo of LABELS' pixels, stored with an EXIF orientation, and a mask."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.repeat(LABELS[..., None], 3, axis=2)).save(folder / "a.png", exif=exif)
    Image.fromarray(labels).save(folder / "a_mask.png")
    pair = Pair("a", folder / "a.png", folder / "a_mask.png")
    return FileDataset([pair], tuple("abcdef"), ((0, 0, 0),) * 6, 255, SameIds(6, 255))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_stored_size_is_rotated_with_its_photo(tmp_path: Path, orientation: int) -> None:
    dataset = photo_and_mask(tmp_path, orientation, LABELS)
    sample = dataset[0]
    assert sample.labels.shape == (3, 2) and torch.equal(sample.image[0], sample.labels)
    assert torch.equal(dataset.labels(0), sample.labels) and dataset.sizes() == [(3, 2)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_of_the_displayed_size_fits_the_displayed_photo(tmp_path: Path, orientation: int) -> None:
    shown = photo_and_mask(tmp_path, orientation, LABELS)[0].image[0].numpy()
    dataset = photo_and_mask(tmp_path, orientation, shown)
    sample = dataset[0]
    assert torch.equal(sample.image[0], sample.labels) and torch.equal(dataset.labels(0), sample.labels)


@pytest.mark.parametrize("endings", [("tif", "tif"), ("tif", "png"), ("png", "tif"), ("png", "png")])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_with_the_orientation_of_its_photo_is_turned_with_it(
    tmp_path: Path, orientation: int, endings: tuple[str, str]
) -> None:
    """Also by 180 degrees, where both sizes are equal. Pillow turns TIFF itself, and leaves PNG as it is."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, mask = (tmp_path / f"{name}.{ending}" for name, ending in zip("im", endings, strict=True))
    Image.fromarray(np.repeat(LABELS[..., None], 3, axis=2)).save(image, exif=exif)
    Image.fromarray(LABELS).save(mask, exif=exif)
    dataset = FileDataset([Pair("i", image, mask)], tuple("abcdef"), ((0, 0, 0),) * 6, 255, SameIds(6, 255))
    sample = dataset[0]
    assert torch.equal(sample.image[0], sample.labels) and dataset.sizes() == [sample.size]
    assert torch.equal(dataset.labels(0), sample.labels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_drawn_on_a_tiff_as_shown_fits_it(tmp_path: Path, orientation: int) -> None:
    shown = photo_and_mask(tmp_path, orientation, LABELS)[0].image[0].numpy()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.repeat(LABELS[..., None], 3, axis=2)).save(tmp_path / "a.tif", exif=exif)
    Image.fromarray(shown).save(tmp_path / "a_mask.png")
    pair = Pair("a", tmp_path / "a.tif", tmp_path / "a_mask.png")
    sample = FileDataset([pair], tuple("abcdef"), ((0, 0, 0),) * 6, 255, SameIds(6, 255))[0]
    assert torch.equal(sample.image[0], sample.labels)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_mask_of_neither_size_is_an_error(tmp_path: Path, orientation: int) -> None:
    dataset = photo_and_mask(tmp_path, orientation, np.zeros((4, 4), np.uint8))
    for read in (lambda: dataset[0], lambda: dataset.labels(0)):
        with pytest.raises(DataError, match="is 4x4 px, but its image"):
            read()


def test_the_mask_of_an_upright_photo_is_never_rotated(tmp_path: Path) -> None:
    dataset = photo_and_mask(tmp_path, 1, np.ascontiguousarray(LABELS.T))
    with pytest.raises(DataError, match="is 2x3 px, but its image"):
        dataset[0]


def test_labels_are_read_without_decoding_the_image(voc_folder: Path) -> None:
    dataset = open_voc(voc_folder, "train")
    expected = [dataset[index].labels for index in range(6)]
    for index in range(6):
        path = dataset.image_path(index)
        header = path.read_bytes()[:700]  # the header is there, but no pixels
        path.write_bytes(header)
        labels = dataset.labels(index)
        assert labels.dtype == torch.uint8 and torch.equal(labels, expected[index])
        assert (dataset.stored_mask(index) == expected[index].numpy()).all()
        assert dataset.mask_path(index).stem == path.stem == dataset.ids[index]


def test_a_data_set_can_be_sent_to_a_worker(voc_folder: Path) -> None:
    dataset = open_voc(voc_folder, "train")
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[2].labels, dataset[2].labels) and again.fingerprint() == dataset.fingerprint()


def test_the_fingerprint_covers_the_mask_encoding(tmp_path: Path) -> None:
    dataset = photo_and_mask(tmp_path, 1, LABELS)
    pairs = [Pair("a", dataset.image_path(0), dataset.mask_path(0))]
    tables = [Colours(((0, 0, 0), (1, 1, 1)), labels) for labels in ((0, 1), (1, 0))]
    sets = [FileDataset(pairs, ("a", "b"), tables[0].colours, 255, t, colours_in_file) for t in tables]
    assert sets[0].fingerprint() != sets[1].fingerprint()
