"""Facts of one mask, compared with loops over its pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.data.doctor.mask_facts import MAX_VALUES, borders, measure, pack

shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))
ids = shapes.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 4)))
colours = shapes.flatmap(lambda shape: arrays(np.uint8, (*shape, 3), elements=st.integers(0, 2)))


def neighbours(pixels: np.ndarray, y: int, x: int) -> list[list[np.ndarray]]:
    """The neighbours above, below, left and right that are inside the mask."""
    h, w = pixels.shape[:2]
    pairs = [[(y - 1, x), (y + 1, x)], [(y, x - 1), (y, x + 1)]]
    return [[pixels[a, b] for a, b in pair if 0 <= a < h and 0 <= b < w] for pair in pairs]


def is_between(pixel, pair: list) -> bool:
    if len(pair) < 2 or any((pixel == other).all() for other in pair):
        return False
    return bool(((np.minimum(*pair) <= pixel) & (pixel <= np.maximum(*pair))).all())


@given(pixels=st.one_of(ids, colours))
def test_rim_and_ramp_equal_those_of_a_loop(pixels: np.ndarray) -> None:
    rim, ramp = borders(pixels)
    for y, x in np.ndindex(*pixels.shape[:2]):
        pairs = neighbours(pixels, y, x)
        assert rim[y, x] == any((pixels[y, x] != other).any() for pair in pairs for other in pair)
        assert ramp[y, x] == any(is_between(pixels[y, x], pair) for pair in pairs)


@given(pixels=st.one_of(ids, colours))
def test_counts_equal_those_of_a_loop(pixels: np.ndarray) -> None:
    facts = measure(pixels)
    packed = pack(pixels) if pixels.ndim == 3 else pixels
    rim, ramp = borders(pixels)
    for row, value in enumerate(facts.values):
        own = packed == value
        assert facts.counts[row] == own.sum()
        assert facts.rims[row] == (own & rim).sum()
        assert facts.ramps[row] == (own & ramp).sum()
    assert facts.counts.sum() == packed.size and facts.size == packed.shape
    assert facts.num_values == len(facts.values) == len(np.unique(packed))


def test_a_resized_border_is_a_ramp() -> None:
    """0 0 5 10 15 15: the values in between are ramps, their two neighbours rims, the others neither."""
    facts = measure(np.array([[0, 0, 5, 10, 15, 15]], np.uint8))
    assert facts.values.tolist() == [0, 5, 10, 15]
    assert facts.rims.tolist() == [1, 1, 1, 1]
    assert facts.ramps.tolist() == [0, 1, 1, 0]


def test_colours_are_packed_and_alpha_is_dropped() -> None:
    pixels = np.array([[[1, 2, 3, 77], [255, 0, 16, 78]]], np.uint8)
    facts = measure(pixels)
    assert facts.values.tolist() == [0x010203, 0xFF0010]
    assert facts.form == "uint8x4"


@pytest.mark.parametrize(
    ("pixels", "form"),
    [
        (np.zeros((2, 3), bool), "bool"),
        (np.zeros((2, 3), np.uint16), "uint16"),
        (np.zeros((2, 3, 2), np.uint8), "uint8x2"),
    ],
)
def test_the_pixel_type_is_named(pixels: np.ndarray, form: str) -> None:
    facts = measure(pixels)
    assert (facts.form, facts.values.tolist(), facts.counts.tolist()) == (form, [0], [6])


def test_only_the_most_frequent_values_of_a_photo_are_kept() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    pixels[:10] = (9, 9, 9)
    facts = measure(pixels)
    assert len(facts.values) == MAX_VALUES < facts.num_values
    assert facts.counts[facts.values == 0x090909].item() >= 400
