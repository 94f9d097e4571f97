"""Image files as arrays: grayscale, transparent, 16-bit or rotated by EXIF.

- Transparency is dropped, as by OpenCV and Pillow: the stored colour is used.
- Values of more than 8 bits per channel become 8 by a range (lowest, highest), of which `scaled` makes 256
  equal steps. Without one, 16 bits become 8 by their high byte.
- A photo is rotated as its EXIF orientation says, as image viewers do; so are images of other bands.
- An image of more pixels than Pillow's limit is refused unread: a small file can decompress to fill the
memory. --max-pixels of every command raises the limit.
"""

import os
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, PngImagePlugin, TiffImagePlugin

from engine.data.sample import DataError, UnreadableSample, require_regular

Source = Path | IO[bytes]
ValueRange = tuple[float, float]  # lowest and highest, in the file's own units

TIFF_ENDINGS = (".tif", ".tiff")
ENDINGS_OF_PAGES = (*TIFF_ENDINGS, ".gif", ".webp")  # files that may hold several pages or frames
MAX_PIXELS = "TRIDENT_MAX_PIXELS"  # variable of the environment, so that worker processes have it, too
GDAL_NODATA = 42113  # the number of the tag
NEW_SUBFILE_TYPE, OF_SEVERAL_PAGES = 254, 2  # a tag of TIFF, and its bit for a page among several
WIDTH, HEIGHT, BITS_PER_SAMPLE, PHOTOMETRIC, PLANES = 256, 257, 258, 262, 284  # tags of TIFF
SAMPLE_FORMAT, UNSIGNED = 339, 1
BIG_TIFF = 43  # the third byte of a file with addresses of 64 bits, whose header is 16 bytes long
REMEDY = "Replace it, or take it out of the data; data.on_error=skip leaves such images out."
BANDS_HINT = "If it has other bands than RGB, type data.bands=<their number>. "
MASK_HINT = "Save masks as PNG or TIFF. "
# What Pillow raises for broken headers and streams, decompression bombs included.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error,
    zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


class UnknownImage(UnreadableSample):
    """A file that Pillow does not take for an image, or of a kind that it does not read."""


class TooLarge(UnreadableSample):
    """An image of more pixels than the limit, which is not read as a whole."""

    @property
    def remedy(self) -> str:
        """The flag that allows it."""
        return "".join(re.findall(r"--max-pixels=\d+", str(self))[-1:])


def read_header(path: Path) -> tuple[tuple[int, int], int]:
    """(h, w) of the displayed image, and its EXIF orientation, 1 (upright) to 8; nothing is decoded."""
    with _opened(path) as image, _file_named(path):
        orientation = _orientation(image)
        h, w = image.height, image.width
        return ((w, h) if _left_to_turn(image) >= 5 else (h, w)), orientation


def tiff_header(path: Path) -> tuple[tuple[int, int], int]:
    """As `read_header`, of a TIFF of any size, and of bands and pixels that Pillow does not read."""
    with _file_named(path):
        tags = _tags_of_tiff(path)
        h, w = tags[HEIGHT], tags[WIDTH]
    orientation = _known(tags.get(ExifTags.Base.Orientation))
    return ((w, h) if orientation >= 5 else (h, w)), orientation


def is_wide_tiff(path: Path) -> bool:
    """Whether the pixels of a TIFF are not of unsigned 8 bits or fewer; nothing is decoded."""
    with _file_named(path):
        tags = _tags_of_tiff(path)
    bits, kinds = tags.get(BITS_PER_SAMPLE, (1,)), tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    return bool(max(bits) > 8 or max(kinds) != UNSIGNED)


def _tags_of_tiff(path: Path) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Those of its first image."""
    require_regular(path)
    with path.open("rb") as file:
        start = file.read(8)
        if start[2:3] == bytes([BIG_TIFF]):
            start += file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)
        return tags


def mode_of(path: Path) -> str:
    """Pillow's name of the kind of pixels, such as RGBA; nothing is decoded."""
    with _opened(path) as image:
        return image.mode


