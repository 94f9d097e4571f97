"""A training step of architectures of segmentation_models_pytorch (SMP): as Trident and as a script runs it.

Both have the same weights, cross-entropy + Dice at the size of the labels, backward pass and AdamW.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.benchmarks.measuring import ratio
from engine.scoring.timing import interleaved
from losses import build_loss
from models import build_model

NUM_CLASSES, VOID = 21, 255
PAIRS = (("segformer", "tu-tf_efficientnet_lite0"), ("unet", "resnet34"))
Loss = Callable[[Tensor, Tensor], Tensor]


def measure(
    batch: int, size_px: int, rounds: int, show: Callable[[str], Callable[[int, int], None]]
) -> list[dict[str, object]]:
    """Rows of {arch, encoder, batch, size_px, contender, seconds, images_per_s, times_faster}."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, object]] = []
    for arch, encoder in PAIRS:
        images = torch.rand(batch, 3, size_px, size_px, device=device) * 255
        labels = torch.randint(0, NUM_CLASSES, (batch, size_px, size_px), device=device)
        contenders = {name: build(arch, encoder, device) for name, build in BUILDERS.items()}
        steps = {name: partial(step, images, labels) for name, step in contenders.items()}
        seconds = interleaved(steps, rounds, show(f"{arch} on {encoder}, {batch} x {size_px} px"))
        for name, times in seconds.items():
            rows.append(
                {"arch": arch, "encoder": encoder, "batch": batch, "size_px": size_px, "contender": name}
                | {"seconds": times, "images_per_s": batch / sorted(times)[len(times) // 2]}
                | {"times_faster": ratio(times, seconds["trident"])}
            )
    return rows


def ours(arch: str, encoder: str, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    """A step as `trident run` makes it."""
    torch.manual_seed(0)
    without: dict[str, Any] = {"dropout": 0.0} if arch == "segformer" else {}  # SMP's decoder has none
    model = build_model(arch, num_classes=NUM_CLASSES, encoder=encoder, **without).to(device).train()
    align_corners = bool(model.align_corners)
    loss = build_loss([{"name": "cross_entropy"}, {"name": "dice"}], NUM_CLASSES, VOID, align_corners)
    return partial(_step, model, lambda logits, labels: loss(logits, labels)["loss"], _fused(model))


def of_a_script(arch: str, encoder: str, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    """A step as it is written with SMP alone, on the same pixels."""
    torch.manual_seed(0)
    model = smp.create_model(arch, encoder, encoder_weights=None, classes=NUM_CLASSES).to(device).train()
    dice = smp.losses.DiceLoss("multiclass", ignore_index=VOID)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        overlap: Tensor = dice(logits, labels)
        return F.cross_entropy(logits, labels, ignore_index=VOID) + overlap

    return partial(_step, nn.Sequential(_Normalise(), model), loss, torch.optim.AdamW(model.parameters()))


class _Normalise(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images / 127.5 - 1


def _fused(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), fused=True)


def _step(
    model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    torch.autograd.backward(loss(model(images), labels))
    optimizer.step()
    optimizer.zero_grad()


BUILDERS = {"trident": ours, "smp": of_a_script}
