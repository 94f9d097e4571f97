"""data.range: the stored values that become black and white, in images of more than 8 bits per channel.

Cameras, microscopes and scanners write 10 to 14 bits into files of 16; read as 16 bits such images are black.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.bands import Bands, require_bands
from engine.data.formats.bands import is_wide, read_bands
from engine.data.formats.files import FileDataset
from engine.data.formats.images import TooLarge, wide_values
from engine.data.formats.tiff import nodata_of
from engine.data.formats.value_range import ValueRange, ValueRanges
from engine.data.sample import DataError, Dataset, UnreadableSample
from engine.data.sets import SeveralSets, naming_set, sets_of

NUM_PROBED = 64  # images of the training split that are read to find the range
OUTLIERS = 1e-4  # share of the pixels on either side that the span of an image leaves out


def with_range(section: Any, train: Dataset) -> Any:
    """A recipe's `data` section with numbers in place of `range: auto`, where its training images need them.

    A run keeps them in its recipe, so that all images are read alike later. `train` is told, too. Each of
    several sets has its own.

    Raises:
        DataError: the section has a range, and no image needs one.
    """
    if section.also:
        return _with_range_of_each(section, train)
    if section.range != "auto":
        if isinstance(train, FileDataset) and not any_wide([*map(train.image_path, range(len(train)))]):
            raise DataError(
                f"data.range is for images of more than 8 bits per channel, and those of split "
                f"{section.train!r} have 8. Type data.range=auto."
            )
        return section
    if isinstance(train, FileDataset):
        train.value_range = found = measured_range(train)
    else:
        found = getattr(train, "value_range", None)  # of a pack
    if found is None:
        return section
    listed = [list(item) if isinstance(item, tuple) else item for item in found]
    return section.model_copy(update={"range": listed})


def _with_range_of_each(section: Any, train: Dataset) -> Any:
    """`with_range` of each set; one that is only scored has that of the first."""
    parts = train.parts if isinstance(train, SeveralSets) else []
    places = {part.name: (part.place, part.dataset) for part in parts} or {section.name: (None, train)}
    alone, found = sets_of(section), {}
    for name, (place, dataset) in places.items():
        with naming_set(name, place):
            found[name] = with_range(alone[name], dataset).range
    first = found[section.name]
    also = [
        further.model_copy(
            update={"range": found.get(further.name, first if further.range == "auto" else further.range)}
        )
        for further in section.also
    ]
    return section.model_copy(update={"range": first, "also": also})


def measured_range(train: FileDataset) -> ValueRanges | None:
    """The range of a training split, with data.bands of each band; None for images of 8 bits per channel.

    Raises:
        DataError: an image has another number of bands than data.bands says.
    """
    spans = [span for index in probed(len(train)) if (span := _readable_spans(train, index))]
    ranges = [range_of([span for span in of_band if span]) for of_band in zip(*spans, strict=True)]
    return (ranges[0] if train.bands is None else tuple(ranges)) if ranges else None


def probed(num_images: int) -> list[int]:
    """Indices of at most NUM_PROBED images, evenly spaced."""
    indices: list[int] = np.unique(
        np.linspace(0, num_images - 1, min(NUM_PROBED, num_images)).astype(int)
    ).tolist()
    return indices


def any_wide(images: Sequence[Path]) -> bool:
    """Whether one of these images, of which at most NUM_PROBED are looked at, has more than 8 bits."""
    for index in probed(len(images)):
        try:
            if is_wide(images[index]):
                return True
        except TooLarge:  # perhaps it is read by tiles
            return True
        except UnreadableSample:  # reported, or skipped, when it is read
            continue
    return False


def told_of_unused_range(overrides: Sequence[str], images: Sequence[Path]) -> list[str]:
    """A sentence where data.range was typed, and these images, if there are any, have 8 bits."""
    is_typed = any(text.startswith("data.range=") for text in overrides)
    if not is_typed or not images or any_wide(images):
        return []
    return ["data.range has no effect here: these images have 8 bits per channel, and it is for more."]


def range_of(spans: Sequence[ValueRange] | NDArray[np.float64]) -> ValueRange:
    """The range for images with these lowest and highest values.

    From 0 to the largest number of as many bits, such as 4095, or to 1; where the values take less than a
    quarter of that, from the lowest to the highest. 0 to 1 where there is none.
    """
    if not len(spans):
        return 0.0, 1.0
    low, high = min(float(low) for low, _ in spans), max(float(high) for _, high in spans)
    top = 1.0 if high <= 1 else 2.0 ** max(8, int(high).bit_length()) - 1
    if low >= 0 and high - low >= top / 4:
        return 0.0, top
    return low, high if high > low else low + 1


def value_spans(path: Path, bands: Bands = None) -> list[ValueRange | None] | None:
    """The lowest and the highest value, without outliers, of an image or of each band; None for 8 bits.

    That of a band without any value, such as one of "no data" alone, is None.

    Raises:
        UnreadableSample: it is damaged, or no image.
        DataError: it has another number of bands than data.bands says.
    """
    if bands is None:
        values = wide_values(path)
        return None if values is None else [span_of(values, nodata_of(path))]
    stored = read_bands(path, len(bands))
    require_bands(len(stored.values), bands, str(path))
    if stored.values.dtype == np.uint8:
        return None
    return [span_of(band, stored.nodata) for band in stored.values]


def span_of(values: NDArray[Any], nodata: float | None) -> ValueRange | None:
    """The lowest and highest value, without outliers, NaN, infinity and `nodata`; None where none is left."""
    known = np.isfinite(values)
    if nodata is not None:
        known &= values != nodata
    values = values[known]
    if not values.size:
        return None
    low = np.quantile(values, OUTLIERS, method="lower")
    return float(low), float(np.quantile(values, 1 - OUTLIERS, method="higher"))


def _readable_spans(train: FileDataset, index: int) -> list[ValueRange | None] | None:
    try:
        return value_spans(train.image_path(index), train.bands)
    except UnreadableSample:  # reported, or skipped, when it is read
        return None
