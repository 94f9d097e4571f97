"""The facts of one image: readable or not, size, pixel type, and hashes for finding duplicates."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.bands import Bands, require_bands, shown_bands
from engine.data.formats.bands import image_header, read_bands
from engine.data.formats.images import BROKEN, decode_image
from engine.data.formats.value_range import ValueRange, as_bytes
from engine.data.gdal import NotInstalled
from engine.data.ranges import range_of, span_of, value_spans
from engine.data.sample import DataError, UnreadableSample
from engine.wording import quantity

THUMB_PX = 32
DHASH_PX = (9, 8)  # width, height: eight differences a row make 64 bits
DRAFT_PX = (128, 128)  # a JPEG is decoded no finer than this needs


def _no_thumb() -> NDArray[np.uint8]:
    return np.zeros((THUMB_PX, THUMB_PX), np.uint8)


@dataclass(frozen=True)
class ImageFacts:
    """One image: (h, w) as displayed, Pillow's mode, the 64-bit difference hash, a grayscale thumbnail.

    span: the lowest and the highest value, for more than 8 bits per channel. may_skip: whether
    `data.on_error: skip` covers the problem.
    """

    problem: str = ""
    may_skip: bool = True
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    is_turned: bool = False  # EXIF swaps height and width
    span: ValueRange | None = None
    sha256: bytes = b""
    dhash: int = 0
    thumb: NDArray[np.uint8] = field(default_factory=_no_thumb)


def read_image(path: Path, bands: Bands = None) -> ImageFacts:
    """The facts of an image file, or why it cannot be read. Decodes it whole, to find truncation.

    Raises:
        NotInstalled: it needs rasterio, as every file of its kind.
    """
    span: ValueRange | None = None
    try:
        size, orientation = image_header(path, bands)
        content = path.read_bytes()
        if bands is not None:
            mode, grey = _grey_of_bands(path, bands)
        else:
            with Image.open(io.BytesIO(content)) as image:
                mode, is_jpeg = image.mode, image.format == "JPEG"
                image.draft("L", DRAFT_PX)
                spans = None if is_jpeg else value_spans(path)
                [span] = spans or [None]
                own = range_of([span] if span else []) if spans else None
                pixels = image if is_jpeg else Image.fromarray(decode_image(path, own)[0])
                grey = pixels.convert("L")
    except NotInstalled:
        raise
    except DataError as error:
        return ImageFacts(problem=str(error), may_skip=isinstance(error, UnreadableSample))
    except BROKEN as error:
        return ImageFacts(problem=f"{path} is damaged: {error}.")
    small = np.asarray(grey.resize(DHASH_PX, Image.Resampling.BOX)).astype(np.int16)  # (8, 9)
    return ImageFacts(
        mode=mode,
        size=size,
        is_turned=orientation >= 5,
        span=span,
        sha256=hashlib.sha256(content).digest(),
        dhash=int.from_bytes(np.packbits(np.diff(small, axis=1) > 0).tobytes(), "big"),
        thumb=np.asarray(grey.resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX)),
    )


def _grey_of_bands(path: Path, bands: tuple[str, ...]) -> tuple[str, Image.Image]:
    """What the pixels are, such as "4 bands of uint16", and the bands that pictures show, as grey."""
    values, _, nodata = read_bands(path, len(bands))  # (n, h, w)
    require_bands(len(values), bands, str(path))
    seen = shown_bands(values, bands)
    span = None if values.dtype == np.uint8 else span_of(seen, nodata)
    pixels = as_bytes(seen, range_of([span] if span else []), path)
    kind = f"{quantity(len(values), 'band')} of {values.dtype}"
    return kind, Image.fromarray(np.moveaxis(pixels, 0, 2)).convert("L")
