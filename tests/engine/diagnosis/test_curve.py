"""Curves with known phases and limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.diagnosis.curve import fit_pieces, shape_of
from engine.diagnosis.growth import longer, within_reach

EPOCHS, FIRST_USER = np.array([10.0, 80.0, 160.0, 200.0]), np.array([12.9, 51.1, 57.3, 58.6])
STEPS = np.arange(1, 21) * 100.0


def noise(scale: float, num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, num)


def test_the_curve_of_the_first_user_is_saturated() -> None:
    shape = shape_of(EPOCHS, FIRST_USER)
    assert [phase.name for phase in shape.phases] == ["growth", "slowing", "plateau"]
    assert [phase.end for phase in shape.phases] == [80, 160, 200]
    assert shape.phases[0].slope == pytest.approx((51.1 - 12.9) / 70, rel=1e-3)
    assert shape.is_saturated
    assert 0 < shape.outlook.likely <= shape.outlook.most < 2


def test_the_corners_of_a_broken_line_are_found() -> None:
    y = np.interp(STEPS, [100, 500, 1200, 2000], [10, 50, 60, 60])
    knots, heights, left = fit_pieces(STEPS, y)
    np.testing.assert_array_equal(knots, [100, 500, 1200, 2000])
    np.testing.assert_allclose(heights, [10, 50, 60, 60], atol=1e-9)
    assert left == pytest.approx(0, abs=1e-9)
    assert [phase.name for phase in shape_of(STEPS, y).phases] == ["growth", "slowing", "plateau"]


def test_the_noise_around_the_phases_is_measured() -> None:
    x = np.arange(1, 201) * 100.0
    y = np.interp(x, [100, 4000, 9000, 20000], [10, 50, 60, 60]) + noise(0.8, 200)
    assert shape_of(x, y).noise == pytest.approx(0.8, rel=0.15)


def test_a_curve_that_still_rises_is_not_saturated() -> None:
    shape = shape_of(STEPS, 10 + 0.02 * STEPS + noise(0.5, 20))
    assert [phase.name for phase in shape.phases] == ["growth"]
    assert not shape.is_saturated
    assert shape.outlook.most >= 30  # 40 more points at this slope


def test_no_line_and_no_outlook_leads_above_100_points() -> None:
    """Of a rise that jumps at its end, as of the first steps from random weights, a straight line goes on."""
    y = np.r_[np.linspace(20, 60, 14), np.full(6, 98.5)] + noise(4.0, 20).clip(-8, 1.4)
    shape = within_reach(shape_of(STEPS, y))
    assert y.min() <= shape.phases[0].low and shape.phases[-1].high <= y.max() < 100
    assert shape.outlook.most <= 100 - y.max() and "Saturated" in longer(shape)


def test_an_early_plateau_is_a_plateau() -> None:
    shape = shape_of(STEPS, 60 - 50 * np.exp(-STEPS / 200) + noise(0.4, 20))
    assert shape.phases[-1].name == "plateau" and shape.phases[-1].start <= 900
    assert shape.is_saturated and shape.outlook.most < 0.5


def test_a_known_gain_is_at_most_the_upper_bound() -> None:
    """60 - 50 exp(-t / 1000) gains 50 (exp(-2) - exp(-4)) = 5.85 from 2000 to 4000."""
    shape = shape_of(STEPS, 60 - 50 * np.exp(-STEPS / 1000) + noise(0.3, 20))
    truth = 50 * (np.exp(-2) - np.exp(-4))
    assert shape.outlook.likely == pytest.approx(truth, abs=1.5)
    assert shape.outlook.most >= truth
    assert not shape.is_saturated


def test_noise_alone_has_no_phases() -> None:
    """Except by chance: one curve in twenty may seem to have some."""
    shapes = [shape_of(STEPS, 40 + noise(1.0, 20, seed)) for seed in range(60)]
    flat = [s for s in shapes if [p.name for p in s.phases] == ["plateau"] and s.outlook is None]
    assert len(flat) >= 0.95 * len(shapes)
    assert not any(shape.is_saturated for shape in flat)


def test_a_falling_end_is_named() -> None:
    shape = shape_of(STEPS, np.interp(STEPS, [100, 1000, 2000], [10, 60, 40]))
    assert [phase.name for phase in shape.phases] == ["growth", "falling"]


def test_two_evaluations_have_no_shape() -> None:
    assert shape_of(STEPS[:2], np.array([1.0, 2.0])) is None


@given(
    st.lists(st.floats(0, 100), min_size=3, max_size=12),
    st.floats(1, 1000),
)
def test_phases_cover_the_curve_and_the_most_is_no_less_than_the_likely(
    values: list[float], gap: float
) -> None:
    steps = gap * np.arange(1, len(values) + 1)
    shape = shape_of(steps, np.array(values))
    assert shape.phases[0].start == steps[0] and shape.phases[-1].end == steps[-1]
    for before, after in zip(shape.phases, shape.phases[1:], strict=False):
        assert before.end == after.start and before.high == after.low and before.name != after.name
    if shape.outlook:
        assert shape.outlook.most >= shape.outlook.likely >= 0
