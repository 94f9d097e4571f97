"""Images of other bands than RGB: each kind of file gives the pixels that were written, or says why not."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from engine.data.bands import band_names, colour_bands, shown_bands
from engine.data.formats.bands import image_header, image_pixels, read_bands, stored_values
from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.images import TooLarge
from engine.data.formats.masks import SameIds
from engine.data.rasters import open_raster
from engine.data.sample import DataError, UnreadableSample

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 6, 9)).astype(np.uint8)  # (n, h, w)
NAMES = ("red", "green", "blue", "nir")
Write = Callable[[Path, NDArray[np.uint8]], Path]


def png(folder: Path, pixels: NDArray[np.uint8]) -> Path:
    path = folder / "a.png"
    Image.fromarray(np.moveaxis(pixels, 0, 2).squeeze()).save(path)
    return path


def bands_last(folder: Path, pixels: NDArray[np.uint8]) -> Path:
    np.save(folder / "a.npy", np.moveaxis(pixels, 0, 2))
    return folder / "a.npy"


def bands_first(folder: Path, pixels: NDArray[np.uint8]) -> Path:
    np.save(folder / "a.npy", pixels)
    return folder / "a.npy"


def tiff(folder: Path, pixels: NDArray[np.generic], **options: object) -> Path:
    path = folder / "a.tif"
    n, h, w = pixels.shape
    layout = {"driver": "GTiff", "count": n, "height": h, "width": w, "dtype": pixels.dtype, **options}
    with rasterio.open(path, "w", **layout) as file:
        file.write(pixels)
    return path


def side_by_side(folder: Path, pixels: NDArray[np.uint8]) -> Path:
    return tiff(folder, pixels, interleave="pixel", compress="lzw")


def in_planes(folder: Path, pixels: NDArray[np.uint8]) -> Path:
    return tiff(folder, pixels, interleave="band", compress="deflate")


def in_pages(folder: Path, pixels: NDArray[np.uint8]) -> Path:
    first, *others = map(Image.fromarray, pixels)
    first.save(folder / "a.tif", save_all=True, append_images=others)
    return folder / "a.tif"


@pytest.mark.parametrize("write", [png, bands_last, bands_first, side_by_side, in_planes, in_pages])
def test_every_kind_of_file_gives_its_bands(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path, PIXELS)
    assert image_header(path, NAMES) == ((6, 9), 1)
    found, orientation = image_pixels(path, None, NAMES)
    assert found.dtype == np.uint8 and found.flags.c_contiguous and orientation == 1
    assert (found == PIXELS).all()


OF_ANY_NUMBER = [
    (write, n) for write in (bands_last, bands_first, side_by_side, in_pages) for n in (1, 2, 5, 13)
]


@pytest.mark.parametrize(("write", "n"), [*OF_ANY_NUMBER, (png, 1), (png, 2)])
def test_any_number_of_bands(tmp_path: Path, write: Write, n: int) -> None:
    pixels = RNG.integers(0, 256, (n, 20, 30)).astype(np.uint8)
    path = write(tmp_path, pixels)
    assert len(read_bands(path).values) == n
    found, _ = image_pixels(path, None, band_names(n))
    assert (found == pixels).all() and found.flags.writeable  # torch warns of others


def test_an_array_with_as_many_rows_as_bands_has_its_bands_where_they_are_expected(tmp_path: Path) -> None:
    first = np.arange(2 * 4 * 6).reshape(4, 2, 6).astype(np.uint8)
    np.save(tmp_path / "a.npy", first)
    assert (image_pixels(tmp_path / "a.npy", None, NAMES)[0] == first).all()
    np.save(tmp_path / "a.npy", np.moveaxis(first, 0, 2))
    assert (image_pixels(tmp_path / "a.npy", None, NAMES)[0] == first).all()


def test_a_range_for_each_band(tmp_path: Path) -> None:
    values = np.array([[[0, 50, 100]], [[-1, 0, 1]]], np.float32)
    path = bands_first(tmp_path, values)
    found, _ = image_pixels(path, ((0, 100), (-1, 1)), ("a", "b"))
    assert found.tolist() == [[[0, 128, 255]], [[0, 128, 255]]]
    with pytest.raises(UnreadableSample, match="float32.*data.range"):
        image_pixels(path, None, ("a", "b"))


def test_16_bits_of_a_png_keep_their_transparency(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (4, 5, 7)).astype(np.uint16)
    with rasterio.open(
        tmp_path / "a.png", "w", driver="PNG", count=4, height=5, width=7, dtype="uint16"
    ) as file:
        file.write(values)
    assert (read_bands(tmp_path / "a.png").values == values).all()
    assert (image_pixels(tmp_path / "a.png", None, NAMES)[0] == values >> 8).all()


def test_an_image_is_turned_as_its_exif_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.moveaxis(PIXELS, 0, 2)).save(tmp_path / "a.png", exif=exif)
    assert image_header(tmp_path / "a.png", NAMES) == ((9, 6), 6)
    assert (image_pixels(tmp_path / "a.png", None, NAMES)[0] == np.rot90(PIXELS, -1, (1, 2))).all()


def with_orientation(path: Path, orientation: int) -> Path:
    """A little-endian TIFF whose first directory is written again, at the end, with the tag of the
    orientation."""
    content = path.read_bytes()
    assert content[:4] == b"II*\0"
    (start,) = struct.unpack_from("<L", content, 4)
    (number,) = struct.unpack_from("<H", content, start)
    entries = [content[start + 2 + 12 * i :][:12] for i in range(number)]
    entries.append(struct.pack("<HHLHH", 0x0112, 3, 1, orientation, 0))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    rest = content[start + 2 + 12 * number :][:4]  # where the next page is
    directory = struct.pack("<H", number + 1) + b"".join(entries) + rest
    end = len(content) + len(content) % 2
    path.write_bytes(content[:4] + struct.pack("<L", end) + content[8:].ljust(end - 8, b"\0") + directory)
    return path


def shown(pixels: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """(n, h, w) as Pillow turns each band."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    bands = [Image.fromarray(band) for band in pixels]
    for band in bands:
        band._exif = exif
    return np.stack([np.asarray(ImageOps.exif_transpose(band)) for band in bands])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("n", [3, 5])
