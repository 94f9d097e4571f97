"""The grid of activation maps: a row per image, dark to bright within each map."""

import numpy as np
import torch

from engine.reporting.feature_sheet import FeatureRow, feature_sheet
from engine.reporting.pictures import GAP_PX, MARGIN_PX, TEXT_PX

CELL_PX = 32


def row(height: int = 8, width: int = 8, num_channels: int = 2) -> FeatureRow:
    """Channel 0 rises from left to right, channel 1 has no contrast."""
    ramp = torch.linspace(-1, 3, 4).expand(4, 4)
    channels = torch.stack([ramp, torch.full((4, 4), 7.0)])[:num_channels]
    image = torch.full((3, height, width), 200, dtype=torch.uint8)
    return FeatureRow("one", image, channels, [0, 5][:num_channels])


def test_each_map_is_scaled_from_dark_to_bright() -> None:
    sheet = np.asarray(feature_sheet([row(), row()], CELL_PX)).astype(int)
    row_px, column_px = CELL_PX + TEXT_PX + GAP_PX, CELL_PX + GAP_PX
    for line in range(2):
        middle = MARGIN_PX + line * row_px + CELL_PX // 2
        photo = sheet[middle, MARGIN_PX + CELL_PX // 2]
        assert photo.tolist() == [200, 200, 200]
        left = MARGIN_PX + column_px
        brightness = [sheet[middle, left + CELL_PX * part // 8].sum() for part in (1, 3, 5, 7)]
        assert brightness == sorted(brightness) and brightness[0] < 200 < 500 < brightness[-1] + 100
        flat = sheet[middle, MARGIN_PX + 2 * column_px + CELL_PX // 2]
        assert flat.tolist() == sheet[middle, left + CELL_PX // 8].tolist()  # without contrast: dark


def test_rows_of_different_shapes_share_a_sheet() -> None:
    one = np.asarray(feature_sheet([row()], CELL_PX))
    two = np.asarray(feature_sheet([row(), row(16, 4, 1)], CELL_PX))
    assert two.shape[1] == one.shape[1]
    assert two.shape[0] == one.shape[0] + CELL_PX + TEXT_PX + GAP_PX
