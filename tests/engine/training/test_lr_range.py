"""The range test on a toy problem with a known answer, its rules on artificial curves, and restoring."""

import copy
import math
from itertools import repeat

import numpy as np
import pytest
import torch

from engine.training.lr_range import RangeTest, exponential_mean, range_test


def quiet(done: int, total: int) -> None:
    """No progress."""


def everything(step) -> list:
    """All tensors of a step: weights, averages, optimiser states, scales; and its plain state."""
    parts = [*step.modules.values(), *step.optimizers.values(), *step.scalers.values()]
    return [copy.deepcopy(part.state_dict()) for part in parts] + [step.count, step.lr_factor]


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("updates_before", [0, 2])
def test_the_step_is_restored_bit_for_bit_and_trains_on_the_same(
    make_step, draw_batch, updates_before: int
) -> None:
    def fresh():
        step = make_step(adversarial={"start": 1}, ema=0.9, precision="fp16")
        for seed in range(updates_before):
            step(draw_batch(seed=seed))
        return step

    tried, plain = fresh(), fresh()
    before, random_state = everything(tried), torch.get_rng_state()
    found = range_test(tried, repeat(draw_batch(seed=7)), [1e-4 * 3**k for k in range(6)], 1e-3, quiet)
    assert len(found.losses) == 6 and len(set(found.losses)) > 1
    assert same(everything(tried), before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert tried(draw_batch())["loss"] == plain(draw_batch())["loss"]
    assert same(everything(tried)[:-1], everything(plain)[:-1])


def test_the_step_is_restored_after_an_error_in_the_data_too(make_step, draw_batch) -> None:
    step = make_step()
    before = everything(step)

    def broken():
        yield draw_batch()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        range_test(step, broken(), [1e-3, 1e-2, 1e-1], 1e-3, quiet)
    assert same(everything(step), before)


def test_every_update_has_its_rate_and_groups_keep_their_factors(make_step, draw_batch) -> None:
    step, rates, seen = make_step(lr=1e-3), [1e-5, 1e-4, 1e-3], []
    step.optimizers["optimizer"].param_groups[-1]["initial_lr"] *= 10
    update = type(step).__call__

    class Watched(type(step)):
        def __call__(self, batch):
            metrics = update(self, batch)
            seen.append([group["lr"] for group in self.optimizers["optimizer"].param_groups])
            return metrics

    step.__class__ = Watched
    range_test(step, repeat(draw_batch()), rates, 1e-3, quiet)
    assert [row[0] for row in seen] == pytest.approx(rates)
    assert [row[-1] for row in seen] == pytest.approx([10 * rate for rate in rates])


def test_the_test_stops_where_the_loss_diverges(make_step, draw_batch) -> None:
    """Rates up to 1e6 make the toy diverge; the earlier losses are kept."""
    rates = [float(rate) for rate in np.geomspace(1e-4, 1e6, 60)]
    found = range_test(make_step(losses=("cross_entropy",)), repeat(draw_batch()), rates, 1e-3, quiet)
    assert found.stopped is not None
    assert 10 < len(found.losses) == len(found.rates) < 60
    assert found.suggestion is not None and found.lowest is not None
    assert 1e-4 < found.suggestion < found.lowest < found.rates[-1]


def test_a_nan_loss_stops_the_test_at_once(make_step, draw_batch) -> None:
    batch = draw_batch()
    batch.images[:] = math.nan
    found = range_test(make_step(), repeat(batch), [1e-3] * 30, 1e-3, quiet)
    assert len(found.losses) == 1 and "NaN or infinite" in (found.stopped or "")
    assert found.smoothed == [] and found.suggestion is None and found.lowest is None


def test_the_mean_has_no_bias_to_zero_and_weighs_by_age() -> None:
    assert exponential_mean([3.0] * 5) == pytest.approx([3.0] * 5)
    values = [1.0, 5.0, 2.0]
    shares = [0.9**2, 0.9, 1.0]
    expected = sum(s * v for s, v in zip(shares, values, strict=True)) / sum(shares)
    assert exponential_mean(values)[-1] == pytest.approx(expected)


RATES = [float(rate) for rate in np.geomspace(1e-6, 1e-1, 101)]  # 20 per decade


def valley(rate: float) -> float:
    """Falls fastest at 1e-4, is lowest at 1e-2, rises after it."""
    x = math.log10(rate)
    return 3 - 2 / (1 + math.exp(-3 * (x + 4))) + (0 if x < -2 else 2 * (x + 2) ** 2)


def test_the_suggestion_is_the_steepest_place_and_does_not_lag() -> None:
    found = RangeTest(RATES, [valley(rate) for rate in RATES], None)
    assert abs(math.log10(found.steepest) - -4) < 0.2
    assert (
        abs(math.log10(found.lowest) - -2) < 0.5
    )  # the steep rise after it shifts the smoothed minimum back
    assert found.suggestion == found.steepest


def test_a_steepest_rate_close_to_the_minimum_is_replaced_by_a_tenth_of_it() -> None:
    losses = [3.0 if rate < 1e-3 else 1.0 if rate < 1e-2 else 4.0 for rate in RATES]
    found = RangeTest(RATES, losses, None)
    assert found.steepest > found.lowest / 10
    assert found.suggestion == found.lowest / 10


def test_a_loss_that_falls_to_the_end_has_no_lowest_rate_but_a_steepest() -> None:
    found = RangeTest(RATES, [5 - 0.04 * k for k in range(101)], None)
    assert found.lowest is None
    assert found.suggestion == found.steepest is not None


def test_a_loss_that_only_rises_suggests_nothing() -> None:
    found = RangeTest(RATES, [1 + 0.01 * k for k in range(101)], None)
    assert found.suggestion is None
