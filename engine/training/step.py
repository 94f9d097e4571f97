"""One update of the model: `step(batch) -> metrics`.

Shapes: B samples, C classes, S the side of the crop.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from engine.data.batches import Batch
from engine.training.optim import frozen_modules
from engine.training.probe import GradientProbe
from losses.mixed import MixedLoss

Metrics = dict[str, Tensor]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """`name` is fp32, bf16 or fp16."""

    name: str
    device_type: str

    @classmethod
    def choose(cls, wish: str, device: torch.device) -> "Precision":
        """`auto` is bf16 on a GPU that supports it, fp16 on an older one, and fp32 on the CPU."""
        if wish == "auto" and device.type == "cuda":
            wish = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        elif wish == "auto":
            wish = "fp32"
        return cls(wish, device.type)

    def autocast(self) -> AbstractContextManager[object]:
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device_type, DTYPES[self.name])

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss for fp16 only."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")

    def skipping_scaler(self) -> torch.amp.GradScaler:
        """One that skips an update with NaN or infinite gradients at any precision.

        With a fused optimiser, torch's scaler does so without waiting for the device. Without fp16 its scale
        starts at 1 and only halves, which changes no bit of a gradient.
        """
        if self.name == "fp16":
            return self.scaler()
        return torch.amp.GradScaler(self.device_type, init_scale=1.0, growth_interval=1 << 30)


@dataclass(frozen=True)
class StepSettings:
    """Settings of an update.

    accumulate: chunks of a batch that are run one after the other, to save memory; loss statistics are per
        chunk.
    clip_norm: of the gradient of all parameters together; None clips nothing.
    """

    seed: int
    rank: int
    ignore_index: int
    precision: Precision
    accumulate: int = 1
    clip_norm: float | None = None


class SupervisedStep:
    """Forward, loss, backward, optimiser, moving average.

    Args:
        model: the bare module; it is what is evaluated and saved where there is no moving average. Its frozen
            modules stay in eval mode: BatchNorm layers keep their running statistics, and dropout and
            stochastic depth are off.
        forward: the same module as it is trained: compiled, distributed.
        loss: `loss(logits, labels) -> {"loss": total, "loss_<term>": ...}`; its `step` is set to the update.
        optimizer: over the model's parameters, each group with its `initial_lr`.
        lr_factor: step -> share of the initial learning rate.
        settings: see StepSettings.
        ema: timm's moving average of the weights, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: nn.Module,
        loss: MixedLoss,
        optimizer: torch.optim.Optimizer,
        lr_factor: Callable[[int], float],
        settings: StepSettings,
        ema: ModelEmaV3 | None = None,
    ):
        self.model = model
        self.forward = forward
        self.loss = loss
        self.lr_factor = lr_factor
        self.settings = settings
        self.ema = ema
        self.frozen_modules = frozen_modules(model)
        self.probe: GradientProbe | None = None  # set by the run where gradients are logged
        self.count = 0  # updates done
        self.modules: dict[str, nn.Module] = {"model": model} | ({"ema": ema.module} if ema else {})
        self.optimizers = {"optimizer": optimizer}
        self.scalers = {"optimizer": settings.precision.scaler()}  # one per optimiser

    @property
    def evaluated(self) -> nn.Module:
        """The module that is scored and saved."""
        return self.ema.module if self.ema else self.model

    def __call__(self, batch: Batch) -> Metrics:
        """One update.

        Args:
            batch: images (B, 3, S, S) in 0..255, labels (B, S, S) int64.

        Returns:
            Detached scalars on the device: "loss", "loss_<term>", "acc_seg", what a subclass adds and, on the
            updates that it is due, what the probe measured.
        """
        torch.manual_seed(_update_seed(self.settings.seed, self.count, self.settings.rank))
        self.model.train()
        for module in self.frozen_modules:
            module.eval()
        self.loss.step = self.count
        self._set_learning_rates()
        metrics: Metrics = {}
        for images, labels, context in self._chunks(batch):
            with context:
                for name, value in self.backward(images, labels).items():
                    metrics[name] = metrics.get(name, 0) + value / self.settings.accumulate
        for name, optimizer in self.optimizers.items():
            metrics |= self._apply(optimizer, self.scalers[name], self._probe_of(name))
        self.count += 1
        if self.ema:
            self.ema.update(self.model, step=self.count)
        return metrics

    def backward(self, images: Tensor, labels: Tensor) -> Metrics:
        """Add the gradients of one chunk."""
        logits, terms = self._supervised(images, labels)
        self._backward(terms["loss"])
        return {name: value.detach() for name, value in terms.items()} | {
            "acc_seg": self._accuracy(logits, labels)
        }

    def learning_rates(self) -> dict[str, float]:
        """Of each parameter group of the model, as the last update used them."""
        return {group["name"]: group["lr"] for group in self.optimizers["optimizer"].param_groups}

    def _supervised(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Metrics]:
        with self.settings.precision.autocast():
            logits = self.forward(images)  # (B, C, S/4, S/4)
        return logits, self.loss(logits, labels)

    def _backward(self, loss: Tensor, optimizer: str = "optimizer") -> None:
        torch.autograd.backward(self.scalers[optimizer].scale(loss / self.settings.accumulate))

    def _probe_of(self, optimizer: str) -> GradientProbe | None:
        """The probe, if it is due at this update of the model."""
        is_due = self.probe is not None and optimizer == "optimizer" and self.probe.is_due(self.count)
        return self.probe if is_due else None

    def _apply(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, probe: GradientProbe | None
    ) -> Metrics:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if all(p.grad is None for p in parameters):
            return {}  # a discriminator before its start; the loss scaler would raise an error
        if probe or self.settings.clip_norm is not None:
            scaler.unscale_(optimizer)
        if probe:
            probe.before()
        if self.settings.clip_norm is not None:
            clip_grad_norm_(parameters, self.settings.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return probe.after() if probe else {}

    def _set_learning_rates(self) -> None:
        for group in self.optimizers["optimizer"].param_groups:
            group["lr"] = group["initial_lr"] * self.lr_factor(self.count)

    def _chunks(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, AbstractContextManager[object]]]:
        """Pieces of the batch; between processes, gradients are exchanged with the last one only."""
        pieces = self.settings.accumulate
        pairs = zip(batch.images.chunk(pieces), batch.labels.chunk(pieces), strict=True)
        for number, (images, labels) in enumerate(pairs, start=1):
            if number < pieces and isinstance(self.forward, DistributedDataParallel):
                yield images, labels, self.forward.no_sync()
            else:
                yield images, labels, nullcontext()

    def _accuracy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Percentage of labelled pixels that are predicted correctly, at the resolution of the logits."""
        seen = labels_at(logits, labels)
        valid = seen != self.settings.ignore_index
        right = (logits.detach().argmax(dim=1) == seen) & valid
        return 100 * right.sum() / valid.sum().clamp(min=1)


def labels_at(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, h, w) labels in the middle of each cell of the logits (B, C, h, w), from (B, S, S)."""
    rows, columns = (
        torch.arange(n, device=labels.device) * size // n + size // (2 * n)
        for n, size in zip(logits.shape[-2:], labels.shape[-2:], strict=True)
    )
    return labels[:, rows[:, None], columns]


def _update_seed(seed: int, count: int, rank: int) -> int:
    """Dropout and stochastic depth depend on (seed, update, process) alone: a resumed run draws the same."""
    return hash((seed, count, rank)) & 0x7FFF_FFFF_FFFF_FFFF
