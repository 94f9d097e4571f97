"""Image files as arrays: grayscale, transparent, 16-bit or rotated by EXIF.

- Transparency is dropped, as by OpenCV and Pillow: the stored colour is used.
- 16 bits become 8 by their high byte: scaled, not clipped.
- A photo is rotated as its EXIF orientation says, as image viewers do.
- An image of more pixels than Pillow's limit is refused unread: a small file can decompress to fill the
memory.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from engine.data.sample import DataError, UnreadableSample, require_regular

Source = Path | IO[bytes]

TIFF_ENDINGS = (".tif", ".tiff")
GDAL_NODATA = 42113  # the number of the tag
REMEDY = "Replace it, or take its id out of the split; data.on_error=skip leaves such images out."
# What Pillow raises for broken headers and streams, decompression bombs included.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error,
    zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def read_header(path: Path) -> tuple[tuple[int, int], int]:
    """(h, w) of the displayed image, and its EXIF orientation, 1 (upright) to 8; nothing is decoded."""
    with _opened(path) as image, _file_named(path):
        orientation = _orientation(image)
        h, w = image.height, image.width
        return ((w, h) if orientation >= 5 else (h, w)), orientation


def decode_image(path: Source) -> tuple[NDArray[np.uint8], int]:
    """(h, w, 3) RGB as displayed, and the EXIF orientation that was applied.

    Raises:
        UnreadableSample: not an image, damaged, too large, or with pixels of no fixed range.
    """
    with _opened(path) as image:
        return upright_rgb(image, path)


def upright_rgb(image: Image.Image, path: Source | str = "The image") -> tuple[NDArray[np.uint8], int]:
    """As `decode_image`, for an open image; `path` is for messages."""
    with _file_named(path):
        orientation = _orientation(image)
        return turn(_as_rgb(image, path), orientation), orientation


def decode_mask(path: Source, mode: str | None = None) -> NDArray[Any]:
    """The stored values: (h, w) of a palette or grayscale image, (h, w, channels) of others.

    Args:
        mode: "RGB" converts a palette or grayscale image to its colours, (h, w, 3).
    """
    with _opened(path) as image, _file_named(path):
        if image.mode == "1" and not mode:  # Pillow's array has the byte 255 for True
            return np.array(image.convert("L")) > 0
        return np.array(image.convert(mode) if mode else image)


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


def _as_rgb(image: Image.Image, path: Source | str) -> NDArray[np.uint8]:
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if is_16_bit:
        grey = (np.asarray(image) >> 8).astype(np.uint8)  # (h, w)
        return np.repeat(grey[..., None], 3, axis=2)  # (h, w, 3)
    if image.mode in ("I", "F"):
        raise UnreadableSample(
            f"{path} holds 32-bit pixels (mode {image.mode}), whose value range is unknown. "
            "Save it with 8 or 16 bits per channel."
        )
    return np.array(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    # Not image.getexif(): for a PNG it decodes the whole image to find EXIF data after the pixels.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def _opened(path: Source) -> Image.Image:
    if isinstance(path, Path):
        require_regular(path)
    try:
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise UnreadableSample(_bomb(path, str(error))) from error
    except BROKEN as error:
        raise UnreadableSample(f"{path} cannot be read as an image: {error}. {REMEDY}") from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise UnreadableSample(
            _bomb(path, f"{image.width}x{image.height} px, more than the {limit:,} allowed")
        )
    return image


def _bomb(path: Source, what: str) -> str:
    return (
        f"{path} is refused as a decompression bomb: {what}. If you need the image, cut it into tiles. "
        f"{REMEDY}"
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
