"""Each curve at points computed by hand, and properties of all of them."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.training.schedule import CURVES, factor, without_effect

curves = st.sampled_from(sorted(CURVES))


def section(name: str, **changes) -> SimpleNamespace:
    defaults = {"power": 1.0, "warmup": 0, "min_lr": 0.0, "milestones": [], "gamma": 0.1}
    defaults |= {"decay": 20, "shape": "linear", "cycles": 4}
    return SimpleNamespace(name=name, **defaults | changes)


def at(step: float, name: str, num_steps: int = 100, base_lr: float = 1e-3, **changes) -> float:
    return factor(section(name, **changes), base_lr, step, num_steps)


@pytest.mark.parametrize("name", sorted(CURVES.keys() - {"onecycle"}))
def test_warm_up_rises_linearly_to_the_full_rate(name: str) -> None:
    assert [at(step, name, warmup=4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("step", "name", "changes", "expected"),
    [
        (0, "poly", {}, 1.0),
        (25, "poly", {}, 0.75),
        (99, "poly", {}, 0.01),
        (75, "poly", {"power": 0.5}, 0.5),
        (20, "poly", {"power": 2.0}, 0.64),
        (60, "poly", {"warmup": 20}, 0.5),  # half of the 80 steps after the warm-up
        (0, "cosine", {}, 1.0),
        (50, "cosine", {}, 0.5),
        (75, "cosine", {}, (1 - math.sqrt(0.5)) / 2),
        (60, "cosine", {"warmup": 20}, 0.5),
        (29, "step", {"milestones": [30, 60]}, 1.0),
        (30, "step", {"milestones": [30, 60]}, 0.1),
        (59, "step", {"milestones": [30, 60]}, 0.1),
        (60, "step", {"milestones": [30, 60], "gamma": 0.5}, 0.25),
        (30, "step", {"milestones": [60, 30]}, 0.1),  # in any order
        (59, "step", {"milestones": [60, 30]}, 0.1),
        (30, "step", {"milestones": [30, 60], "min_lr": 1e-4}, 0.1 + 0.9 * 0.1),
        (99, "constant", {}, 1.0),
        (80, "wsd", {}, 1.0),  # the last of the stable phase: 20 updates are left
        (90, "wsd", {}, 0.5),
        (99, "wsd", {}, 0.05),
        (90, "wsd", {"warmup": 60}, 0.5),  # the decay is counted from the end
        (90, "wsd", {"shape": "cosine"}, 0.5),
        (85, "wsd", {"shape": "sqrt"}, 0.5),
        (95, "wsd", {"decay": 10, "min_lr": 1e-4}, 0.55),
        (99, "wsd", {"decay": 0}, 1.0),
        (0, "cyclic", {}, 1.0),
        (12.5, "cyclic", {}, 0.5),  # half of the first of four cycles
        (25, "cyclic", {}, 1.0),
        (87.5, "cyclic", {}, 0.5),
        (60, "cyclic", {"warmup": 20, "cycles": 2}, 1.0),
        (40, "cyclic", {"warmup": 20, "cycles": 2}, 0.5),
        (40, "cyclic", {"warmup": 20, "cycles": 2, "min_lr": 1e-4}, 0.55),
        (0, "onecycle", {}, 1 / 25),
        (15, "onecycle", {}, (1 / 25 + 1) / 2),
        (30, "onecycle", {}, 1.0),
        (65, "onecycle", {}, 0.5),
    ],
)
def test_hand_computed(step: float, name: str, changes: dict, expected: float) -> None:
    assert at(step, name, **changes) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["poly", "cosine"])
def test_min_lr_is_what_the_curve_falls_to(name: str) -> None:
    """A floor of 1e-4 under a rate of 1e-3: half way it is in the middle between both."""
    assert at(50, name, min_lr=1e-4) == pytest.approx((1 + 0.1) / 2)
    assert at(9999, name, num_steps=10_000, min_lr=1e-4) == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("constant", {"min_lr": 1e-4}, "schedule.min_lr"),
        ("step", {"milestones": [60, 100]}, "schedule.milestones: no learning rate falls at 100,"),
    ],
)
def test_a_value_that_changes_no_rate_is_named(name: str, changes: dict, key: str) -> None:
    [said] = without_effect(section(name, **changes), 100)
    assert said.startswith(key)
    without = {key: value[:1] if isinstance(value, list) else 0.0 for key, value in changes.items()}
    assert without_effect(section(name, **without), 100) == []
    assert [at(step, name, **changes) for step in range(100)] == [
        at(step, name, **without) for step in range(100)
    ]


def test_onecycle_has_its_own_rise_and_no_warm_up() -> None:
    """With a warm-up in front the rate would rise, fall to 1/25, and rise again."""
    with_warmup, without = ([at(s, "onecycle", warmup=w) for s in range(100)] for w in (20, 0))
    assert with_warmup == without
    assert with_warmup[:31] == sorted(with_warmup[:31])
    assert with_warmup[30:] == sorted(with_warmup[30:], reverse=True)


def test_a_warm_up_longer_than_the_training_just_ends_early() -> None:
    assert at(99, "poly", warmup=1000) == pytest.approx(0.1)


@given(
    name=curves,
    num_steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    floor=st.floats(0, 1),
    data=st.data(),
)
def test_always_a_share_of_the_base_rate(name: str, num_steps: int, warmup: int, floor: float, data) -> None:
    step = data.draw(st.integers(0, num_steps - 1))
    value = at(step, name, num_steps, base_lr=1.0, warmup=warmup, min_lr=floor, milestones=[num_steps // 2])
    assert 0 < value <= 1 + 1e-12
    if step >= warmup:
        assert value >= floor * (1 - 1e-12)


@given(name=curves, warmup=st.integers(1, 50))
def test_no_jump_where_the_warm_up_ends(name: str, warmup: int) -> None:
    """No step changes more than the steepest part of any curve does: a cosine, or one part of the warm-up."""
    num_steps = warmup + 100
    before, after = (at(step, name, num_steps, warmup=warmup) for step in (warmup - 1, warmup))
    assert abs(after - before) < 0.06
