"""Samples read in parts are those that are read as a whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from engine.data.formats.files import FileDataset, Pair, colours_in_file
from engine.data.formats.images import TooLarge
from engine.data.formats.masks import BlackAndWhite, Colours, MappedValues, MaskEncoding, SameIds
from engine.data.sample import DataError, Sample, UnreadableSample
from engine.data.windows import open_sample

H, W = 40, 56
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 3, (H, W), np.uint8)
COLOURS = ((0, 0, 0), (200, 0, 10), (0, 90, 0))


def photo(path: Path, size: tuple[int, int] = (H, W)) -> Path:
    Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def tiled(path: Path, values: np.ndarray, **options: str) -> None:
    """A GeoTIFF of blocks of 16 x 16 px; values (n, h, w)."""
    layout = {"height": H, "width": W, "count": len(values), "dtype": values.dtype}
    blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", **layout, **blocks, **options) as file:
        file.write(values)


def palette_image() -> Image.Image:
    image = Image.fromarray(IDS)
    image.putpalette([value for colour in COLOURS for value in colour] + [0] * (3 * 253))
    return image


def data_set(image: Path, mask: Path, encoding: MaskEncoding, as_colours: bool = False) -> FileDataset:
    readers = {"read_mask": colours_in_file} if as_colours else {}
    return FileDataset([Pair("a", image, mask)], ("x", "y", "z"), COLOURS, 255, encoding, **readers)


def in_parts(dataset: FileDataset, step: int = 17) -> Sample:
    with open_sample(dataset, 0) as (image, read_labels):
        h, w = image.size
        spans = [
            [(start, min(start + step, length)) for start in range(0, length, step)] for length in (h, w)
        ]

        def together(read: Callable[..., np.ndarray]) -> np.ndarray:
            rows = [[read(rows, columns) for columns in spans[1]] for rows in spans[0]]
            return np.concatenate([np.concatenate(row, axis=-1) for row in rows], axis=-2)

        pixels, labels = together(image.read), together(read_labels)
    return Sample("a", torch.tensor(pixels), torch.tensor(labels))


def require_equal(dataset: FileDataset) -> None:
    whole, parts = dataset[0], in_parts(dataset)
    assert torch.equal(whole.image, parts.image)
    assert torch.equal(whole.labels, parts.labels)


CASES = {
    "ids": (lambda path: Image.fromarray(IDS).save(path), SameIds(3, 255), False),
    "palette": (lambda path: palette_image().save(path), SameIds(3, 255), False),
    "colours of a palette": (lambda path: palette_image().save(path), Colours(COLOURS, (0, 1, 2)), True),
    "colours": (
        lambda path: palette_image().convert("RGB").save(path), Colours(COLOURS, (2, 1, 0)), True
    ),
    "grey as colours": (
        lambda path: Image.fromarray(IDS * np.uint8(9)).save(path),
        Colours(((0, 0, 0), (9, 9, 9), (18, 18, 18)), (0, 1, 2)),
        True,
    ),
    "16 bits": (
        lambda path: Image.fromarray(IDS.astype(np.uint16) * 300).save(path),
        MappedValues.of({"0": 0, "300": "void", "600": 2}, 255),
        False,
    ),
    "1 bit": (lambda path: Image.fromarray(IDS > 1).save(path), BlackAndWhite(), False),
    "0 is white": (
        lambda path: tiled(path, IDS[None], photometric="MINISWHITE"),
        MappedValues.of({str(value): 255 - value for value in (255, 254, 253)}, 255),
        False,
    ),
    "blocks": (lambda path: tiled(path, IDS[None]), SameIds(3, 255), False),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("ending", [".tif", ".png"])
@pytest.mark.parametrize("name", CASES)
def test_masks_in_parts(tmp_path: Path, name: str, ending: str) -> None:
    write, encoding, as_colours = CASES[name]
    if ending == ".png" and name in ("blocks", "0 is white"):
        pytest.skip("only TIFF has them")
    write(tmp_path / f"mask{ending}")
    require_equal(data_set(photo(tmp_path / f"a{ending}"), tmp_path / f"mask{ending}", encoding, as_colours))


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("upright", [True, False])
def test_a_photo_that_exif_rotates_fits_its_mask(tmp_path: Path, orientation: int, upright: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(photo(tmp_path / "a.png")).save(tmp_path / "a.jpg", exif=exif)
    is_turned = orientation == 6 and upright
    Image.fromarray(np.ascontiguousarray(IDS.T) if is_turned else IDS).save(tmp_path / "mask.png")
    require_equal(data_set(tmp_path / "a.jpg", tmp_path / "mask.png", SameIds(3, 255)))


def test_a_tiff_that_its_tag_rotates(tmp_path: Path) -> None:
    Image.open(photo(tmp_path / "a.png")).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    Image.fromarray(np.ascontiguousarray(IDS.T)).save(tmp_path / "mask.png")
    require_equal(data_set(tmp_path / "a.tif", tmp_path / "mask.png", SameIds(3, 255)))


@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_more_pixels_than_allowed_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    palette_image().save(tmp_path / f"mask{ending}")
    dataset = data_set(photo(tmp_path / f"a{ending}"), tmp_path / f"mask{ending}", SameIds(3, 255))
    whole = dataset[0]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", H * W // 3)
    with pytest.raises(TooLarge, match=f"--max-pixels={H * W}"):
        dataset[0]
    parts = in_parts(dataset)
    assert torch.equal(whole.image, parts.image) and torch.equal(whole.labels, parts.labels)
    monkeypatch.setenv("TRIDENT_MAX_PIXELS", str(H * W))
    assert torch.equal(dataset[0].image, whole.image)


def test_wrong_masks_are_named(tmp_path: Path) -> None:
    image = photo(tmp_path / "a.tif")
    Image.fromarray(IDS[:, 1:]).save(tmp_path / "small.tif")
    with pytest.raises(DataError, match=f"{W - 1}x{H} px, but its image"):
        in_parts(data_set(image, tmp_path / "small.tif", SameIds(3, 255)))
    Image.fromarray(IDS).save(tmp_path / "ids.tif")
    with pytest.raises(DataError, match="label ids 2"):
        in_parts(data_set(image, tmp_path / "ids.tif", SameIds(2, 255)))
    (tmp_path / "text.tif").write_text("no mask")
    with pytest.raises(UnreadableSample, match="text.tif"):
        in_parts(data_set(image, tmp_path / "text.tif", SameIds(3, 255)))


@pytest.mark.parametrize(("ending", "kind"), [(".tif", "PNG"), (".png", "TIFF")])
def test_an_ending_of_another_kind(tmp_path: Path, ending: str, kind: str) -> None:
    palette_image().save(tmp_path / f"mask{ending}", format=kind)
    Image.open(photo(tmp_path / "b.bmp")).save(tmp_path / f"a{ending}", format=kind)
    require_equal(data_set(tmp_path / f"a{ending}", tmp_path / f"mask{ending}", SameIds(3, 255)))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_a_file_that_names_another_one_is_no_image(tmp_path: Path, ending: str) -> None:
    """GDAL has formats, such as VRT, that read the files which they name."""
    other = photo(tmp_path / "secret.tif")
    band = f"<SimpleSource><SourceFilename>{other}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
    path = tmp_path / f"a{ending}"
    path.write_text(
        f'<VRTDataset rasterXSize="{W}" rasterYSize="{H}"><VRTRasterBand dataType="Byte" band="1">{band}'
        "</VRTRasterBand></VRTDataset>"
    )
    with rasterio.open(path) as file:
        assert file.driver == "VRT"  # so it would be read
    Image.fromarray(IDS).save(tmp_path / "mask.png")
    with pytest.raises(UnreadableSample, match="cannot be read as an image"):
        in_parts(data_set(path, tmp_path / "mask.png", SameIds(3, 255)))