def test_a_tiff_is_turned_as_without_bands_and_its_mask_with_it(
    tmp_path: Path, orientation: int, n: int
) -> None:
    """Pillow does not know five bands; with three, the image is the same with and without data.bands."""
    pixels = RNG.integers(0, 6, (n, 4, 7)).astype(np.uint8)
    path = with_orientation(side_by_side(tmp_path, pixels), orientation)
    expected = shown(pixels, orientation)
    names = band_names(n)
    found, applied = image_pixels(path, None, names)
    assert (found == expected).all() and applied == orientation
    assert image_header(path, names) == (expected.shape[1:], orientation)
    if n == 3:
        assert (image_pixels(path, None, None)[0] == expected).all()
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Drawn on the stored pixels with the tag of the photo, and on what a viewer shows.
    for mask, tags in ((pixels[0], {"exif": exif}), (expected[0], {})):
        Image.fromarray(mask).save(tmp_path / "mask.png", **tags)
        pair = Pair("a", path, tmp_path / "mask.png")
        dataset = FileDataset([pair], tuple("abcdef"), ((0, 0, 0),) * 6, 255, SameIds(6, 255))
        dataset.bands = names
        sample = dataset[0]
        assert torch.equal(sample.image[0], sample.labels) and dataset.sizes() == [sample.size]
        assert torch.equal(dataset.labels(0), sample.labels)


