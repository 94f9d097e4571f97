"""A small model, drawn batches, and steps around them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from engine.data.batches import Batch
from engine.run_folder import RunFolder
from engine.training.adversarial import AdversarialSettings, AdversarialStep, Watchdog
from engine.training.auxiliary import AuxiliaryBranch
from engine.training.optim import build_optimizer, freeze
from engine.training.options import Optimizer
from engine.training.power_average import PowerAverage
from engine.training.step import Precision, StepSettings, SupervisedStep
from losses import build_loss
from models.discriminator import PatchDiscriminator

NUM_CLASSES = 3
VOID = 255


class Toy(nn.Module):
    """Encoder, norm, dropout, classifier; logits at a quarter of the resolution."""

    def __init__(self, num_classes: int = NUM_CLASSES, seed: int = 0, dropout: float = 0.3):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.encoder(image.to(self.head.weight.dtype) / 255)
        return self.head(self.dropout(self.norm(x).relu()))


def _draw_batch(num_samples: int = 4, size_px: int = 32, seed: int = 0) -> Batch:
    """Two boxes per image, whose colour is their class and whose border is void, on dark noise."""
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    images = torch.randint(0, 60, (num_samples, 3, size_px, size_px), generator=generator).float()
    labels = torch.zeros(num_samples, size_px, size_px, dtype=torch.int64)
    for image, label in zip(images, labels, strict=True):
        for class_id in (1, 2):
            height, width = number(size_px // 4, size_px // 3), number(size_px // 4, size_px // 3)
            top, left = number(0, size_px - height), number(0, size_px - width)
            label[top : top + height, left : left + width] = VOID
            label[top + 1 : top + height - 1, left + 1 : left + width - 1] = class_id
            image[class_id, top : top + height, left : left + width] += 150
    return Batch(images, labels, [str(i) for i in range(num_samples)])


def _make_step(
    model: nn.Module | None = None,
    losses: tuple[str, ...] = ("cross_entropy", "dice"),
    lr: float = 1e-3,
    lr_factor: Callable[[int], float] = lambda step: 1.0,
    ema: float | None = None,
    precision: str = "fp32",
    adversarial: dict | None = None,
    num_classes: int = NUM_CLASSES,
    seed: int = 0,
    rank: int = 0,
    device: str = "cpu",
    optimizer: dict | None = None,
    frozen: str | list[str] | None = None,
    auxiliary: AuxiliaryBranch | None = None,
    widths: tuple[float, ...] = (),
    **settings,
) -> SupervisedStep:
    model = (model or Toy()).to(device)
    freeze(model, frozen)
    parts = {
        "model": model,
        "forward": model,
        "loss": build_loss([{"name": name} for name in losses], num_classes, VOID).to(device),
        "optimizer": build_optimizer(
            model,
            Optimizer.model_construct(lr=lr, weight_decay=0.01, head_lr_mult=1.0, **(optimizer or {})),
            auxiliary.head if auxiliary else None,
        ),
        "auxiliary": auxiliary,
        "lr_factor": lr_factor,
        "settings": StepSettings(seed, rank, VOID, Precision(precision, device), **settings),
        "ema": ModelEmaV3(model, decay=ema, use_warmup=True) if ema else None,
        "averages": [PowerAverage(model, width, foreach=True) for width in widths],
    }
    return (
        SupervisedStep(**parts)
        if adversarial is None
        else AdversarialStep(**parts, adversarial=_make_adversarial(num_classes, device, **adversarial))
    )


def _make_adversarial(
    num_classes: int,
    device: str,
    objective: str = "hinge",
    weight: float = 0.1,
    start: int = 0,
    ramp: int = 0,
    lr: float = 1e-3,
    watchdog: bool = True,
    at_logits: bool = False,
    layers: int = 3,
) -> AdversarialSettings:
    torch.manual_seed(99)
    discriminator = PatchDiscriminator(num_classes, channels=4, layers=layers).to(device)
    return AdversarialSettings(
        discriminator=discriminator,
        forward=discriminator,
        optimizer=torch.optim.Adam(discriminator.parameters(), lr, fused=True),
        watchdog=Watchdog(watchdog).to(device),
        objective=objective,
        weight=weight,
        start=start,
        ramp=ramp,
        batch_sum=lambda statistic: statistic,
        at_logits=at_logits,
    )


@pytest.fixture
def toy() -> type[Toy]:
    return Toy


@pytest.fixture
def draw_batch() -> Callable[..., Batch]:
    return _draw_batch


@pytest.fixture
def make_step() -> Callable[..., SupervisedStep]:
    """`make_step(adversarial={"start": 5}, ema=0.9, accumulate=2)`: other settings have defaults."""
    return _make_step


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "demo")
    run.create()
    return run
