"""FileDataset: labels alone equal those of the sample, also for rotated photos; workers and fingerprint."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.formats.files import FileDataset, Pair, colours_in_file, stored_in_file
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


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("tag", [None, *range(1, 9)])
def test_a_mask_drawn_on_the_upright_photo_is_not_turned_by_a_tag_that_was_kept(
    tmp_path: Path, tag: int | None, orientation: int, ending: str
) -> None:
    """Drawn as shown, with any tag: only the stored pixels have the displayed size, 3 x 2."""
    shown = photo_and_mask(tmp_path, orientation, LABELS)[0].image[0].numpy()
    exif = Image.Exif()
    if tag:
        exif[0x0112] = tag
    Image.fromarray(np.ascontiguousarray(shown)).save(tmp_path / f"mask.{ending}", exif=exif)
    pair = Pair("a", tmp_path / "a.png", tmp_path / f"mask.{ending}")
    grey = tuple((id, id, id) for id in range(6))
    for encoding, read in (
        (SameIds(6, 255), stored_in_file),
        (Colours(grey, tuple(range(6))), colours_in_file),
    ):
        dataset = FileDataset([pair], tuple("abcdef"), grey, 255, encoding, read)
        sample = dataset[0]
        assert torch.equal(sample.image[0], sample.labels) and torch.equal(dataset.labels(0), sample.labels)
        assert dataset.stored_mask(0).shape[:2] == (3, 2)  # as the doctor checks it


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("tag", [2, 3, 4])
def test_a_mask_of_the_stored_size_is_turned_once(tmp_path: Path, tag: int, orientation: int) -> None:
    """Its tag does not swap the sides, so it is not that of the photo, which the mask is rotated with."""
    dataset = photo_and_mask(tmp_path, orientation, LABELS)
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(LABELS).save(dataset.mask_path(0), exif=exif)
    assert torch.equal(dataset[0].image[0], dataset[0].labels)


@pytest.mark.parametrize("tag", range(2, 9))
def test_an_upright_photo_and_a_mask_that_kept_a_tag(tmp_path: Path, tag: int) -> None:
    """Size shows that tags 5 to 8 are not meant; of the others the mask's tag is assumed to be."""
    exif = Image.Exif()
    exif[0x0112] = tag
    dataset = photo_and_mask(tmp_path, 1, LABELS)
    Image.fromarray(LABELS).save(dataset.mask_path(0), exif=exif)
    by_its_tag = {2: LABELS[:, ::-1], 3: LABELS[::-1, ::-1], 4: LABELS[::-1]}
    assert (dataset[0].labels.numpy() == by_its_tag.get(tag, LABELS)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_of_a_square_photo_is_turned_by_its_own_tag(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    square = np.arange(4, dtype=np.uint8).reshape(2, 2)
    for name in ("photo", "mask"):
        Image.fromarray(square).save(tmp_path / f"{name}.png", exif=exif)
    pair = Pair("a", tmp_path / "photo.png", tmp_path / "mask.png")
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
