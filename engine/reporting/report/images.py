"""A picture as layers that the page draws over each other: the photo, and four that can be switched.

Layers are WebP in data URIs: the photo is lossy, the others, which have few colours, are lossless.
"""

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.sample import Palette
from engine.reporting.colours import UNSCORED, WRONG, display_colours
from engine.reporting.pages import webp_uri
from engine.reporting.pictures import Picture, colourise

LONGEST_PX = 480  # the longer side of a layer; small images are not enlarged, the browser does that
PHOTO_QUALITY = 80
DIMMED_ALPHA = 150  # of the black over right pixels among the errors
NUM_TONES = 16  # of confidence, 0 to 1
COLOUR_MAP = mpl.colormaps["viridis"].resampled(NUM_TONES)
VIEWS = ("image", "label", "prediction", "errors", "confidence")

RGBA = NDArray[np.uint8]  # (h, w, 4)


@dataclass(frozen=True)
class Layers:
    """Data URIs by view; `width` and `height` are those of the original, in pixels."""

    width: int
    height: int
    uris: dict[str, str]


def layers_of(picture: Picture, palette: Palette, ignore_index: int) -> Layers:
    """The layers of a picture whose confidence is known."""
    assert picture.confidence is not None, "a picture of the report shows its confidence"
    height, width = picture.labels.shape
    scale = min(1.0, LONGEST_PX / max(height, width))
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    photo = Image.fromarray(picture.image.permute(1, 2, 0).contiguous().numpy())
    palette = display_colours(palette)
    overlays = {
        "label": _opaque(colourise(picture.labels, palette, ignore_index)),
        "prediction": _opaque(colourise(picture.prediction, palette, ignore_index)),
        "errors": _errors(picture, ignore_index),
        "confidence": (COLOUR_MAP(picture.confidence.numpy()) * 255).round().astype(np.uint8),
    }
    uris = {"image": webp_uri(photo.resize(size, Image.Resampling.LANCZOS), quality=PHOTO_QUALITY)} | {
        name: webp_uri(Image.fromarray(layer).resize(size, Image.Resampling.NEAREST), lossless=True)
        for name, layer in overlays.items()
    }
    return Layers(width, height, uris)


def confidence_colours() -> list[str]:
    """The colours of confidence from 0 to 1, in CSS notation."""
    return [mpl.colors.to_hex(COLOUR_MAP(tone)) for tone in range(NUM_TONES)]


def _errors(picture: Picture, ignore_index: int) -> RGBA:
    """Right pixels darken the photo, wrong ones are red, void ones are grey."""
    labels, prediction = picture.labels.numpy(), picture.prediction.numpy()
    pixels = np.zeros((*labels.shape, 4), np.uint8)
    pixels[..., 3] = DIMMED_ALPHA
    pixels[prediction != labels] = (*WRONG, 255)
    pixels[labels == ignore_index] = (*UNSCORED, 255)
    return pixels


def _opaque(colours: NDArray[np.uint8]) -> RGBA:
    return np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)])
