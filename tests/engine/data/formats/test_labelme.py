"""What only the files of LabelMe hold."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.sample import UnreadableSample
from tests.engine.data.formats.annotated import (
    H,
    W,
    labelme_shape,
    message_of,
    opened,
    write_labelme,
)


def test_other_shapes_of_labelme(tmp_path: Path) -> None:
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 2] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    shapes = [
        labelme_shape("cat", [[1, 1], [5, 3]], "rectangle"),
        labelme_shape("dog", [[30, 20], [30, 26]], "circle"),
        labelme_shape("dog", [[10, 20], [13, 22]], "mask", mask=text),
    ]
    write_labelme(tmp_path, "a", shapes)
    labels = opened(tmp_path, "labelme").labels(0).numpy()
    y, x = np.mgrid[:H, :W] + 0.5
    expected = 2 * (np.hypot(x - 30, y - 20) < 6)
    expected[1:3, 1:5] = 1
    expected[21, 12] = 2
    assert labels.tolist() == expected.tolist()
    for spoilt in ("", "AAAA", base64.b64encode(file.getvalue()[:40]).decode()):
        write_labelme(tmp_path, "a", [labelme_shape("dog", [[10, 20], [13, 22]], "mask", mask=spoilt)])
        assert "a mask that cannot be read" in message_of(
            lambda: opened(tmp_path, "labelme")[0], UnreadableSample
        )
    for kind, points in (("point", [[3, 3]]), ("linestrip", [[3, 3], [4, 4], [9, 9]])):
        write_labelme(tmp_path, "a", [labelme_shape("cat", points, kind)])
        assert f"a {kind} of 'cat' has no area" in message_of(lambda: opened(tmp_path, "labelme")[0])
