"""The layers of a picture, after decoding."""

import base64
import io

import numpy as np
import torch
from PIL import Image

from engine.reporting.colours import UNSCORED, VOID, WRONG
from engine.reporting.pictures import Picture
from engine.reporting.report.images import DIMMED_ALPHA, VIEWS, confidence_colours, layers_of

PALETTE = ((0, 0, 0), (200, 140, 0))


def picture(height: int, width: int) -> Picture:
    """Left class 0, right class 1, void on the last row; predicted as 1, with confidence on the left."""
    labels = torch.zeros(height, width, dtype=torch.uint8)
    labels[:, width // 2 :] = 1
    labels[-1] = 255
    confidence = torch.ones(height, width)
    confidence[:, width // 2 :] = 0.0
    image = torch.full((3, height, width), 90, dtype=torch.uint8)
    return Picture("one", image, labels, torch.ones(height, width, dtype=torch.int64), confidence)


def decoded(uri: str) -> np.ndarray:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == "WEBP"
    return np.asarray(image.convert("RGBA"))


def test_each_view_has_the_expected_pixels() -> None:
    layers = layers_of(picture(4, 6), PALETTE, 255)
    assert list(layers.uris) == list(VIEWS)
    seen = {view: decoded(uri) for view, uri in layers.uris.items()}
    assert {pixels.shape for pixels in seen.values()} == {(4, 6, 4)}
    assert abs(seen["image"][0, 0, :3].astype(int) - 90).max() <= 3  # lossy
    assert seen["label"][0, 0].tolist() == [0, 0, 0, 255] and seen["label"][0, 5, :3].tolist() == [
        200,
        140,
        0,
    ]
    assert seen["label"][3, 0, :3].tolist() == list(VOID)
    assert (seen["prediction"][..., :3] == (200, 140, 0)).all()
    assert seen["errors"][0, 0].tolist() == [*WRONG, 255]
    assert seen["errors"][0, 5, 3] == DIMMED_ALPHA  # right: the photo, darkened
    assert seen["errors"][3, 0].tolist() == [*UNSCORED, 255]
    unsure, *_, sure = confidence_colours()
    tones = ["#" + bytes(seen["confidence"][0, x, :3].tolist()).hex() for x in (0, 5)]
    assert tones == [sure, unsure]


def test_large_pictures_are_reduced_and_small_ones_unchanged() -> None:
    large = layers_of(picture(300, 960), PALETTE, 255)
    assert (large.width, large.height) == (960, 300)
    assert {decoded(uri).shape for uri in large.uris.values()} == {(150, 480, 4)}
