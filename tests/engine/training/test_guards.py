"""The guard remembers what it saw until it is asked."""

import math

import pytest
import torch

from engine.training.guards import FiniteGuard, RunError


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_loss_is_remembered_behind_good_ones(value: float) -> None:
    guard = FiniteGuard()
    for loss in (1.0, value, 1.0):
        guard.watch({"loss": torch.tensor(loss)})
    with pytest.raises(RunError, match="NaN or infinite.* step 7.*is kept.*optimizer.lr") as caught:
        guard.check(7)
    assert caught.value.exit_code == 1


def test_finite_losses_pass_and_so_does_nothing() -> None:
    guard = FiniteGuard()
    guard.check(0)
    guard.watch({"loss": torch.tensor(1e30)})
    guard.check(1)


def test_any_broken_metric_stops_the_run() -> None:
    guard = FiniteGuard()
    guard.watch({"loss": torch.tensor(1.0), "adv/g_loss": torch.tensor(float("nan"))})
    with pytest.raises(RunError):
        guard.check(3)
