"""Images of every kind as arrays: colour, grey, transparent, 16-bit, rotated, too large, damaged."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from engine.data.formats.images import decode_image, decode_mask, read_header, turn
from engine.data.sample import DataError, UnreadableSample

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def message_of(read) -> str:
    with pytest.raises(UnreadableSample) as caught:
        read()
    return str(caught.value)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
def test_a_colour_image_is_read_unchanged(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(PIXELS).save(path, **({"lossless": True} if ending == "webp" else {}))
    image, orientation = decode_image(path)
    assert image.dtype == np.uint8 and (image == PIXELS).all() and orientation == 1


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "a.png")
    assert (decode_image(tmp_path / "a.png")[0] == PIXELS[..., :1]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped_and_the_stored_colour_stays(tmp_path: Path, mode: str) -> None:
    alpha = Image.fromarray(RNG.integers(0, 256, (5, 7)).astype(np.uint8))
    image = Image.fromarray(PIXELS).convert(mode[:-1])
    expected = np.array(image.convert("RGB"))
    image.putalpha(alpha)
    image.save(tmp_path / "a.png")
    assert (decode_image(tmp_path / "a.png")[0] == expected).all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_are_scaled_to_8_and_not_clipped(tmp_path: Path, ending: str) -> None:
    values = np.array([[0, 255, 256, 257], [32767, 32768, 65280, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    image, _ = decode_image(tmp_path / f"a.{ending}")
    assert image[..., 0].tolist() == [[0, 0, 1, 1], [127, 128, 255, 255]]
    assert (image == image[..., :1]).all()


def png_of_16_bit_rgb(values: np.ndarray) -> bytes:
    """A PNG of (h, w, 3) uint16, written by hand because Pillow does not write these."""
    h, w, _ = values.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_16_bit_colours_are_scaled_in_the_same_way(tmp_path: Path) -> None:
    values = np.array([[[0, 255, 256], [32768, 65280, 65535]]], np.uint16)
    (tmp_path / "a.png").write_bytes(png_of_16_bit_rgb(values))
    assert decode_image(tmp_path / "a.png")[0].tolist() == [[[0, 0, 1], [128, 255, 255]]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    assert "32-bit" in message_of(lambda: decode_image(tmp_path / "a.tif"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_rotated_photo_is_read_as_viewers_show_it(tmp_path: Path, orientation: int, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(PIXELS).save(path, exif=exif(orientation))
    with Image.open(path) as stored:
        expected = np.array(ImageOps.exif_transpose(stored))
        pixels = np.array(stored)
    image, found = decode_image(path)
    assert found == orientation and (image == expected).all() and image.flags.c_contiguous
    assert read_header(path) == (expected.shape[:2], orientation)
    assert (turn(pixels, orientation) == expected).all()
    assert (turn(pixels[..., 0], orientation) == expected[..., 0]).all()


@pytest.mark.parametrize("orientation", [0, 9, 1000])
def test_an_invalid_orientation_is_ignored(tmp_path: Path, orientation: int) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif(orientation))
    assert (decode_image(tmp_path / "a.png")[0] == PIXELS).all()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_above_the_pixel_limit_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 35)  # 5 x 7 px
    assert read_header(path) == ((5, 7), 1)
    for limit in (34, 17):  # Pillow itself warns above its limit, and raises above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for read in (decode_image, decode_mask, read_header):
            message = message_of(lambda read=read: read(path))
            assert str(path) in message and "bomb" in message and "data.on_error=skip" in message


def test_masks_keep_their_stored_values(tmp_path: Path) -> None:
    ids = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
    mask = Image.fromarray(ids)
    mask.putpalette([value for id in range(256) for value in (255 - id, id, 7)])
    mask.save(tmp_path / "a.png")
    assert (decode_mask(tmp_path / "a.png") == ids).all()
    colours = decode_mask(tmp_path / "a.png", "RGB")
    assert (colours == np.stack([255 - ids, ids, np.full_like(ids, 7)], axis=2)).all()


@pytest.mark.filterwarnings("ignore")  # Pillow warns about tags
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "bmp", "gif"])
def test_a_damaged_image_is_never_another_error_than_a_data_error(tmp_path: Path, ending: str) -> None:
    """With bytes overwritten or removed, the image is read, or a DataError names the file."""
    rng = np.random.default_rng(1)
    path = tmp_path / f"a.{ending}"
    buffer = BytesIO()
    Image.fromarray(RNG.integers(0, 256, (24, 20, 3)).astype(np.uint8)).save(
        buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()), exif=exif(6)
    )
    whole, outcomes = buffer.getvalue(), set()
    for attempt in range(60):
        damaged = bytearray(whole[: rng.integers(0, len(whole))] if attempt % 3 == 0 else whole)
        for place in rng.integers(0, max(1, len(damaged)), rng.integers(1, 12) if damaged else 0):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        for read in (decode_image, decode_mask, read_header):
            try:
                read(path)
                outcomes.add("read")
            except DataError as error:
                outcomes.add("refused")
                assert str(path) in str(error)
    assert "refused" in outcomes
