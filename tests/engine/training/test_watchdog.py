"""The watchdog against the rules that its docstring gives."""

import math

import pytest
import torch

from engine.training.adversarial import BAND, FACTORS, MEMORY, PATIENCE_STEPS, Watchdog


def after(watchdog: Watchdog, accuracy: float, times: int) -> Watchdog:
    for _ in range(times):
        watchdog.observe(torch.tensor(accuracy))
    return watchdog


def updates_to_leave(accuracy: float) -> int:
    """The smallest n at which a smoothed share that starts in the middle of the band is outside."""
    middle, edge = sum(BAND) / 2, BAND[accuracy > BAND[1]]
    return math.floor(math.log((accuracy - edge) / (accuracy - middle)) / math.log(MEMORY)) + 1


@pytest.mark.parametrize(("accuracy", "factor"), [(1.0, 0.5), (0.4, 2.0)])
def test_the_factor_changes_once_after_the_patience(accuracy: float, factor: float) -> None:
    patience = updates_to_leave(accuracy) + PATIENCE_STEPS - 1
    watchdog = after(Watchdog(), accuracy, patience - 1)
    assert watchdog.factor == 1
    assert after(watchdog, accuracy, 1).factor == factor
    assert after(watchdog, accuracy, PATIENCE_STEPS - 1).factor == factor
    assert after(watchdog, accuracy, 1).factor == factor**2


@pytest.mark.parametrize(("accuracy", "bound"), [(1.0, FACTORS[0]), (0.0, FACTORS[1])])
def test_it_stays_within_its_bounds(accuracy: float, bound: float) -> None:
    assert after(Watchdog(), accuracy, 10 * PATIENCE_STEPS).factor == bound


def test_inside_the_band_nothing_changes_and_the_count_is_reset() -> None:
    watchdog = after(Watchdog(), 0.7, 5 * PATIENCE_STEPS)
    assert watchdog.factor == 1 and watchdog.outside == 0
    after(watchdog, 1.0, PATIENCE_STEPS // 2)
    assert watchdog.outside > 0
    after(watchdog, 0.7, 50)
    assert watchdog.outside == 0 and watchdog.factor == 1


def test_too_accurate_and_guessing_are_counted_separately() -> None:
    watchdog = after(Watchdog(), 1.0, PATIENCE_STEPS - 1)
    watchdog.accuracy.fill_(0.0)
    after(watchdog, 0.0, 1)
    assert watchdog.outside == -1


def test_a_skipped_update_does_not_change_the_share() -> None:
    watchdog = after(Watchdog(), 0.8, 7)
    before = watchdog.accuracy.clone()
    assert after(watchdog, math.nan, 3).accuracy == before


def test_an_inactive_watchdog_only_measures() -> None:
    watchdog = after(Watchdog(active=False), 1.0, 3 * PATIENCE_STEPS)
    assert watchdog.factor == 1
    assert watchdog.accuracy > 0.99 and watchdog.outside > PATIENCE_STEPS


def test_its_state_dict_is_all_of_its_state() -> None:
    one, other = after(Watchdog(), 1.0, PATIENCE_STEPS + 40), Watchdog()
    other.load_state_dict(one.state_dict())
    assert after(other, 1.0, 90).factor == after(one, 1.0, 90).factor == 0.25
