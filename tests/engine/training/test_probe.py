"""The probe: its values against a plain computation, when it measures, and that it changes nothing."""

import math

import pytest
import torch
from torch import nn

from engine.training.probe import GradientProbe


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def norm(tensors) -> float:
    return torch.cat([tensor.double().flatten() for tensor in tensors]).norm().item()


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1e-3}, {"accumulate": 2}, {"precision": "fp16"}])
def test_norms_are_those_of_the_whole_unclipped_gradient(make_step, draw_batch, settings: dict) -> None:
    step, same = make_step(**settings), make_step(**(settings | {"clip_norm": None}))
    step.probe = GradientProbe(step.model, every=1, log_every=1, first=0)
    before, gradients = weights(step.model), {}

    def look(optimizer, *_) -> None:  # a fused optimiser gets gradients that are still scaled
        scale = same.scalers["optimizer"].get_scale() if settings.get("precision") == "fp16" else 1.0
        gradients.update({name: p.grad / scale for name, p in same.model.named_parameters()})

    same.optimizers["optimizer"].register_step_pre_hook(look)
    metrics, _ = step(draw_batch()), same(draw_batch())
    after = weights(step.model)
    for block in ("encoder", "norm", "head"):
        mine = [name for name in before if name.startswith(f"{block}.")]
        expected = norm(gradients[name] for name in mine)
        assert metrics[f"gradients/norm/{block}"].item() == pytest.approx(expected, rel=1e-4)
        moved = norm(after[name] - before[name] for name in mine) / norm(before[name] for name in mine)
        assert metrics[f"gradients/update/{block}"].item() == pytest.approx(moved, rel=1e-4)
        assert moved > 0
    assert metrics["gradients/total_norm"].item() == pytest.approx(norm(gradients.values()), rel=1e-4)


@pytest.mark.parametrize("adversarial", [None, {"start": 1}])
def test_a_probe_changes_no_weight(make_step, draw_batch, adversarial: dict | None) -> None:
    plain, probed = (
        make_step(adversarial=adversarial, clip_norm=0.5),
        make_step(adversarial=adversarial, clip_norm=0.5),
    )
    probed.probe = GradientProbe(probed.model, every=2, log_every=1, first=0)
    for seed in range(4):
        assert plain(draw_batch(seed=seed))["loss"] == probed(draw_batch(seed=seed))["loss"]
    for name, value in weights(plain.model).items():
        assert torch.equal(value, weights(probed.model)[name]), name


@pytest.mark.parametrize(
    ("every", "first", "looks"),
    [(0, 0, [5, 10]), (0, 12, [15, 20]), (15, 0, [5, 10, 15, 30]), (10, 10, [15, 20, 30])],
)
def test_it_measures_at_the_first_log_steps_and_then_at_the_given_interval(every, first, looks) -> None:
    probe = GradientProbe(nn.Linear(1, 1), every, log_every=5, first=first)
    assert [count + 1 for count in range(first, 32) if probe.is_due(count)] == looks


def test_the_first_measurements_copy_no_weights(make_step, draw_batch) -> None:
    step = make_step()
    step.probe = GradientProbe(step.model, every=0, log_every=1, first=0)
    output = [name for name in step(draw_batch()) if name.startswith("gradients/")]
    assert output == [f"gradients/norm/{b}" for b in ("encoder", "norm", "head")] + ["gradients/total_norm"]


def test_a_block_that_the_loss_does_not_reach_has_norm_0(make_step, draw_batch, toy) -> None:
    model = toy()
    model.aside = nn.Linear(3, 3)
    step = make_step(model)
    step.probe = GradientProbe(model, every=1, log_every=1, first=0)
    metrics = step(draw_batch())
    assert metrics["gradients/norm/aside"] == 0
    assert metrics["gradients/update/aside"] < 1e-4  # weight decay alone would move it, not the optimiser
    assert math.isfinite(metrics["gradients/norm/head"]) and metrics["gradients/norm/head"] > 0
