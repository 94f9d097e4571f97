"""On a CUDA device: a hundred updates without synchronisation."""

import pytest
import torch

from engine.data.batches import Batch

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
