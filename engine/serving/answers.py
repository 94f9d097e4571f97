"""From the bytes of an image to an answer: a label map or an overlay as PNG, or the contents as JSON.

Shapes: an image of n bands, h x w pixels; C classes.
"""

import io
import json
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from engine.data.bands import shown_bands
from engine.data.formats.bands import ARRAY, image_header
from engine.data.formats.images import BANDS_HINT, REMEDY, TooLarge
from engine.data.sample import DataError
from engine.reporting.label_sets import with_sets
from engine.reporting.pictures import overlay
from engine.reporting.polygons import polygon_features
from engine.reporting.predictions import VOID_NEVER, areas_of, palette_image
from engine.scoring.segmenter import Prediction, Segmenter

KINDS = {"mask": "image/png", "overlay": "image/png", "json": "application/json"}
ENDINGS = {  # by the first bytes of a file
    b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n": ".png", b"RIFF": ".webp", b"BM": ".bmp", b"GIF8": ".gif",
    b"II": ".tif", b"MM": ".tif", b"\x93NUMPY": ARRAY,
}  # fmt: skip
SHARE_DECIMALS = 6


class Refused(ValueError):
    """An image that is not predicted: the status of the answer, and a sentence for whoever sent it."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


def kinds_of(segmenter: Segmenter) -> dict[str, str]:
    """The media type of each answer, the usual one first; classes that overlap have no single label map."""
    return {kind: of for kind, of in KINDS.items() if kind != "mask" or not segmenter.kind.is_multi}


def answer(segmenter: Segmenter, content: bytes, kind: str, max_pixels: int) -> bytes:
    """The answer of one of KINDS to the content of an image file, as `trident predict` predicts it.

    Args:
        kind: of `kinds_of`.

    Raises:
        Refused: 400, it is not an image; 413, it is too large; 422, it is damaged or has other bands.
    """
    pixels = _pixels(segmenter, content, max_pixels)  # (n, h, w)
    try:
        prediction = segmenter.predict(pixels)
    except torch.OutOfMemoryError as error:
        raise Refused(413, "The image needs more memory than the GPU has. Send a smaller one.") from error
    if kind == "json":
        return json.dumps(_contents(segmenter, prediction)).encode()
    if kind == "mask":
        return _png(palette_image(prediction.labels, segmenter.palette))
    seen = shown_bands(pixels, segmenter.bands)
    [shown], colours, _ = with_sets([prediction.labels], segmenter.palette, segmenter.class_names, VOID_NEVER)
    return _png(Image.fromarray(overlay(seen, shown, colours, VOID_NEVER)))


def _pixels(segmenter: Segmenter, content: bytes, max_pixels: int) -> Tensor:
    ending = next((ending for start, ending in ENDINGS.items() if content.startswith(start)), None)
    if ending is None or (ending == ARRAY and segmenter.bands is None):
        kinds = "JPEG, PNG, WebP, BMP, GIF or TIFF" + ", or an NPY array" * (segmenter.bands is not None)
        raise Refused(400, f"The body is not an image: send the content of a file in {kinds}.")
    too_large = f"The image has more than the {max_pixels:,} pixels that this server takes."
    with NamedTemporaryFile(suffix=ending) as file:  # the readers of some kinds need a file
        file.write(content)
        file.flush()
        path = Path(file.name)
        try:
            (h, w), _ = image_header(path, segmenter.bands)
            if h * w > max_pixels:
                raise Refused(413, too_large)
            return segmenter.pixels(path)
        except TooLarge as error:
            raise Refused(413, too_large) from error
        except DataError as error:
            raise Refused(422, _without_path(str(error), path)) from error


def _without_path(message: str, path: Path) -> str:
    """What is wrong with a file, for somebody who knows neither the file here nor the recipe."""
    for remedy in (REMEDY, BANDS_HINT.strip()):
        message = message.replace(remedy, "")
    return message.replace(f" {str(path)!r}", "").replace(str(path), "The image").strip()


def _contents(segmenter: Segmenter, prediction: Prediction) -> dict[str, object]:
    """The classes that occur, with their areas, and their connected parts as polygons in pixels."""
    labels = prediction.labels
    h, w = labels.shape[-2:]
    areas: Any = areas_of(labels, segmenter.class_names)["pixels"]

    def confidence(id: int) -> float:
        """The mean probability of a class where it is predicted."""
        where = labels[id] == 1 if segmenter.kind.is_multi else labels == id
        return float(prediction.probabilities[id][where].mean())

    return {
        "model": segmenter.name,
        "width": w,
        "height": h,
        "classes": [
            {
                "id": id,
                "name": name,
                "colour": segmenter.palette[id],
                "pixels": areas[name],
                "share": round(areas[name] / (h * w), SHARE_DECIMALS),
                "confidence": round(confidence(id), SHARE_DECIMALS),
            }
            for id, name in enumerate(segmenter.class_names)
            if areas[name]
        ],
        "shapes": {
            "type": "FeatureCollection",
            "features": [*polygon_features(labels.numpy(), segmenter.class_names)],
        },
    }


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()
