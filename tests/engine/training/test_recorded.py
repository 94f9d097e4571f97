"""Updates that are recorded and repeated, for train.compile: max, with a recorder for the CPU.

Rates are powers of two, as a repeated update reads them as float32.
"""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from engine.data.batches import Batch
from engine.recipe.sections import Distill
from engine.scoring.combining import Combination
from engine.training.checkpoint import copied_state
from engine.training.distillation import Distillation
from engine.training.fit import RunError
from engine.training.probe import GradientProbe
from engine.training.recorded import WARM_UP, RecordedUpdates
from losses import pixel_sums
from losses.mixed import MixedLoss, Ramp
from tests.engine.training.recorder import OperationsOfTheCPU, tensors_of

LR = 2.0**-9
FACTORS = [2.0**-power for power in (3, 2, 0, 1, 0, 2, 4, 1, 3, 2, 5, 1)]
UPDATES = len(FACTORS)
BROKEN = 7  # the update whose images are NaN


@pytest.fixture(autouse=True)
def _loss_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of devices without a kernel of their own; that of the CPU reads values."""
    monkeypatch.setattr(pixel_sums._Strips, "apply", pixel_sums._whole)


def recorded(step) -> OperationsOfTheCPU:
    recorder = OperationsOfTheCPU()
    step.recorded = RecordedUpdates(step, recorder)
    return recorder


def both(run, make_step, updates, **settings) -> OperationsOfTheCPU:
    """The same updates, ordinary and recorded, have the same metrics and the same state; the recorder."""
    found, headers = [], []
    for is_recorded in (False, True):
        step = make_step(lr=LR, lr_factor=FACTORS.__getitem__, **settings)
        recorder = recorded(step) if is_recorded else OperationsOfTheCPU()
        metrics = [dict(metrics) for metrics in updates(step)]
        tensors, header = copied_state(run, step, None)
        headers.append(header)
        found.append([*metrics, tensors])
    for expected, repeated in zip(*found, strict=True):  # bit for bit; a skipped update has the loss NaN
        torch.testing.assert_close(repeated, expected, rtol=0, atol=0, equal_nan=True)
    assert headers[0] == headers[1]
    return recorder


SETTINGS = {
    "supervised": ({}, 2),
    "averages": ({"ema": 0.9, "widths": (0.1, 0.2)}, 2),
    "clipped": ({"clip_norm": 0.1}, 2),
    "fp16": ({"precision": "fp16", "ema": 0.9, "clip_norm": 1.0}, 2),
    "sgd": ({"optimizer": {"name": "sgd", "momentum": 0.9}}, 2),
    "without a fused kernel": ({"optimizer": {"name": "lion"}}, 1),
    "adversarial": ({"adversarial": {"lr": LR}, "ema": 0.9, "clip_norm": 1.0}, 2),
    "gradient penalty": ({"adversarial": {"lr": LR, "objective": "wgan_gp", "at_logits": True}}, 2),
    "started and ramped": ({"adversarial": {"lr": LR, "start": 5, "ramp": 2}}, 4),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_recorded_updates_are_the_ordinary_ones(run, make_step, draw_batch, name: str) -> None:
    """With dropout, one update that is skipped, and evaluations between them."""

    def updates(step):
        for update in range(UPDATES):
            batch = draw_batch(seed=update)
            if update == BROKEN:
                batch.images[0] = torch.nan
            metrics = step(batch)
            assert metrics["nan"] == (update == BROKEN)
            yield metrics
            step.evaluated().eval()

    settings, num_recorded = SETTINGS[name]
    recorder = both(run, make_step, updates, **settings)
    assert recorder.num_recorded == num_recorded
    assert recorder.num_repeated >= 4


def test_another_crop_and_another_weight_of_a_loss_are_recorded_again(run, make_step, draw_batch) -> None:
    def updates(step):
        step.loss.weights["loss_dice"] = Ramp(begin=0.5, end=2.0, start=0, ramp=1)
        for update in range(UPDATES):
            yield step(draw_batch(seed=update, size_px=32 if update < 6 else 48))

    recorder = both(run, make_step, updates)
    # The weight changes at update 1, and the crops at 6.
    assert (recorder.num_ordinary, recorder.num_recorded) == (1 + 2 * WARM_UP, 4)


def test_a_measured_update_is_repeated_up_to_its_gradients(run, make_step, draw_batch) -> None:
    def updates(step):
        step.probe = GradientProbe(step.model, every=2, log_every=2, first=0)
        for update in range(UPDATES):
            metrics = step(draw_batch(seed=update))
            assert ("gradients/update/head" in metrics) == (update % 2 == 1)
            yield metrics

    recorder = both(run, make_step, updates, clip_norm=0.1)
    assert recorder.num_ordinary == WARM_UP


def test_after_a_state_was_loaded_its_tensors_are_recorded(run, make_step, draw_batch) -> None:
    """As where train.on_nan=rollback goes back."""

    def updates(step):
        for update in range(UPDATES):
            if update == 6:
                for optimizer in step.optimizers.values():
                    optimizer.load_state_dict(optimizer.state_dict())
                step.lr_scale = 0.5
            yield step(draw_batch(seed=update))

    recorder = both(run, make_step, updates)
    assert (recorder.num_ordinary, recorder.num_recorded) == (2 * WARM_UP, 4)


def test_a_teacher_of_several_members_is_recorded(run, make_step, draw_batch, toy) -> None:
    members = {str(seed): toy(seed=seed).eval() for seed in (1, 2)}
    teacher = SimpleNamespace(members=members, combination=Combination.mean(2))

    def updates(step):
        step.distillation = Distillation(teacher, Distill(teacher="runs/a"))
        for update in range(6):
            yield step(draw_batch(seed=update))

    assert both(run, make_step, updates).num_repeated == 6


class Waiting(nn.Module):
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.square().mean() * float(labels.max() > 0)


def test_an_update_that_waits_for_the_device_cannot_be_recorded(make_step, draw_batch) -> None:
    step = make_step()
    step.loss = MixedLoss({"loss_own": (Waiting(), 1.0)}, 3, 255)
    recorded(step)
    for _ in range(WARM_UP):
        step(draw_batch())
    with pytest.raises(RunError, match=r"record .* waits for the device\. Type .*train\.compile=true"):
        step(draw_batch())
    step.recorded = None  # as with train.compile=true
    assert step(draw_batch())["loss"].isfinite()


class OnTheDevice(TorchDispatchMode):
    """Requires all tensors to be on meta, whose values cannot be read, so that nothing is copied there."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        found = operator(*args, **(kwargs or {}))
        assert all(tensor.is_meta for tensor in tensors_of(args, kwargs, found)), operator
        return found


TERMS = ("cross_entropy", "dice", "tversky", "jaccard", "focal", "mcc", "lovasz", "boundary")


@pytest.mark.parametrize(
    "settings",
    [{"losses": TERMS, "clip_norm": 1.0}]
    + [{"adversarial": {"objective": o, "at_logits": o == "bce"}} for o in ("hinge", "wgan_gp", "bce")],
    ids=lambda settings: next(iter(settings)),
)
def test_no_value_is_read_or_copied_from_the_host(make_step, settings, monkeypatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none for meta
    adam = sys.modules[torch.optim.Adam.__module__]  # torch.optim hides it
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_: None)
    step = make_step(device="meta", **settings)
    images, labels = torch.empty(4, 3, 64, 64), torch.empty(4, 64, 64, dtype=torch.int64)
    batch = Batch(images.to("meta"), labels.to("meta"), ["a"] * 4)
    step(batch)  # creates the state of the optimiser
    with OnTheDevice():
        step.update(batch)