def num_pages(path: Path) -> int:
    """How many pages or frames of one size a file has, of which only the first is read as an image.

    Smaller copies and transparency in a TIFF, and further pictures in the JPEG of a camera, are none.
    """
    if path.suffix.lower() not in ENDINGS_OF_PAGES:
        return 1
    with _opened(path) as image, _file_named(path):
        if not getattr(image, "is_animated", False):
            return 1
        size, number = image.size, int(getattr(image, "n_frames", 1))
        if not isinstance(image, TiffImagePlugin.TiffImageFile):
            return number
        for page in range(1, number):
            image.seek(page)
            if image.size != size or image.tag_v2.get(NEW_SUBFILE_TYPE, 0) & ~OF_SEVERAL_PAGES:
                number -= 1
        return number


def decode_image(path: Source, value_range: ValueRange | None = None) -> tuple[NDArray[np.uint8], int]:
    """(h, w, 3) RGB as displayed, and the EXIF orientation that was applied.

    Args:
        value_range: see `scaled`; images of 8 bits per channel do not need it.

    Raises:
        UnreadableSample: not an image, damaged, too large, or without a known range of values.
    """
    with _opened(path) as image:
        return upright_rgb(image, path, value_range)


def is_plain_tiff(path: Path) -> bool:
    """Whether an image is a TIFF that Pillow neither rotates, nor turns black to white, nor unpacks."""
    with _opened(path) as image, _file_named(path):
        zero_is_white = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0
        is_upright = _orientation(image) == 1
        return image.format == "TIFF" and is_upright and not zero_is_white and image.mode not in ("1", "CMYK")


@contextmanager
def opened_upright(path: Path) -> Iterator[tuple[Image.Image, int, bool]]:
    """An open image, its EXIF orientation, and whether it has more than 8 bits per channel.

    Errors of Pillow become UnreadableSample.
    """
    with _opened(path) as image, _file_named(path):
        yield image, _orientation(image), _wide_values(image, path) is not None


def upright_rgb(
    image: Image.Image, path: Source | str = "The image", value_range: ValueRange | None = None
) -> tuple[NDArray[np.uint8], int]:
    """As `decode_image`, for an open image; `path` is for messages."""
    with _file_named(path):
        orientation, left = _orientation(image), _left_to_turn(image)
        return turn(_as_rgb(image, path, value_range), left), orientation


def wide_values(path: Source) -> NDArray[Any] | None:
    """The stored values of an image of more than 8 bits per channel, (h, w) or (h, w, 3); None of others."""
    with _opened(path) as image, _file_named(path):
        return _wide_values(image, path)


def scaled(values: NDArray[Any], value_range: ValueRange | None) -> NDArray[np.uint8] | None:
    """256 equal steps from the lowest to the highest value of a range; values beyond it are 0 and 255.

    Without a range that of uint16 is taken, so the high byte remains; None for other types.
    """
    if value_range is None and values.dtype != np.uint16:
        return None
    low, high = value_range or (0.0, 65535.0)
    if values.dtype == np.uint16:
        return _table_of_range(low, high).take(values)
    return _steps(np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low), low, high)


def decode_mask(path: Source, mode: str | None = None, photo: Path | None = None) -> NDArray[Any]:
    """The stored values: (h, w) of a palette or grayscale image, (h, w, channels) of others.

    A mask with an EXIF orientation of its own, as programs copy it from the photo, is rotated by it, except
    where the size of the photo shows that it was drawn on the upright photo and kept the orientation by
    mistake. Where the size is the same both ways (half turns and mirrored images, square photos), the
    mask's own orientation is assumed to be meant.

    Args:
        mode: "RGB" converts a palette or grayscale image to its colours, (h, w, 3).
        photo: the image of the mask, of which at most the header is read.
    """
    with _opened(path, MASK_HINT) as image, _file_named(path):
        own, left = _orientation(image), _left_to_turn(image)
        if image.mode == "1" and not mode:  # Pillow's array has the byte 255 for True
            pixels = turn(np.array(image.convert("L")) > 0, left)
        else:
            pixels = turn(np.array(image.convert(mode) if mode else image), left)
    return turned_back_to_fit(pixels, own, photo)


