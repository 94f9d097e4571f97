"""Which range images of more than 8 bits get, and what the doctor says of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from engine.data import DataError, open_split
from engine.data.bands import band_names
from engine.data.doctor import examine, list_samples_of
from engine.data.doctor.image_facts import read_image
from engine.data.formats.tiff import GDAL_NODATA
from engine.data.options import Data
from engine.data.ranges import any_wide, range_of, value_spans, with_range

SHADES = np.linspace(0, 1, 24 * 32).reshape(24, 32)  # of an image, from black to white


def draw(root: Path, image: Callable[[], np.ndarray], split: str = "train") -> None:
    for kind in ("images", "masks"):
        (root / split / kind).mkdir(parents=True, exist_ok=True)
    for number in range(3):
        pixels = np.roll(image(), 5 * number, axis=0)
        Image.fromarray(pixels).save(root / f"{split}/images/{split}{number}.tif")
        Image.fromarray((SHADES > 0.5).astype(np.uint8)).save(root / f"{split}/masks/{split}{number}.png")


def section(root: Path, **values) -> Data:
    return Data.model_validate({"format": "folder", "root": str(root), "classes": ["a", "b"], **values})


def up_to(value: float, kind: type = np.uint16) -> Callable[[], np.ndarray]:
    return lambda: (SHADES * value).astype(kind)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (up_to(1023), [0, 1023]),
        (up_to(3900), [0, 4095]),
        (up_to(65535), [0, 65535]),
        (lambda: (30000 + SHADES * 500).astype(np.uint16), [30000, 30500]),
        (lambda: (SHADES * 900 - 100).astype(np.int32), [-100, 800]),
        (up_to(0.9, np.float32), [0, 1]),
        (up_to(250, np.float32), [0, 255]),
        (up_to(255, np.uint8), "auto"),
    ],
)
def test_the_range_is_that_of_the_training_images(tmp_path: Path, image, expected) -> None:
    draw(tmp_path, image)
    train = open_split(section(tmp_path), "train")
    found = with_range(section(tmp_path), train)
    assert found.range == expected
    again = open_split(found, "train")
    for dataset in (train, again):  # both are told
        shades = dataset[0].image.float()
        assert shades.min() < 4 and shades.max() > 220
    assert train.fingerprint() == again.fingerprint()
    differs = open_split(section(tmp_path), "train").fingerprint() != again.fingerprint()
    assert differs == (expected != "auto")


def test_a_single_hot_pixel_and_pixels_without_data_do_not_count(tmp_path: Path) -> None:
    values = np.full((200, 200), 900, np.uint16)
    values[:100], values[0, 0] = 40, 65535
    Image.fromarray(values).save(tmp_path / "hot.png")
    assert value_spans(tmp_path / "hot.png") == [(40, 900)]
    values = np.float32([[-9999, 0.25], [0.5, np.nan]])
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[GDAL_NODATA] = "-9999"
    Image.fromarray(values).save(tmp_path / "gdal.tif", tiffinfo=tags)
    assert value_spans(tmp_path / "gdal.tif") == [(0.25, 0.5)]
    tags[GDAL_NODATA] = "none"  # no number
    Image.fromarray(values).save(tmp_path / "none.tif", tiffinfo=tags)
    assert value_spans(tmp_path / "none.tif") == [(-9999, 0.5)]
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "byte.png")
    assert value_spans(tmp_path / "byte.png") is None
    assert range_of([(7, 7)]) == (7, 8)


def test_an_image_without_any_value_does_not_widen_the_range(tmp_path: Path) -> None:
    draw(tmp_path, lambda: (SHADES * 20 - 30).astype(np.float32))  # decibels, -30 to -10
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[GDAL_NODATA] = "-9999"
    empty = Image.fromarray(np.full(SHADES.shape, -9999, np.float32))
    empty.save(tmp_path / "train/images/train1.tif", tiffinfo=tags)
    found = with_range(section(tmp_path), open_split(section(tmp_path), "train"))
    assert found.range == pytest.approx([-30, -10], abs=0.1)
    findings(section(tmp_path))  # numpy's warnings are errors in tests


def test_images_of_other_bands_are_not_left_out_and_the_doctor_does_not_say_so(tmp_path: Path) -> None:
    draw(tmp_path, up_to(250, np.uint8))
    colours = np.zeros((*SHADES.shape, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "train/images/train1.tif")
    data = section(tmp_path, bands=1, on_error="skip")
    report = examine(list_samples_of(data), lambda *_: None).report
    [found] = [found for found in report.findings if found.check == "damaged"]
    assert found.severity == "spoils" and "has 3 bands, but data.bands has 1" in found.what
    assert "data.on_error" not in found.remedy and "Training stops" in found.why and not report.readable


def test_a_damaged_mask_is_left_out_although_its_image_stops_a_training(tmp_path: Path) -> None:
    draw(tmp_path, up_to(250, np.uint8))
    Image.fromarray(np.zeros((*SHADES.shape, 3), np.uint8)).save(tmp_path / "train/images/train1.tif")
    [mask] = (tmp_path / "train/masks").glob("train1.*")
    mask.write_bytes(b"no image")
    data = section(tmp_path, bands=1, on_error="skip")
    report = examine(list_samples_of(data), lambda *_: None).report
    damaged = {found.what.split(" file")[0]: found for found in report.findings if found.check == "damaged"}
    assert damaged["1 image"].severity == "spoils" and "Training stops" in damaged["1 image"].why
    assert damaged["1 mask"].severity == "hurts" and "leaves them out" in damaged["1 mask"].why
    assert not report.readable


def test_the_doctor_reads_bands_with_nodata_nan_and_infinity(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    draw(tmp_path, up_to(1))
    for path in (tmp_path / "train/images").iterdir():
        values = np.stack([SHADES * 100] * 5).astype(np.float32)
        values[:, :4], values[0, 9, 9], values[1, 8, 8] = -9999, np.nan, np.inf
        options = {"width": 32, "height": 24, "count": 5, "dtype": "float32", "nodata": -9999}
        with rasterio.open(path, "w", driver="GTiff", **options) as file:
            file.write(values)
    thumb = read_image(path, band_names(5)).thumb
    assert thumb.max() - thumb.min() > 100  # of the values that are there, not of -9999 to 100


def findings(data: Data) -> dict[str, str]:
    report = examine(list_samples_of(data), lambda done, total: None).report
    return {found.check: f"{found.severity} {found.what} {found.remedy}" for found in report.findings}


def test_the_doctor_names_the_range_and_images_that_do_not_fit(tmp_path: Path) -> None:
    draw(tmp_path, up_to(1000))
    draw(tmp_path, up_to(4000), "val")
    found = findings(section(tmp_path))
    assert "0 becomes black, 1023 white" in found["range"] and found["range"].startswith("note 6 of 6")
    assert "flat_images" not in found
    assert "data.range=[0, 4095]" in found["beyond_range"] and found["beyond_range"].startswith("hurts 3 ")
    assert "beyond_range" not in findings(section(tmp_path, range=[0, 4095]))
    found = findings(section(tmp_path, range=[0, 65535]))
    assert found["flat_images"].startswith("hurts 6 ") and "data.range=auto" in found["flat_images"]


def test_images_of_8_bits_get_no_finding_and_refuse_a_range(tmp_path: Path) -> None:
    draw(tmp_path, up_to(255, np.uint8))
    draw(tmp_path, up_to(255, np.uint8), "val")
    assert not {"range", "flat_images", "beyond_range"} & findings(section(tmp_path)).keys()
    data = section(tmp_path, range=[0, 4095])
    with pytest.raises(DataError, match="data.range=auto"):
        with_range(data, open_split(data, "train"))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.float32])
@pytest.mark.parametrize("ending", ["png", "npy", "tif"])
def test_images_that_a_range_is_for(tmp_path: Path, ending: str, kind: type) -> None:
    path, pixels = tmp_path / f"a.{ending}", np.full((5, 6), 3, kind)
    if ending == "npy":
        np.save(path, pixels)
    elif ending == "tif":
        rasterio = pytest.importorskip("rasterio")
        layout = {"driver": "GTiff", "count": 1, "height": 5, "width": 6, "dtype": pixels.dtype}
        with rasterio.open(path, "w", **layout) as file:
            file.write(pixels[None])
    elif kind in (np.uint8, np.uint16):
        Image.fromarray(pixels).save(path)
    else:
        pytest.skip("there are no such PNG")
    assert any_wide([path]) == (kind != np.uint8)


@pytest.mark.parametrize("value", [[5, 5], [9, 1], [1], "all", [0, 1, 2]])
def test_a_range_that_is_none_is_a_mistake(value) -> None:
    with pytest.raises(ValueError, match="range"):
        Data.model_validate({"range": value})
