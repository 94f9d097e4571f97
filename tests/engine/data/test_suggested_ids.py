"""What is suggested for data.ids, for the values that masks of other tools hold."""

import numpy as np
import pytest

from engine.data.suggested_ids import ids_text, suggested_ids
from engine.recipe.text import parse_yaml

NAN, LOWEST = float("nan"), float(np.finfo(np.float32).min)


@pytest.mark.parametrize(
    ("values", "num_classes", "nodata", "expected"),
    [
        ([0, 85, 170], 3, (), "{0: 0, 85: 1, 170: 2}"),  # gaps
        ([0, 85, 170], 2, (), "{0: void, 85: 0, 170: 1}"),  # 0 is "other"
        ([1, 2, 3], 3, (), "{1: 0, 2: 1, 3: 2}"),  # from 1
        ([1, 2, 255], 2, (), "{255: void, 1: 0, 2: 1}"),
        ([0, 1, 65535], 2, (), "{65535: void, 0: 0, 1: 1}"),
        ([0, 1, -9999], 2, (), "{-9999: void, 0: 0, 1: 1}"),
        ([0, 1, NAN], 2, (), "{nan: void, 0: 0, 1: 1}"),
        ([0, 1, LOWEST, np.inf], 2, (), "{inf: void, -3.4028235e+38: void, 0: 0, 1: 1}"),
        ([0, 1, 2], 2, (0,), "{0: void, 1: 0, 2: 1}"),  # declared as "no data"
        ([0, 1, 0.5], 2, (), "{0.5: void, 0: 0, 1: 1}"),
        ([0, 1, 2, 3, 9], 5, (), "{9: void, 0: 0, 1: 1, 2: 2, 3: 3, 4: 4}"),  # one that is no gap
        ([0, 1, 2], 2, (), "{0: void, 1: 0, 2: 1}"),
        ([0, 7, 9], None, (), "{0: 0, 7: 1, 9: 2}"),
        ([0, 2, 99], 4, (), "{99: void, 0: 0, 1: 1, 2: 2, 3: 3}"),  # one that no class has
    ],
)
def test_suggestions(values: list[float], num_classes: int | None, nodata: tuple, expected: str) -> None:
    ids = suggested_ids(values, num_classes, nodata)
    assert ids_text(ids) == expected
    assert {str(key) for key in parse_yaml(expected, "test").values} == {*ids}
