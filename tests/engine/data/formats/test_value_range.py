"""Values of more than 8 bits as bytes, checked with values computed by hand."""

import numpy as np
import pytest

from engine.data.formats.value_range import scaled
from engine.data.sample import UnreadableSample


def test_a_range_becomes_256_equal_steps_from_black_to_white() -> None:
    values = np.array([0, 99, 100, 107, 108, 2147, 2148, 4000], np.uint16)
    for stored in (values, values.astype(np.float32)):
        assert scaled(stored, (100, 2148), "a.tif").tolist() == [0, 0, 0, 0, 1, 255, 255, 255]


def test_16_bits_keep_their_high_byte_without_a_range() -> None:
    every = np.arange(65536, dtype=np.uint16)
    for value_range in ((0, 65535), None):
        assert (scaled(every, value_range, "a.tif") == every >> 8).all()


def test_floats_need_a_range_of_which_nan_is_the_lowest_value() -> None:
    odd = np.array([np.nan, -np.inf, np.inf, -5, 0, 4.9, 5], np.float32)
    assert scaled(odd, (-5, 5), "a.tif").tolist() == [0, 0, 255, 0, 128, 253, 255]
    with pytest.raises(UnreadableSample, match=r"a\.tif .* float32 .*data\.range="):
        scaled(odd, None, "a.tif")
