"""The guard reports a NaN or infinite loss at the next check."""

import math
from contextlib import nullcontext

import pytest
import torch

from engine.training.fit import FiniteGuard, RunError


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_nan_or_infinite_loss_is_reported_after_finite_ones_too(value: float) -> None:
    guard = FiniteGuard()
    for loss in (1.0, value, 1.0):
        guard.watch({"loss": torch.tensor(loss)})
    with pytest.raises(RunError, match="NaN or infinite.* step 7.*is kept.*optimizer.lr") as caught:
        guard.check(7)
    assert caught.value.exit_code == 1


def test_finite_losses_pass_and_so_does_no_loss() -> None:
    guard = FiniteGuard()
    guard.check(0)
    guard.watch({"loss": torch.tensor(1e30)})
    guard.check(1)


@pytest.mark.parametrize(
    ("name", "stops"), [("loss_dice", True), ("adv/d_loss", False), ("gradients/norm/head", False)]
)
def test_nan_stops_the_run_unless_the_name_of_the_metric_has_a_slash(name: str, stops: bool) -> None:
    guard = FiniteGuard()
    guard.watch({"loss": torch.tensor(1.0), name: torch.tensor(math.nan)})
    with pytest.raises(RunError) if stops else nullcontext():
        guard.check(3)
