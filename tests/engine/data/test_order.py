"""The order of samples is a pure function of (seed, step), for any number of processes."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.order import Draw, SampleOrder, WeightedOrder


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6])
def test_every_number_of_processes_trains_on_the_same_samples(world_size):
    order = SampleOrder(num_samples=50, batch=12, seed=3)
    for step in range(9):
        shares = [order.update(step, rank, world_size) for rank in range(world_size)]
        assert {len(share) for share in shares} == {12 // world_size}
        interleaved = list(chain.from_iterable(zip(*shares, strict=True)))
        assert interleaved == order.update(step)


@given(num_samples=st.integers(1, 30), batch=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_every_epoch_shows_each_sample_once(num_samples, batch, seed):
    order = SampleOrder(num_samples, batch, seed)
    draws = list(chain.from_iterable(order.update(step) for step in range(3 * num_samples // batch + 1)))
    assert len(draws) > 2 * num_samples
    for epoch in range(2):
        seen = draws[epoch * num_samples : (epoch + 1) * num_samples]
        assert {draw.epoch for draw in seen} == {epoch}
        assert sorted(draw.index for draw in seen) == list(range(num_samples))


def test_epochs_and_seeds_shuffle_differently():
    def first_epochs(seed):
        order = SampleOrder(num_samples=30, batch=30, seed=seed)
        return [[draw.index for draw in order.update(step)] for step in range(3)]

    orders = first_epochs(0) + first_epochs(1)
    assert list(range(30)) not in orders
    assert len({tuple(order) for order in orders}) == 6


def test_a_step_computed_directly_equals_the_same_step_reached_by_iteration():
    order = SampleOrder(num_samples=23, batch=5, seed=1)
    walked = [order.update(step) for step in range(40)]
    assert SampleOrder(23, 5, 1).update(39) == walked[39]
    assert [order.update(step) for step in (17, 2, 39, 0)] == [walked[step] for step in (17, 2, 39, 0)]


def test_a_batch_across_two_epochs_ends_one_and_begins_the_next():
    order = SampleOrder(num_samples=10, batch=4, seed=0)
    whole = SampleOrder(num_samples=10, batch=10, seed=0)
    first, second = whole.update(0), whole.update(1)
    assert order.update(2) == first[8:] + second[:2]
    assert [draw.epoch for draw in order.update(2)] == [0, 0, 1, 1]


def test_a_data_set_smaller_than_the_batch_fills_it_with_several_epochs():
    draws = SampleOrder(num_samples=3, batch=8, seed=0).update(0)
    assert [draw.epoch for draw in draws] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(draw.index for draw in draws[:3]) == [0, 1, 2]
    assert SampleOrder(num_samples=1, batch=2, seed=9).update(4) == [Draw(0, 8), Draw(0, 9)]


# Some samples more often than others

weights = st.lists(st.one_of(st.just(0), st.integers(1, 1000)), min_size=1, max_size=20).filter(any)


def probabilities_of(weights: list[int]) -> np.ndarray:
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6])
def test_weighted_draws_are_the_same_for_every_number_of_processes(world_size):
    order = WeightedOrder.of(probabilities_of(list(range(1, 51))), batch=12, seed=3)
    for step in range(9):
        shares = [order.update(step, rank, world_size) for rank in range(world_size)]
        assert list(chain.from_iterable(zip(*shares, strict=True))) == order.update(step)


def test_a_distant_weighted_step_is_computed_without_those_before_it(monkeypatch):
    import engine.data.order

    probabilities = probabilities_of([1, 2, 3, 4, 5, 6, 7])
    walked = WeightedOrder.of(probabilities, 3, 1)
    draws = [walked.update(step) for step in range(40)]
    epochs, permutation = [], engine.data.order._permutation
    monkeypatch.setattr(
        "engine.data.order._permutation",
        lambda seed, epoch, n: epochs.append(epoch) or permutation(seed, epoch, n),
    )
    assert WeightedOrder.of(probabilities, 3, 1).update(38) == draws[38]
    assert epochs == [16, 16, 16]  # positions 114, 115 and 116 of epochs of 7


@given(weights=weights, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_in_an_epoch_each_sample_is_drawn_its_expected_number_of_times_rounded(weights, seed, epoch):
    n = len(weights)
    draws = WeightedOrder.of(probabilities_of(weights), batch=n, seed=seed).update(epoch)
    found = np.bincount([draw.index for draw in draws], minlength=n)
    assert found.sum() == n
    for number, weight in zip(found.tolist(), weights, strict=True):
        assert number in {weight * n // sum(weights), -(-weight * n // sum(weights))}


def test_over_many_epochs_each_sample_is_drawn_as_often_as_its_probability():
    """A sample is drawn one of two consecutive numbers of times per epoch. By Hoeffding's inequality its sum
    over E epochs is off its mean by t with probability at most 2 exp(-2 t^2 / E): 1e-8 for t = 3.1 sqrt(E).
    """
    probabilities, num_epochs = probabilities_of([40, 25, 13, 9, 5, 3, 2, 2, 1]), 900
    order = WeightedOrder.of(probabilities, batch=9, seed=5)
    draws = [draw.index for epoch in range(num_epochs) for draw in order.update(epoch)]
    off = np.bincount(draws, minlength=9) - num_epochs * 9 * probabilities
    assert abs(off).max() < 3.1 * num_epochs**0.5


def test_equal_probabilities_are_the_plain_order():
    plain, weighted = SampleOrder(16, 5, 8), WeightedOrder.of(np.full(16, 1 / 16), 5, 8)
    for step in range(20):
        assert [d.index for d in plain.update(step)] == [d.index for d in weighted.update(step)]


def test_a_sample_drawn_twice_in_an_epoch_is_augmented_differently():
    draws = WeightedOrder.of(probabilities_of([18, 1, 1]), batch=60, seed=0).update(0)
    assert [draw.index for draw in draws].count(0) >= 40  # of the 3 draws of an epoch 2 or 3
    assert len({draw.epoch for draw in draws}) == 60
