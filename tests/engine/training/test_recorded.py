"""Recorded updates have the weights, states and metrics of ordinary ones, bit for bit."""

import pytest
import torch

import losses.pixel_sums as pixel_sums
from engine.training.recorded import WARM_UP, RecordedUpdates
from tests.engine.training.recorder import OperationsOfTheCPU

ROUND = [2.0**-power for power in (3, 2, 0, 1, 0, 2, 4, 1, 3, 2, 5, 1)]  # exact as float32


@pytest.fixture(autouse=True)
def _loss_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of devices without a kernel of their own; the one of the CPU reads values."""
    monkeypatch.setattr(pixel_sums._Strips, "apply", pixel_sums._whole)


def recorded(step) -> OperationsOfTheCPU:
    recorder = OperationsOfTheCPU()
    step.recorded = RecordedUpdates(step, recorder)
    return recorder


def everything(step) -> dict[str, torch.Tensor]:
    """Copies of the weights, averages, buffers and moments."""
    found = {f"{name}.{key}": t for name, m in step.modules.items() for key, t in m.state_dict().items()}
    for name, optimizer in step.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            found |= {f"{name}.{index}.{slot}": torch.as_tensor(value) for slot, value in state.items()}
    return {name: tensor.clone() for name, tensor in found.items()}


def require_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


SETTINGS = {
    "supervised": {},
    "averages": {"ema": 0.9, "widths": (0.1, 0.2)},
    "clipped": {"clip_norm": 0.1},
    "fp16": {"precision": "fp16", "ema": 0.9, "clip_norm": 1.0},
    "sgd": {"optimizer": {"name": "sgd", "momentum": 0.9, "betas": None}},
    "lion": {"optimizer": {"name": "lion"}},
    "adversarial": {"adversarial": {"lr": 2.0**-10}, "ema": 0.9, "clip_norm": 1.0},
    "ramp": {"adversarial": {"start": 5, "ramp": 2, "at_logits": True, "lr": 2.0**-10}},
    "gradient penalty": {"adversarial": {"objective": "wgan_gp", "lr": 2.0**-10}},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_recorded_updates_are_the_ordinary_ones(make_step, draw_batch, settings: str) -> None:
    found, metrics = [], []
    for change in (lambda step: None, recorded):
        step = make_step(lr=2.0**-9, lr_factor=ROUND.__getitem__, **SETTINGS[settings])
        recorder = change(step)
        metrics.append([step(draw_batch(seed=update)) for update in range(12)])
        found.append(everything(step))
    assert recorder.num_repeated > recorder.num_recorded > 0
    for own, ordinary in zip(*reversed(metrics), strict=True):
        require_same(own, ordinary)
    require_same(*reversed(found))
