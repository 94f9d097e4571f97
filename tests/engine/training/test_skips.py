"""An update with NaN is left out and changes nothing, and the guard counts those in a row."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.run_folder import RunFolder
from engine.training.fit import GoBack, RunError, SkipGuard
from engine.training.step import SupervisedStep
from tests.engine.training.conftest import Toy


def guard(on_nan: str = "skip", max_skipped: int = 3, went_back: bool = False) -> SkipGuard:
    run = RunFolder(Path("a run"))
    return SkipGuard(run, lambda flags: None, on_nan, max_skipped, lambda step: None, went_back)


def watched(guard: SkipGuard, flags: list[int], check_every: int = 100) -> None:
    for step, flag in enumerate(flags, start=1):
        guard.watch(step, torch.tensor(bool(flag)))
        if step % check_every == 0:
            guard.check()
    guard.check()


@pytest.mark.parametrize("check_every", [1, 2, 100])
def test_only_so_many_in_a_row_end_the_training_whenever_it_is_checked(check_every: int) -> None:
    watched(guard(), [1, 1, 0, 1, 1, 0, 1], check_every)
    with pytest.raises(RunError, match="in each of the updates 4 to 6; the run stops") as caught:
        watched(guard(), [1, 1, 0, 1, 1, 1, 1, 1, 0], check_every)
    assert "trident diagnose 'a run' --replay 4" in str(caught.value)
    assert caught.value.exit_code == 1


def test_stop_ends_it_at_the_first_and_rollback_goes_back_once() -> None:
    with pytest.raises(RunError, match=re.escape("infinite in update 2; the run stops")):
        watched(guard("stop"), [0, 1, 0])
    with pytest.raises(GoBack):
        watched(guard("rollback"), [0, 1, 1, 1])
    with pytest.raises(RunError):
        watched(guard("rollback", went_back=True), [0, 1, 1, 1])


def everything(step: SupervisedStep) -> dict[str, Tensor]:
    """Copies of weights, running statistics and moments."""
    found = {f"{m}.{k}": v for m, module in step.modules.items() for k, v in module.state_dict().items()}
    for name, optimizer in step.optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            found |= {f"{name}.{index}.{k}": torch.as_tensor(v) for k, v in slots.items()}
    return {key: value.clone() for key, value in found.items() if "num_batches_tracked" not in key}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1.0}, {"accumulate": 2}, {"precision": "bf16"}])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_batch_with_nan_changes_nothing_and_the_next_update_is_as_without_it(
    make_step, draw_batch, optimizer: str, settings: dict, value: float
) -> None:
    step = make_step(optimizer={"name": optimizer}, **settings)
    step(draw_batch(seed=0))
    before = everything(step)
    poisoned = draw_batch(seed=1)
    poisoned.images[2, 0, 5, 5] = value
    assert step(poisoned)["nan"]
    after = everything(step)
    assert step.count == 2
    assert [key for key in before if not torch.equal(before[key], after[key])] == []
    assert not step(draw_batch(seed=2))["nan"]
    moved = everything(step)
    assert all(moved[key].isfinite().all() for key in moved)
    assert not torch.equal(moved["model.head.weight"], before["model.head.weight"])


@pytest.mark.parametrize("adversarial", [None, {"start": 0}])
def test_the_moving_average_takes_no_nan_in_and_the_discriminator_neither(
    make_step, draw_batch, adversarial
) -> None:
    step = make_step(ema=0.5, adversarial=adversarial)
    step(draw_batch(seed=0))
    poisoned = draw_batch(seed=1)
    poisoned.images[0] = math.nan
    assert step(poisoned)["nan"]
    assert [key for key, value in everything(step).items() if not value.isfinite().all()] == []


class Loss(torch.nn.Module):
    """An infinite loss whose gradient is finite."""

    step = 0

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": logits.mean() + math.inf}


def test_a_loss_that_is_not_finite_is_left_out_even_where_its_gradient_is(make_step, draw_batch) -> None:
    step = make_step()
    before = everything(step)
    step.loss = Loss()
    assert step(draw_batch())["nan"]
    after = everything(step)
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_in_fp16_a_scale_that_is_too_high_is_no_nan_but_one_that_falls_in_vain_is(
    make_step, draw_batch
) -> None:
    """Gradients beyond 65504 times 2^-k overflow until the scale has fallen; a NaN image never ends."""
    step = make_step(Toy(dropout=0), precision="fp16")
    step(draw_batch())
    step.scalers["optimizer"].update(2.0**40)
    assert not step(draw_batch())["nan"]
    assert step.scalers["optimizer"].get_scale() < 2.0**40  # it was left out
    step.scalers["optimizer"].update(0.5)
    poisoned = draw_batch()
    poisoned.images[0] = math.nan
    assert step(poisoned)["nan"]
