"""What the tags of a TIFF say, also of one that Pillow does not decode; no pixel is decoded here."""

from pathlib import Path

from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from engine.data.formats.images import (
    TIFF_ENDINGS,
    naming_file,
    open_image,
    orientation_in,
    orientation_of,
    read_header,
)
from engine.data.sample import UnreadableSample, require_regular

GDAL_NODATA = 42113  # the number of the tag
UNSIGNED = 1  # a value of the tag SampleFormat
BIG_TIFF = 43  # the third byte of a file with addresses of 64 bits, whose header is 16 bytes long


def tiff_header(path: Path) -> tuple[tuple[int, int], int]:
    """As `read_header`, of a TIFF of any size, and of bands and pixels that Pillow does not read."""
    with naming_file(path):
        tags = _tags(path)
        h, w = tags[Tag.ImageLength], tags[Tag.ImageWidth]
    orientation = orientation_in(tags)
    return ((w, h) if orientation >= 5 else (h, w)), orientation


def any_header(path: Path) -> tuple[tuple[int, int], int]:
    """As `read_header`; of a TIFF of any size, bands and pixels, as `tiff_header`."""
    try:
        return read_header(path)
    except UnreadableSample as error:
        if path.suffix.lower() not in TIFF_ENDINGS:
            raise
        try:
            return tiff_header(path)
        except UnreadableSample:
            raise error from None


def is_wide_tiff(path: Path) -> bool:
    """Whether the pixels of a TIFF are not of unsigned 8 bits or fewer."""
    with naming_file(path):
        tags = _tags(path)
    bits, kinds = tags.get(Tag.BitsPerSample, (1,)), tags.get(Tag.SampleFormat, (UNSIGNED,))
    return bool(max(bits) > 8 or max(kinds) != UNSIGNED)


def is_plain_tiff(path: Path) -> bool:
    """Whether an image is a TIFF that Pillow neither rotates, nor turns black to white, nor unpacks."""
    with open_image(path) as image, naming_file(path):
        zero_is_white = getattr(image, "tag_v2", {}).get(Tag.PhotometricInterpretation) == 0
        is_upright = orientation_of(image) == 1
        return image.format == "TIFF" and is_upright and not zero_is_white and image.mode not in ("1", "CMYK")


def nodata_of(path: Path) -> float | None:
    """The value that a GeoTIFF declares as "no data" (GDAL's tag), if it does."""
    with open_image(path) as image, naming_file(path):
        text = str(getattr(image, "tag_v2", {}).get(GDAL_NODATA, ""))
    try:
        return float(text.strip("\0 "))
    except ValueError:
        return None


def _tags(path: Path) -> ImageFileDirectory_v2:
    """Those of the first image of a file."""
    require_regular(path)
    with path.open("rb") as file:
        start = file.read(8)
        if start[2:3] == bytes([BIG_TIFF]):
            start += file.read(8)
        tags = ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)
        return tags
