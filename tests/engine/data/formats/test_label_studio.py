"""What only the exports of Label Studio hold."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.formats.label_studio import brush_area
from engine.data.sample import UnreadableSample
from tests.engine.data.formats.annotated import (
    CAT,
    DOG,
    H,
    W,
    inside,
    opened,
    region,
    task_of,
    write_label_studio,
)


def packed(values: list[int], widths: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """Values of 8 bits in the stream of thi.ng/rle-pack: runs, and single values as literals."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    place = 0
    while place < len(values):
        length = 1
        while place + length < len(values) and values[place + length] == values[place] and length < 2**16:
            length += 1
        which = next(i for i, width in enumerate(widths) if length - 1 < 2**width)
        bits += f"{int(length > 1)}{which:02b}{length - 1:0{widths[which]}b}{values[place]:08b}"
        place += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_brushes_and_turned_boxes_of_label_studio(tmp_path: Path) -> None:
    mask = inside(CAT) & ~inside(DOG)  # with a bay, or holes
    rle = packed(np.repeat(mask.ravel() * 255, 4).tolist())
    assert brush_area(rle, H, W).tolist() == mask.tolist()
    box = {"x": 50.0, "y": 0.0, "width": 20.0, "height": 10.0, "rotation": 90}
    write_label_studio(
        tmp_path,
        task_of(region("brushlabels", "cat", format="rle", rle=rle), region("rectanglelabels", "dog", **box)),
    )
    expected = mask.astype(int)
    expected[0:12, 26:30] = 2  # 12 px wide and 4 high, turned about (30, 0)
    assert opened(tmp_path, "label_studio").labels(0).tolist() == expected.tolist()
    for spoilt in (rle[: len(rle) // 2], [], packed([255] * 8)):
        with pytest.raises(UnreadableSample, match="brush"):
            brush_area(spoilt, H, W)
