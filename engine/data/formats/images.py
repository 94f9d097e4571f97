"""Pictures as arrays, whatever the file: grey, transparent, 16-bit or turned; knows nothing of labels.

- Transparency is dropped, as OpenCV and Pillow drop it: what is seen is the colour that the file stores.
- 16 bits become 8 by their high byte: scaled, not clipped.
- A photo is turned as its EXIF orientation says, so that it is seen as every viewer shows it.
- A picture of more pixels than Pillow's limit is refused unread: a small file can unpack to fill the memory.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from engine.data.sample import DataError, UnreadableSample

REMEDY = "Replace it, or take its id out of the split; data.on_error=skip leaves such images out."
# What Pillow raises on broken headers and streams, its own bomb alarm included.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error,
    zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def read_header(path: Path) -> tuple[tuple[int, int], int]:
    """(h, w) of the picture as it is shown, and its EXIF orientation, 1 (upright) to 8; undecoded."""
    with _opened(path) as image, _naming(path):
        orientation = _orientation(image)
        h, w = image.height, image.width
        return ((w, h) if orientation >= 5 else (h, w)), orientation


def decode_image(path: Path | IO[bytes]) -> tuple[NDArray[np.uint8], int]:
    """(h, w, 3) RGB as it is shown, and the EXIF orientation that was applied.

    Raises:
        UnreadableSample: no picture, damaged, too large, or of pixels that have no fixed range.
    """
    with _opened(path) as image:
        return upright_rgb(image, path)


def upright_rgb(
    image: Image.Image, path: Path | IO[bytes] | str = "The image"
) -> tuple[NDArray[np.uint8], int]:
    """What `decode_image` gives, of an open picture; `path` is for messages."""
    with _naming(path):
        orientation = _orientation(image)
        return turn(_as_rgb(image, path), orientation), orientation


def decode_mask(path: Path | IO[bytes], mode: str | None = None) -> NDArray:
    """The stored values: (h, w) of a palette or grey picture, (h, w, channels) of others.

    Args:
        mode: "RGB" turns a palette or grey picture into its colours, (h, w, 3).
    """
    with _opened(path) as image, _naming(path):
        return np.array(image.convert(mode) if mode else image)


def turn(pixels: NDArray, orientation: int) -> NDArray:
    """Stored pixels (h, w, ...) to how a viewer shows them; orientations 5 to 8 swap height and width."""
    if orientation == 1:
        return pixels
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 4):
        pixels = np.flip(pixels, axis=1 if orientation == 2 else 0)
    quarters = {3: 2, 6: -1, 7: 2, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, quarters))


def _as_rgb(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if is_16_bit:
        grey = (np.asarray(image) >> 8).astype(np.uint8)  # (h, w)
        return np.repeat(grey[..., None], 3, axis=2)  # (h, w, 3)
    if image.mode in ("I", "F"):
        raise UnreadableSample(
            f"{path} holds 32-bit pixels (mode {image.mode}), whose black and white nobody can tell. "
            "Save it with 8 or 16 bits a channel."
        )
    return np.array(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    # Not image.getexif(): that of a PNG decodes the whole picture to find it behind the pixels.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def _opened(path: Path) -> Image.Image:
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


def _bomb(path: Path, what: str) -> str:
    return (
        f"{path} is refused as a decompression bomb: {what}. If the picture is meant, cut it into tiles; "
        "otherwise take its id out of the split, or type data.on_error=skip."
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What Pillow raises becomes an UnreadableSample that names the file."""
    try:
        yield
    except DataError:
        raise
    except BROKEN as error:
        raise UnreadableSample(f"{path} is damaged: {error}. {REMEDY}") from error