def turned_back_to_fit(mask: NDArray[Any], own: int, photo: Path | None) -> NDArray[Any]:
    """A mask that was turned by its own orientation, or as it is stored, where the size decides for that.

    Args:
        mask: (h, w, ...)
        photo: its image, if there is one.
    """
    if own == 1 or photo is None:
        return mask
    try:
        (h, w), orientation = read_header(photo)
    except UnreadableSample:  # perhaps of bands that Pillow does not know
        try:
            (h, w), orientation = tiff_header(photo)
        except UnreadableSample:  # reported where the photo is read
            return mask
    if h == w or max(own, orientation) < 5:
        return mask
    stored = turn(mask, {6: 8, 8: 6}.get(own, own))  # each other orientation undoes itself
    # One that does not swap the sides is not that of this photo: the mask is rotated with the photo, or fits.
    return stored if own < 5 or stored.shape[:2] == (h, w) else mask


def decode_stacked(content: IO[bytes], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(n, h, w) of a PNG of n bands or masks, one below the other, as a pack holds them.

    The limit of pixels applies to one of them, as to an image file; all n together may have more.

    Args:
        shape: n, h, w. Nothing is decoded where the PNG has another size.
    """
    n, h, w = shape
    refuse_bomb(content, h, w)
    with _file_named(content):
        image = PngImagePlugin.PngImageFile(content)  # unlike Image.open, has no limit
        if (image.mode, image.width, image.height) != ("L", w, n * h):
            raise ValueError(f"it is {image.mode}, {image.width} x {image.height} px, not {n} x {h} x {w}")
        return np.array(image).reshape(shape)


def nodata_of(path: Path) -> float | None:
    """The value that a GeoTIFF declares as "no data" (GDAL's tag), if it does."""
    with _opened(path) as image, _file_named(path):
        text = str(getattr(image, "tag_v2", {}).get(GDAL_NODATA, ""))
    try:
        return float(text.strip("\0 "))
    except ValueError:
        return None


def turn(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate stored pixels (h, w, ...) for display; orientations 5 to 8 swap height and width."""
    if orientation == 1:
        return pixels
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 4):
        pixels = np.flip(pixels, axis=1 if orientation == 2 else 0)
    quarters = {3: 2, 6: -1, 7: 2, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, quarters))


def _as_rgb(image: Image.Image, path: Source | str, value_range: ValueRange | None) -> NDArray[np.uint8]:
    """(h, w, 3)"""
    values = _wide_values(image, path)
    if values is None:
        return np.array(image.convert("RGB"))
    pixels = scaled(values, value_range)
    if pixels is None:
        raise unknown_range(path, values.dtype)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def _wide_values(image: Image.Image, path: Source | str) -> NDArray[Any] | None:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image)
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return None
    raw = _raw_mode(image)
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if max(tags.get(BITS_PER_SAMPLE, (8,))) > 8 and (tags.get(PLANES) == 2 or ";16" not in raw):
        raise UnreadableSample(
            f"{path} holds {max(tags[BITS_PER_SAMPLE])} bits per channel and a plane for each channel, which "
            "is read with data.bands=<their number>. Type that, or save the channels of a pixel side by side."
        )
    return _wide_colours(image, raw) if ";16" in raw else None


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the pixels are stored, such as RGB;16B."""
    arguments = image.tile[0].args
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _wide_colours(image: ImageFile.ImageFile, raw: str) -> NDArray[np.uint16]:
    """(h, w) or (h, w, 3): 16-bit colours, of which Pillow gives one byte at a time, without transparency."""
    if raw.startswith("LA"):  # four bytes a pixel: two of grey, two of transparency
        grey = _stored_as(image, "RGBA")
        return grey[..., 0] * np.uint16(256) + grey[..., 1]
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[raw[-1]]
    assert image.fp is not None  # it has not been decoded yet
    with Image.open(image.fp) as again:
        assert isinstance(again, ImageFile.ImageFile)
        low = _stored_as(again, raw[:-1] + other)[..., :3]
    return _stored_as(image, raw)[..., :3] * np.uint16(256) + low


def _stored_as(image: ImageFile.ImageFile, raw: str) -> NDArray[np.uint16]:
    """Decode the pixels as if they were stored in another raw mode."""
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in image.tile
    ]
    return np.asarray(image, dtype=np.uint16)


def _steps(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    return np.floor((values - low) * 256 / (high - low)).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _table_of_range(low: float, high: float) -> NDArray[np.uint8]:
    return _steps(np.arange(1 << 16, dtype=np.float64), low, high)


def _orientation(image: Image.Image) -> int:
    # Not image.getexif(): for a PNG it decodes the whole image to find EXIF data after the pixels.
    return _known(Image.Image.getexif(image).get(ExifTags.Base.Orientation))


def _known(orientation: Any) -> int:
    return orientation if orientation in range(1, 9) else 1


def _left_to_turn(image: Image.Image) -> int:
    """The orientation of an image that is not decoded yet, if Pillow leaves it as it is: it turns TIFF."""
    return 1 if isinstance(image, TiffImagePlugin.TiffImageFile) else _orientation(image)


def _opened(path: Source, hint: str = BANDS_HINT) -> Image.Image:
    if isinstance(path, Path):
        require_regular(path)
    try:
        if MAX_PIXELS in os.environ:
            Image.MAX_IMAGE_PIXELS = max_pixels()  # Pillow has no other way
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        [num_pixels] = re.findall(r"\((\d+) pixels\)", str(error))
        raise _too_large(path, f"{int(num_pixels):,} px", int(num_pixels)) from error
    except BROKEN as error:
        may_have_bands = isinstance(path, Path) and path.suffix.lower() in (".npy", *TIFF_ENDINGS)
        hint = (hint if may_have_bands else "") or _what_else(path)
        raise UnknownImage(f"{path} cannot be read as an image: {error}. {hint}{REMEDY}") from error
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image.filename = ""  # else it is mapped into memory, with h and w swapped where it is rotated
    try:
        refuse_bomb(path, image.height, image.width)
    except UnreadableSample:
        image.close()
        raise
    return image


def _what_else(path: Source) -> str:
    """A sentence about a file that is a pointer of Git LFS or a page of a server, or empty; else nothing."""
    try:
        if not (isinstance(path, Path) and path.is_file()):
            return ""
        with path.open("rb") as file:
            start = file.read(100).lstrip().lower()
    except OSError:  # the message says already that it cannot be opened
        return ""
    if start.startswith(b"version https://git-lfs"):
        return "It is the pointer that Git LFS keeps in place of the image: type git lfs pull. "
    if start.startswith((b"<!doctype html", b"<html")):
        return "It is a web page, which a server gave in place of the image: download that again. "
    return "" if start else "It is empty. "


def unknown_range(path: Source | str, dtype: np.dtype[Any]) -> UnreadableSample:
    return UnreadableSample(
        f"{path} holds {dtype.name} pixels, whose value range is unknown. Type "
        "'data.range=[<lowest>, <highest>]', or save it with 8 or 16 bits per channel."
    )


def max_pixels() -> int | None:
    """How many pixels an image may have: what --max-pixels says, else Pillow's limit; None is any number."""
    text = os.environ.get(MAX_PIXELS)
    if text is None:
        return Image.MAX_IMAGE_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise DataError(f"{MAX_PIXELS}={text}: expected a number of pixels, such as 400000000.")
    return int(text)


def refuse_bomb(path: Source, h: int, w: int) -> None:
    """Raises TooLarge for an image of more pixels than `max_pixels`."""
    limit = max_pixels()
    if limit is not None and w * h > limit:
        raise _too_large(path, f"{w}x{h} px", w * h)


def _too_large(path: Source, size: str, num_pixels: int) -> TooLarge:
    return TooLarge(
        f"{path} is refused as a decompression bomb: {size}, more than the {max_pixels():,} pixels allowed. "
        f"If you trust it, add --max-pixels={num_pixels} to the command. {REMEDY}"
    )


@contextmanager
def _file_named(path: Source | str) -> Iterator[None]:
    """Turns what Pillow raises into an UnreadableSample that names the file."""
    try:
        yield
    except DataError:
        raise
    except BROKEN as error:
        raise UnreadableSample(f"{path} is damaged: {error}. {REMEDY}") from error
