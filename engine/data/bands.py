"""data.bands: the names of the bands of an image, which of them are colours, and how pictures show them.

None stands for RGB images that are read leniently: grey is repeated, and transparency is dropped. Imports no
torch.
"""

from collections.abc import Sequence
from typing import Any

from engine.data.sample import DataError
from engine.wording import quantity

RGB = ("red", "green", "blue")
GREY = "grey"
MAX_BANDS = 1024
Bands = tuple[str, ...] | None


def band_names(bands: int | Sequence[str] | None) -> Bands:
    """The names that `data.bands` gives. A number of at least 3 means red, green, blue and further bands."""
    if not isinstance(bands, int):
        return None if bands is None else tuple(bands)
    if bands == 1:
        return (GREY,)
    first = RGB if bands >= 3 else ()
    return (*first, *(f"band{number}" for number in range(len(first) + 1, bands + 1)))


def count_bands(bands: int | Sequence[str] | None) -> int:
    return len(band_names(bands) or RGB)


def colour_bands(bands: Bands) -> list[int]:
    """Where red, green and blue are; where grey is, if there are no three; else nothing."""
    names = RGB if bands is None else bands
    if set(RGB) <= set(names):
        return [names.index(name) for name in RGB]
    return [names.index(GREY)] if GREY in names else []


def shown_bands(image: Any, bands: Bands) -> Any:
    """An image (n, h, w) as pictures show it, (3, h, w): its colours, else the first three bands, or one.

    It is an array or a tensor, and so is what is returned.
    """
    if bands is None:
        return image
    chosen = colour_bands(bands) or [*range(min(3, len(bands)))]
    return image[chosen if len(chosen) == 3 else chosen[:1] * 3]


def model_inputs(section: Any) -> dict[str, Any]:
    """What `build_model` has to know of a recipe's `data` section; nothing for plain RGB.

    mean, std: by band, of pixels in 0..255; None takes those of the model.
    """
    bands = band_names(section.bands)
    given = None if section.normalisation == "auto" else section.normalisation
    if bands is None and given is None:
        return {}
    mean, std = (tuple(given.mean), tuple(given.std)) if given else (None, None)
    return {"in_channels": len(bands or RGB), "mean": mean, "std": std}


def ranges_of(section: Any) -> Any:
    """data.range as a pair of numbers, or as a pair for each band; None for auto."""
    if section.range == "auto":
        return None
    return tuple(tuple(item) if isinstance(item, list) else item for item in section.range)


def require_bands(found: int, bands: tuple[str, ...], what: str) -> None:
    """Raises DataError where an image has another number of bands than data.bands says."""
    if found != len(bands):
        raise DataError(
            f"{what} has {quantity(found, 'band')}, but data.bands has {len(bands)}: {', '.join(bands)}. "
            f"Save it with these bands; or, if all images have {found}, train with data.bands={found}."
        )
