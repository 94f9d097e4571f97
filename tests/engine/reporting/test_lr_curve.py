"""The picture of a range test."""

import math
from pathlib import Path

import pytest
from PIL import Image

from engine.reporting.lr_curve import draw_lr_curve


@pytest.mark.parametrize(
    ("losses", "smoothed"), [([math.nan], []), ([2.0, 1.0, math.inf], [1.9, 1.4])], ids=["none", "some"]
)
def test_a_picture_is_written_with_nan_and_infinite_losses(
    tmp_path: Path, losses: list[float], smoothed: list[float]
) -> None:
    rates = [10.0 ** (place - 6) for place in range(len(losses))]
    draw_lr_curve(tmp_path / "curve.png", "demo", rates, losses, smoothed, {"in the recipe": 1e-6})
    with Image.open(tmp_path / "curve.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20
