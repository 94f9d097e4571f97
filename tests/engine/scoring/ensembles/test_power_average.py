"""Averages of any width out of two that were tracked."""

import numpy as np
import pytest

from engine.scoring.ensembles.power_average import MOST_ERROR, combine, decay_of, exponent_of

# By phema.py of github.com/NVlabs/edm2, in float64: exponents, and the factors of 0.07 after 32,768 updates
# from averages of 0.05 and 0.1 after each 4,096.
EXPONENTS = {0.05: 16.972198602303447, 0.1: 6.937203937601809, 0.07: 11.244939447857924}
FACTORS = [
    3.8923196884360404e-12, -9.5612913162106657e-11, 1.7380077549162091e-08, -1.1822569154039657e-07,
    2.2239824574642905e-06, -9.1411604368222978e-06, 6.6088575336683495e-05, -2.1443138302308976e-04,
    8.8659745140010418e-04, -2.5444840586677279e-03, 7.2521780242067900e-03, -1.9405441994355861e-02,
    4.2397913310664982e-02, -1.0864094698057378e-01, 3.8708213040015665e-01, 6.9312741477016915e-01,
]  # fmt: skip


def shares(width: float, step: int) -> np.ndarray:
    """(step,) what each update has in an average, by the recurrence alone."""
    found = np.zeros(step)
    for update in range(1, step + 1):
        decay = decay_of(exponent_of(width), update)
        found *= decay
        found[update - 1] += 1 - decay
    return found


@pytest.mark.parametrize(("width", "exponent"), EXPONENTS.items())
def test_exponents_are_those_of_the_published_implementation(width: float, exponent: float) -> None:
    assert exponent_of(width) == pytest.approx(exponent, rel=1e-12)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.25])
def test_the_width_is_the_standard_deviation_of_the_updates_that_count(width: float) -> None:
    of_updates, times = shares(width, 2000), (np.arange(2000) + 0.5) / 2000
    assert of_updates.sum() == pytest.approx(1)
    mean = (of_updates * times).sum()
    assert np.sqrt((of_updates * (times - mean) ** 2).sum()) == pytest.approx(width, rel=1e-3)


def test_the_factors_are_those_of_the_published_implementation() -> None:
    saved = [(4096 * number, width) for number in range(1, 9) for width in (0.05, 0.1)]
    factors, error = combine(saved, 32768, 0.07)
    assert factors == pytest.approx(FACTORS, abs=1e-5)
    assert error < 0.02


@pytest.mark.parametrize("width", [0.03, 0.05, 0.07, 0.1])
def test_the_error_is_that_of_the_shares_of_all_updates(width: float) -> None:
    """With the defaults: eight states over the last quarter, as keep.tail=8 keeps them."""
    saved = [(step, tracked) for step in range(316, 401, 12) for tracked in (0.05, 0.1)]
    factors, error = combine(saved, 400, width)
    found = sum(
        factor * np.pad(shares(tracked, step), (0, 400 - step))
        for factor, (step, tracked) in zip(factors, saved, strict=True)
    )
    assert factors.sum() == pytest.approx(1) and found.sum() == pytest.approx(1)
    difference = np.linalg.norm(found - shares(width, 400)) / np.linalg.norm(shares(width, 400))
    assert error == pytest.approx(difference, abs=1e-9) and error <= MOST_ERROR


def test_a_width_that_the_saved_averages_cannot_give_has_a_large_error() -> None:
    """Too wide: of the first three quarters, nothing but two shapes is known."""
    saved = [(step, tracked) for step in range(316, 401, 12) for tracked in (0.05, 0.1)]
    assert combine(saved, 400, 0.2)[1] > MOST_ERROR
    assert combine([(400, 0.1)], 400, 0.05)[1] > MOST_ERROR
