"""The range test on a toy problem with a known answer, its rules on artificial curves, and restoring."""

import copy
import math
from itertools import repeat

import numpy as np
import pytest
import torch

from engine.training.lr_range import RangeTest, range_test, smooth


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
    assert found.suggestion is not None and found.low is not None and found.rise is not None
    assert 1e-4 < found.low < found.suggestion < found.rise <= found.rates[-1]


def test_a_nan_loss_stops_the_test_at_once(make_step, draw_batch) -> None:
    batch = draw_batch()
    batch.images[:] = math.nan
    found = range_test(make_step(), repeat(batch), [1e-3] * 30, 1e-3, quiet)
    assert len(found.losses) == 1 and "NaN or infinite" in (found.stopped or "")
    assert found.smoothed == [] and found.suggestion is None and found.verdict == "rises"


RATES = [float(rate) for rate in np.geomspace(1e-6, 1e-1, 101)]  # 20 per decade


def curve(rate: float) -> float:
    """3 up to 1e-4, 1 from 1e-3 to 1e-2, and from there it rises by 2 per decade."""
    x = math.log10(rate)
    return float(np.interp(x, [-4, -3, -2, -1], [3, 1, 1, 3]))


def noisy(values: list[float], sigma: float, seed: int = 0) -> RangeTest:
    noise = np.random.default_rng(seed).normal(0, sigma, len(values))
    rates = [float(rate) for rate in np.geomspace(1e-6, 1e-1, len(values))]
    return RangeTest(rates, [value + float(n) for value, n in zip(values, noise, strict=True)], None)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3])
def test_the_suggestion_is_in_the_middle_of_the_low_stretch(sigma: float, seed: int) -> None:
    """From 1e-3.1, where nine tenths are made, to a little above 1e-2."""
    found = noisy([curve(rate) for rate in RATES], sigma, seed)
    assert found.verdict == "found"
    assert abs(math.log10(found.suggestion) - -2.5) < 0.4
    assert found.low < found.suggestion < found.rise


def test_a_flat_start_that_falls_a_little_is_not_chosen() -> None:
    """The loss falls by its noise while the biases learn how frequent the classes are, and is flat again."""
    losses = [0.7 if rate < 3e-6 else 0.65 if rate < 1e-4 else 0.65 * curve(rate) / 3 for rate in RATES]
    found = noisy(losses, 0.02)
    assert 1e-3 < found.suggestion < 1e-2


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_a_flat_curve_suggests_nothing(sigma: float) -> None:
    curves = [noisy([1.0] * 101, sigma, seed) for seed in range(100)]
    assert sum(found.verdict == "flat" for found in curves) >= 85  # rarely a rise or a fall by chance
    assert sum(found.suggestion is not None for found in curves) <= 3


def test_more_updates_show_what_fewer_hide_in_noise() -> None:
    def suggestions(steps: int) -> list[float | None]:
        losses = [0.1 * curve(rate) for rate in np.geomspace(1e-6, 1e-1, steps)]
        return [noisy(losses, 0.2, seed).suggestion for seed in range(20)]

    assert suggestions(100).count(None) > 10
    assert all(rate is not None and 5e-4 < rate < 2e-2 for rate in suggestions(1600))


def test_a_loss_that_falls_to_the_end_suggests_nothing() -> None:
    found = RangeTest(RATES, [5 - 0.04 * k for k in range(101)], None)
    assert found.verdict == "falls to the end"
    assert found.suggestion is None and found.rise is None


def test_a_loss_that_only_rises_suggests_nothing() -> None:
    found = RangeTest(RATES, [1 + 0.01 * k for k in range(101)], None)
    assert found.verdict == "rises" and found.suggestion is None


def test_a_loss_that_becomes_infinite_has_risen_there() -> None:
    falling = [3.0 if rate < 1e-4 else 1.0 for rate in RATES[:70]]
    found = RangeTest(RATES[:71], [*falling, math.inf], "the loss became NaN or infinite")
    assert found.rise == RATES[70] and RATES[40] <= found.low < found.suggestion < found.rise
    at_once = RangeTest(RATES[:3], [3.0, 3.0, math.inf], "the loss became NaN or infinite")
    assert at_once.verdict == "rises" and at_once.suggestion is None


def test_diverging_losses_do_not_count_as_noise() -> None:
    losses = [curve(rate) + (0.1 if k % 2 else -0.1) for k, rate in enumerate(RATES)]
    found, wild = RangeTest(RATES, losses, None), RangeTest(RATES, [*losses[:-10], *[1e3, 2] * 5], None)
    assert wild.error == pytest.approx(found.error, rel=0.3)


def test_smoothing_keeps_lines_and_does_not_lag() -> None:
    line = np.linspace(2, 1, 101)
    assert smooth(RATES, line)[20:-20] == pytest.approx(line[20:-20])
    assert smooth(RATES, [3.0] * 101) == pytest.approx(np.full(101, 3.0))
    weights = [
        math.exp(-0.5 * (distance / 2.5) ** 2) for distance in range(3)
    ]  # 0.125 decades are 2.5 updates
    expected = sum(w * v for w, v in zip(weights, [1.0, 5.0, 2.0], strict=True)) / sum(weights)
    assert smooth(RATES, [1.0, 5.0, 2.0])[0] == pytest.approx(expected)