def test_a_turned_tiff_is_read_as_a_whole_also_for_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = RNG.integers(0, 256, (5, 40, 70)).astype(np.uint8)
    path = with_orientation(side_by_side(tmp_path, pixels), 6)
    with open_raster(path, bands=band_names(5)) as raster:
        found = raster.read((3, 20), (5, 30))
        assert raster.size == (70, 40) and (found == shown(pixels, 6)[:, 3:20, 5:30]).all()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(TooLarge, match="--max-pixels=2800"), open_raster(path, bands=band_names(5)):
        pass


def test_a_png_of_16_bits_is_turned(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    found = read_bands(tmp_path / "a.png")
    assert (found.values == np.rot90(values, -1)).all() and found.orientation == 6
    assert image_header(tmp_path / "a.png", ("grey",)) == ((7, 5), 6)


def test_a_mask_of_64_bits_is_turned_by_its_own_tag_unless_it_fits_as_it_is_stored(tmp_path: Path) -> None:
    labels = RNG.integers(0, 6, (1, 4, 7)).astype(np.float64)
    mask = with_orientation(tiff(tmp_path, labels), 6)
    assert (stored_values(mask) == shown(labels, 6)[0]).all()
    photo = tmp_path / "photo.png"
    Image.new("L", (7, 4)).save(photo)
    assert (stored_values(mask, photo) == labels[0]).all()


@pytest.mark.parametrize("write", [png, bands_last, side_by_side, in_pages])
@pytest.mark.parametrize("read", [image_header, lambda path, bands: image_pixels(path, None, bands)])
def test_another_number_of_bands_is_refused_with_a_remedy(tmp_path: Path, write: Write, read) -> None:
    path = write(tmp_path, PIXELS[:3])
    with pytest.raises(DataError, match=r"has 3 bands, but data.bands has 4.*nir.*data.bands=3") as caught:
        read(path, NAMES)
    assert str(path) in str(caught.value) and not isinstance(caught.value, UnreadableSample)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", b""),
        ("a.npy", b"\x93NUMPY\x01\x00"),
        ("a.tif", b"II*\x00"),
        ("a.tif", b'<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>'),
        ("a.png", b"no image"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for read in (lambda path: image_header(path, NAMES), lambda path: image_pixels(path, None, NAMES)):
        with pytest.raises(UnreadableSample, match=name):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "array", [np.array([{}, {}]), np.zeros((2, 2), complex), np.zeros(3), np.zeros((0, 4, 4))]
)
def test_an_array_that_is_no_image_is_refused(tmp_path: Path, array) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UnreadableSample, match=r"a\.npy"):
        read_bands(tmp_path / "a.npy")


def test_complex_numbers_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = tiff(tmp_path, np.ones((4, 8, 8), np.complex64))
    for read in (lambda: image_header(path, NAMES), lambda: read_bands(path)):
        with pytest.raises(UnreadableSample, match=r"complex numbers.*amplitude and phase"):
            read()


def test_a_truncated_array_and_tiff_are_named(tmp_path: Path) -> None:
    for path in (bands_last(tmp_path, PIXELS), side_by_side(tmp_path, PIXELS)):
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(UnreadableSample, match=path.name):
            image_pixels(path, None, NAMES)


def test_names_of_a_number_and_what_pictures_show() -> None:
    assert band_names(None) is None and band_names(["b8"]) == ("b8",)
    assert band_names(1) == ("grey",) and band_names(2) == ("band1", "band2")
    assert band_names(5) == ("red", "green", "blue", "band4", "band5")
    assert colour_bands(("nir", "blue", "green", "red")) == [3, 2, 1]
    assert colour_bands(("vv", "grey")) == [1] and colour_bands(("vv", "red")) == []
    for names, rows in (
        (("nir", "blue", "green", "red"), [3, 2, 1]),
        (("a", "b", "c", "d"), [0, 1, 2]),
        (("vv", "vh"), [0, 0, 0]),
    ):
        assert (shown_bands(PIXELS[: len(names)], names) == PIXELS[rows]).all()
