"""The order of samples is a pure function of (seed, step), however many processes share it."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.order import Draw, SampleOrder


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


def test_a_step_reached_directly_equals_the_same_step_reached_by_iterating():
    order = SampleOrder(num_samples=23, batch=5, seed=1)
    walked = [order.update(step) for step in range(40)]
    assert SampleOrder(23, 5, 1).update(39) == walked[39]
    assert [order.update(step) for step in (17, 2, 39, 0)] == [walked[step] for step in (17, 2, 39, 0)]


def test_a_batch_that_straddles_two_epochs_ends_one_and_begins_the_next():
    order = SampleOrder(num_samples=10, batch=4, seed=0)
    whole = SampleOrder(num_samples=10, batch=10, seed=0)
    first, second = whole.update(0), whole.update(1)
    assert order.update(2) == first[8:] + second[:2]
    assert [draw.epoch for draw in order.update(2)] == [0, 0, 1, 1]


def test_a_set_smaller_than_the_batch_fills_it_with_several_epochs():
    draws = SampleOrder(num_samples=3, batch=8, seed=0).update(0)
    assert [draw.epoch for draw in draws] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(draw.index for draw in draws[:3]) == [0, 1, 2]
    assert SampleOrder(num_samples=1, batch=2, seed=9).update(4) == [Draw(0, 8), Draw(0, 9)]
