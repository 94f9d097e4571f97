"""Image files as arrays: grayscale, transparent, 16-bit or rotated by EXIF.

- Transparency is dropped, as by OpenCV and Pillow: the stored colour is used.
- Values of more than 8 bits per channel become bytes by a range, if one is given (`value_range.py`).
- A photo is rotated as its EXIF orientation says, as image viewers do; so are images of other bands.
- An image of more pixels than Pillow's limit is refused unread: a small file can decompress to fill the
  memory. --max-pixels of every command raises the limit.
"""

import os
import re
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from engine.data.formats.value_range import ValueRanges, scaled, single_range
from engine.data.sample import OR_SKIP, DataError, UnreadableSample, require_regular

Source = Path | IO[bytes]

TIFF_ENDINGS = (".tif", ".tiff")
ENDINGS_OF_PAGES = (*TIFF_ENDINGS, ".gif", ".webp")  # files that may hold several pages or frames
MAX_PIXELS = "TRIDENT_MAX_PIXELS"  # variable of the environment, so that worker processes have it, too
OF_SEVERAL_PAGES = 2  # the bit of the tag NewSubfileType for a page among several
SEPARATE_PLANES = 2  # a value of the tag PlanarConfiguration
REMEDY = f"Replace it, or take it out of the data{OR_SKIP}."
BANDS_HINT = "If it has other bands than RGB, type data.bands=<their number>. "
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
    with open_image(path) as image, naming_file(path):
        orientation = orientation_of(image)
        h, w = image.height, image.width
        return ((w, h) if left_to_turn(image) >= 5 else (h, w)), orientation


def mode_of(path: Path) -> str:
    """Pillow's name of the kind of pixels, such as RGBA; nothing is decoded."""
    with open_image(path) as image:
        return image.mode


def num_pages(path: Path) -> int:
    """How many pages or frames of one size a file has, of which only the first is read as an image.

    Smaller copies and transparency in a TIFF, and further pictures in the JPEG of a camera, are none.
    """
    if path.suffix.lower() not in ENDINGS_OF_PAGES:
        return 1
    with open_image(path) as image, naming_file(path):
        if not getattr(image, "is_animated", False):
            return 1
        size, number = image.size, int(getattr(image, "n_frames", 1))
        if not isinstance(image, TiffImageFile):
            return number
        for page in range(1, number):
            image.seek(page)
            if image.size != size or image.tag_v2.get(Tag.NewSubfileType, 0) & ~OF_SEVERAL_PAGES:
                number -= 1
        return number


def decode_image(path: Source, value_range: ValueRanges | None = None) -> tuple[NDArray[np.uint8], int]:
    """(h, w, 3) RGB as displayed, and the EXIF orientation that was applied.

    Args:
        value_range: see `scaled`; images of 8 bits per channel do not need it.

    Raises:
        UnreadableSample: not an image, damaged, too large, or without a known range of values.
    """
    with open_image(path) as image:
        return upright_rgb(image, path, value_range)


@contextmanager
def opened_upright(path: Path) -> Iterator[tuple[Image.Image, int, bool]]:
    """An open image, its EXIF orientation, and whether it has more than 8 bits per channel.

    Errors of Pillow become UnreadableSample.
    """
    with open_image(path) as image, naming_file(path):
        yield image, orientation_of(image), _wide_values(image, path) is not None


def upright_rgb(
    image: Image.Image, path: Source | str = "The image", value_range: ValueRanges | None = None
) -> tuple[NDArray[np.uint8], int]:
    """As `decode_image`, for an open image; `path` is for messages."""
    with naming_file(path):
        orientation, left = orientation_of(image), left_to_turn(image)
        return turn(_as_rgb(image, path, value_range), left), orientation


def wide_values(path: Source) -> NDArray[Any] | None:
    """The stored values of an image of more than 8 bits per channel, (h, w) or (h, w, 3); None of others."""
    with open_image(path) as image, naming_file(path):
        return _wide_values(image, path)


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


def _as_rgb(image: Image.Image, path: Source | str, value_range: ValueRanges | None) -> NDArray[np.uint8]:
    """(h, w, 3)"""
    values = _wide_values(image, path)
    if values is None:
        return np.array(image.convert("RGB"))
    pixels = scaled(values, single_range(value_range), path)
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
    bits = max(tags.get(Tag.BitsPerSample, (8,)))
    if bits > 8 and (tags.get(Tag.PlanarConfiguration) == SEPARATE_PLANES or ";16" not in raw):
        raise UnreadableSample(
            f"{path} holds {bits} bits per channel and a plane for each channel, which "
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


def orientation_of(image: Image.Image) -> int:
    """That of EXIF, 1 (upright) to 8; nothing is decoded."""
    # Not image.getexif(): for a PNG it decodes the whole image to find EXIF data after the pixels.
    return orientation_in(Image.Image.getexif(image))


def orientation_in(tags: Mapping[int, Any]) -> int:
    """The orientation that these tags of an image or a TIFF name; 1 where they name none that exists."""
    orientation: Any = tags.get(Tag.Orientation)
    return orientation if orientation in range(1, 9) else 1


def left_to_turn(image: Image.Image) -> int:
    """The orientation of an image that is not decoded yet, if Pillow leaves it as it is: it turns TIFF."""
    return 1 if isinstance(image, TiffImageFile) else orientation_of(image)


def open_image(path: Source, hint: str = BANDS_HINT) -> Image.Image:
    """The open file; its pixels are not decoded yet.

    Args:
        hint: a sentence for the message about a TIFF or an array that Pillow does not read.

    Raises:
        UnreadableSample: not an image, or too large.
    """
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
    if isinstance(image, TiffImageFile):
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
def naming_file(path: Source | str) -> Iterator[None]:
    """Turns what Pillow raises into an UnreadableSample that names the file."""
    try:
        yield
    except DataError:
        raise
    except BROKEN as error:
        raise UnreadableSample(f"{path} is damaged: {error}. {REMEDY}") from error
