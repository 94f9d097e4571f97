"""On a CUDA device: a hundred updates without synchronisation, and updates from CUDA graphs."""

import pytest
import torch

from engine.data.batches import Batch
from engine.training.distributed import Process, compiled
from engine.training.probe import GradientProbe
from engine.training.recorded import CudaGraphs, RecordedUpdates
from models.segformer import SegFormer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("adversarial", [None, {"objective": "hinge"}, {"objective": "wgan_gp"}])
def test_updates_do_not_synchronise(make_step, draw_batch, precision: str, adversarial: dict | None) -> None:
    step = make_step(precision=precision, adversarial=adversarial, ema=0.99, clip_norm=1.0, device="cuda")
    batch = draw_batch()
    batch = on_the_device(batch)
    for _ in range(3):  # the first updates may synchronise
        step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(100):
            metrics = step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite() for value in metrics.values())


def on_the_device(batch: Batch) -> Batch:
    return Batch(batch.images.cuda(), batch.labels.cuda(), batch.ids)


def recorded(step):
    """The step as `train.compile: max` makes it."""
    device = torch.device("cuda")
    step.forward = compiled(step.model, Process(0, 1, device), mode="max-autotune-no-cudagraphs")
    step.recorded = RecordedUpdates(step, CudaGraphs(device))
    return step


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": {"name": "lion"}}, {"adversarial": {}}, {"adversarial": {"start": 4, "ramp": 3}}],
    ids=["supervised", "without a fused kernel", "adversarial", "started and ramped"],
)
def test_recorded_updates_have_the_losses_of_eager_ones(make_step, draw_batch, precision, settings) -> None:
    """The model is compiled in one and not in the other, so they differ by rounding."""
    batches, losses = [on_the_device(draw_batch(size_px=64, seed=n)) for n in range(12)], []
    settings = {**settings, "ema": 0.9, "clip_norm": 1.0, "lr": 1e-4, "lr_factor": lambda step: 1 - step / 20}
    for change in (lambda step: step, recorded):
        torch.manual_seed(0)
        model = SegFormer("b0", 3, drop_path=0.0, dropout=0.0)
        step = change(make_step(model, precision=precision, device="cuda", **settings))
        losses.append([float(step(batch)["loss"]) for batch in batches])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2 if precision == "fp32" else 5e-2)


def test_recorded_updates_are_the_eager_ones_where_nothing_is_compiled(make_step, draw_batch) -> None:
    """With dropout; sums by atomic operations differ between two runs."""
    batches, found = [on_the_device(draw_batch(size_px=64, seed=n)) for n in range(10)], []
    for is_recorded in (False, True):
        step = make_step(lr=2.0**-9, adversarial={"lr": 2.0**-10}, ema=0.9, clip_norm=0.1, device="cuda")
        if is_recorded:
            step.recorded = RecordedUpdates(step, CudaGraphs(torch.device("cuda")))
        metrics = [step(batch) for batch in batches]
        found.append([float(each[name]) for each in metrics for name in ("loss", "adv/g_loss", "adv/d_loss")])
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-4)


def test_recorded_updates_do_not_synchronise_and_measure_gradients(make_step, draw_batch) -> None:
    step = recorded(make_step(adversarial={}, ema=0.9, clip_norm=1.0, device="cuda"))
    step.probe = GradientProbe(step.model, every=2, log_every=2, first=0)
    batch = on_the_device(draw_batch())
    for _ in range(5):  # the last one is measured
        step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [step(batch) for _ in range(20)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite() for metrics in found for value in metrics.values())
    assert {"gradients/total_norm" in metrics for metrics in found[::2]} == {True}


def test_a_recorded_update_draws_dropout_by_the_update(make_step, draw_batch) -> None:
    batch, losses = on_the_device(draw_batch(size_px=64)), []
    step = recorded(make_step(SegFormer("b0", 3, drop_path=0.3, dropout=0.3), lr=0.0, device="cuda"))
    for count in (0, 1, 2, 3, 4, 3, 4):  # the first ones are not recorded
        step.count = count
        losses.append(float(step(batch)["loss"]))
    assert losses[3] != losses[4]
    assert losses[5:] == losses[3:5]
