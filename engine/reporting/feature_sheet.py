"""Activation maps as a grid: a row per image, a column per channel."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from engine.reporting.pictures import FAINT, GAP_PX, MARGIN_PX, PAPER, TEXT_PX, Pixels, fitted, font

COLOURS = "viridis"
CELL_PX = 112


@dataclass(frozen=True)
class FeatureRow:
    """One image (3, h, w) uint8 and some channels (n, h', w') of a layer's output, on the CPU."""

    id: str
    image: Tensor
    channels: Tensor
    numbers: list[int]  # of the channels, within the layer


def feature_sheet(rows: Sequence[FeatureRow], cell_px: int = CELL_PX) -> Image.Image:
    """Each channel from its smallest value (dark) to its largest (bright), with both written below it."""
    assert rows, "a sheet needs at least one row"
    num_columns = 1 + max(len(row.numbers) for row in rows)
    row_px = cell_px + TEXT_PX + GAP_PX
    size = (2 * MARGIN_PX + num_columns * (cell_px + GAP_PX), 2 * MARGIN_PX + len(rows) * row_px)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for line, row in enumerate(rows):
        cells = [(row.id, row.image.permute(1, 2, 0).numpy())]
        for number, values in zip(row.numbers, row.channels, strict=True):
            low, high = float(values.min()), float(values.max())
            cells.append((f"{number}: {low:.2g} to {high:.2g}", _coloured(values, low, high)))
        for column, (text, pixels) in enumerate(cells):
            left, top = MARGIN_PX + column * (cell_px + GAP_PX), MARGIN_PX + line * row_px
            canvas.paste(fitted(pixels, cell_px, cell_px), (left, top))
            draw.text((left, top + cell_px + 2), text, FAINT, font(TEXT_PX - 4), anchor="la")
    return canvas


def _coloured(values: Tensor, low: float, high: float) -> Pixels:
    """(h, w) -> (h, w, 3); a constant map is dark."""
    shares = (values.float().numpy() - low) / max(high - low, 1e-12)
    pixels: Pixels = np.rint(255 * mpl.colormaps[COLOURS](shares)[..., :3]).astype(np.uint8)
    return pixels
