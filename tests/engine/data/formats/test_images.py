"""Images of every kind as arrays: colour, grey, transparent, 16-bit, rotated, too large, damaged."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from engine.data.formats.bands import decode_mask
from engine.data.formats.images import decode_image, read_header, turn, upright_rgb, wide_values
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


def png_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of (h, w, 1 to 4) uint16, which Pillow does not write in colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    h, w, channels = values.shape
    header = struct.pack(">IIBBBBB", w, h, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_of_16_bits(values: np.ndarray, order: str, planes: int = 1) -> bytes:
    """An uncompressed RGB TIFF of (h, w, 3) uint16 in one strip; `order` is < or >."""
    h, w, _ = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    bits_at = 8 + 2 + 9 * 12 + 4  # behind the header and a directory of nine entries
    short, long = 3, 4
    entries = [
        (256, short, 1, w), (257, short, 1, h), (258, short, 3, bits_at), (259, short, 1, 1),
        (262, short, 1, 2),
        (273, long, 1, bits_at + 6), (277, short, 1, 3), (279, long, 1, len(pixels)), (284, short, 1, planes),
    ]  # fmt: skip
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        field = f"{order}HHIHxx" if kind == short and count == 1 else f"{order}HHII"
        directory += struct.pack(field, tag, kind, count, value)
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return start + directory + struct.pack(f"{order}I3H", 0, 16, 16, 16) + pixels


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_all_16_bits_of_a_png_are_kept_without_transparency(tmp_path: Path, channels: int) -> None:
    values = RNG.integers(0, 65536, (6, 9, channels)).astype(np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(png_of_16_bits(values))
    expected = values[..., :3] if channels > 2 else values[..., 0]
    for source in (path, BytesIO(path.read_bytes())):
        assert (wide_values(source) == expected).all()
    assert (decode_image(path)[0] == (values[..., :3] if channels > 2 else values[..., :1]) >> 8).all()
    with Image.open(path) as image:
        assert (upright_rgb(image, value_range=(0, 255))[0].max()) == 255


@pytest.mark.parametrize("order", ["<", ">"])
def test_all_16_bits_of_a_colour_tiff_are_kept(tmp_path: Path, order: str) -> None:
    values = RNG.integers(0, 4096, (6, 9, 3)).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff_of_16_bits(values, order))
    assert (wide_values(tmp_path / "a.tif") == values).all()
    assert (decode_image(tmp_path / "a.tif", (0, 4095))[0] == values >> 4).all()
    (tmp_path / "b.tif").write_bytes(tiff_of_16_bits(values, order, planes=2))
    assert "a plane for each channel" in message_of(lambda: decode_image(tmp_path / "b.tif"))


def test_images_of_8_bits_have_no_wide_values(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif", "a.jpg", "a.gif"):
        Image.fromarray(PIXELS).save(tmp_path / name)
        assert wide_values(tmp_path / name) is None
        assert (decode_image(tmp_path / name, (0, 9))[0] == decode_image(tmp_path / name)[0]).all()


def test_floats_are_read_with_a_range_and_refused_without(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.25], [0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert decode_image(tmp_path / "a.tif", (0, 1))[0][..., 0].tolist() == [[0, 64], [128, 255]]
    assert "data.range=" in message_of(lambda: decode_image(tmp_path / "a.tif"))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_are_scaled_to_8_and_not_clipped(tmp_path: Path, ending: str) -> None:
    values = np.array([[0, 255, 256, 257], [32767, 32768, 65280, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    image, _ = decode_image(tmp_path / f"a.{ending}")
    assert image[..., 0].tolist() == [[0, 0, 1, 1], [127, 128, 255, 255]]
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused_without_a_range(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    assert "data.range=" in message_of(lambda: decode_image(tmp_path / "a.tif"))


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


@pytest.mark.parametrize("compression", ["raw", "tiff_deflate"])
@pytest.mark.parametrize("values", [PIXELS, PIXELS[..., 0], PIXELS[..., 0].astype(np.uint16)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_tiff_which_pillow_turns_itself_is_turned_once(
    tmp_path: Path, orientation: int, values: np.ndarray, compression: str
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path, exif=exif(orientation), compression=compression)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif(orientation))
    with Image.open(tmp_path / "a.png") as stored:
        expected = np.array(ImageOps.exif_transpose(stored))
    image, found = decode_image(path, (0, 255))
    shown = expected if values.ndim == 3 else expected[..., :1].repeat(3, axis=2)
    assert found == orientation and (image == shown).all()
    assert read_header(path) == (expected.shape[:2], orientation)
    with Image.open(BytesIO(path.read_bytes())) as opened:
        assert (upright_rgb(opened, path, (0, 255))[0] == shown).all()


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


def test_an_image_that_may_not_be_read_is_left_out_like_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"")

    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "a.png"))

    monkeypatch.setattr(Image, "open", refused)
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UnreadableSample, match=r"a\.png cannot be read as an image: .*Permission denied"):
        decode_image(tmp_path / "a.png")
