"""On a CUDA device: a hundred updates without synchronisation, and updates from CUDA graphs."""

import pytest
import torch

from engine.data.batches import Batch
from engine.training.distributed import Process, compiled
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
    batch = Batch(batch.images.cuda(), batch.labels.cuda(), batch.ids)
    for _ in range(3):  # the first updates may synchronise
        step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(100):
            metrics = step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite() for value in metrics.values())


def recorded(step):
    """The step with its model as `train.compile: max` compiles it."""
    step.forward = compiled(step.model, Process(0, 1, torch.device("cuda")), mode="max-autotune")
    return step


def test_updates_of_recorded_graphs_have_the_losses_of_eager_ones(make_step, draw_batch) -> None:
    batch, losses = draw_batch(size_px=64), []
    batch = Batch(batch.images.cuda(), batch.labels.cuda(), batch.ids)
    for change in (lambda step: step, recorded):
        torch.manual_seed(0)
        model = SegFormer("b0", 3, drop_path=0.0, dropout=0.0)
        step = change(make_step(model, ema=0.9, clip_norm=1.0, lr=1e-4, device="cuda"))
        losses.append([float(step(batch)["loss"]) for _ in range(10)])
    assert losses[0][-1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_recorded_graph_draws_dropout_by_the_update(make_step, draw_batch) -> None:
    batch, losses = draw_batch(size_px=64), []
    batch = Batch(batch.images.cuda(), batch.labels.cuda(), batch.ids)
    step = recorded(make_step(SegFormer("b0", 3, drop_path=0.3, dropout=0.3), lr=0.0, device="cuda"))
    for count in (0, 1, 2, 3, 4, 3, 4):  # the first ones are not recorded
        step.count = count
        losses.append(float(step(batch)["loss"]))
    assert losses[3] != losses[4]
    assert losses[5:] == losses[3:5]
