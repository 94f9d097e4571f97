"""One update of the model: `step(batch) -> metrics`.

Shapes: B samples, C classes, S the side of the crop.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from engine.data.batches import Batch
from engine.training.auxiliary import AuxiliaryBranch
from engine.training.distillation import Distillation
from engine.training.dropout import Places, draw_by_place, seed_update
from engine.training.optim import in_eval_mode
from engine.training.power_average import PowerAverage
from engine.training.probe import GradientProbe
from engine.training.sharding import gathered
from losses.mixed import WHOLE, MixedLoss
from losses.statistics import num_labelled

if TYPE_CHECKING:
    from engine.training.unlabelled import MeanTeacher

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
        """Leaves out an update with NaN or infinite gradients, and scales the loss for fp16."""
        kind = torch.amp.GradScaler if self.name == "fp16" else UnitScaler
        return kind(self.device_type)


class UnitScaler(torch.amp.GradScaler):
    """torch's scaler with a constant scale of 1, so that it only skips updates; it has no state.

    A fused optimiser (AdamW, Adam, SGD) skips on the device; others wait for the device.
    """

    def __init__(self, device_type: str):
        super().__init__(device_type, init_scale=1.0)

    def update(self, new_scale: float | Tensor | None = None) -> None:
        super().update(1.0)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """States of other versions hold a scale here."""


@dataclass(frozen=True)
class StepSettings:
    """Settings of an update.

    rank, world_size: of this process.
    accumulate: chunks of a batch that are run one after the other, to save memory; see
        `MixedLoss.parts_of`.
    clip_norm: of the gradient of all parameters together; None clips nothing.
    batch_norm: `train.batch_norm` of the recipe.
    """

    seed: int
    rank: int
    ignore_index: int
    precision: Precision
    world_size: int = 1
    accumulate: int = 1
    clip_norm: float | None = None
    batch_norm: str = "sync"


class SupervisedStep:
    """Forward, loss, backward, optimiser, moving average.

    An update with NaN or infinite values in its gradients is skipped on all processes: weights, moments and
    running statistics do not change, and only `count` rises. A loss that is not finite makes the gradients
    NaN, so that the exchange of gradients tells all processes.

    Args:
        model: the bare module, which is evaluated and saved if there is no moving average. Its frozen
            modules stay in eval mode: BatchNorm layers keep their running statistics, and dropout and
            stochastic depth are off.
        forward: the same module as it is trained: compiled, distributed.
        loss: `loss(logits, labels) -> {"loss": total, "loss_<term>": ...}`; its `step` is set to the update.
        optimizer: over the model's parameters, each group with its `initial_lr`.
        lr_factor: step -> share of the initial learning rate.
        settings: see StepSettings.
        ema: timm's moving average of the weights, or None.
        template: the model without values (`sharding.without_values`) if it is sharded, or None.
        auxiliary: a second head on a layer of the model, whose loss is added, or None.
        mean_teacher: for the unlabelled images of a batch, or None.
        distillation: the loss of a trained teacher, or None.
        averages: further averages of the weights, kept with the latest states and never evaluated.
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
        template: nn.Module | None = None,
        auxiliary: AuxiliaryBranch | None = None,
        mean_teacher: "MeanTeacher | None" = None,
        distillation: Distillation | None = None,
        averages: Sequence[PowerAverage] = (),
    ):
        self.model = model
        self.forward = forward
        self.loss = loss
        self.lr_factor = lr_factor
        self.settings = settings
        self.ema = ema
        self.averages = averages
        self.template = template
        self.auxiliary = auxiliary
        self.mean_teacher = mean_teacher
        self.distillation = distillation
        self.in_eval_mode = in_eval_mode(model, settings.batch_norm)
        self.places = Places(settings.rank, settings.world_size)
        draw_by_place(model, self.places)
        self.probe: GradientProbe | None = None  # set by the run where gradients are logged
        self.recorded: Callable[[Batch], Metrics] | None = None  # for train.compile: max; see recorded.py
        self.count = 0  # updates done
        self.auxiliary_loss: Tensor | None = None  # of a chunk; its gradient does not pass the logits
        self.all_labels: Tensor | None = None  # of a batch in chunks, (B, S, S), while they run
        self.lr_scale = 1.0  # factor on all learning rates; lower after the run went back
        self.evaluations: list[tuple[int, dict[str, float]]] = []  # updates done, and the metrics then
        self.modules: dict[str, nn.Module] = {"model": model} | ({"ema": ema.module} if ema else {})
        self.modules |= {f"ema_{one.width:g}": one.module for one in averages}
        trained = nn.ModuleList([model])
        if auxiliary:
            self.modules["auxiliary"] = auxiliary.head
            trained.append(auxiliary.head)
            draw_by_place(auxiliary.head, self.places)
        self.optimizers = {"optimizer": optimizer}
        self.scalers = {"optimizer": settings.precision.scaler()}  # one per optimiser
        self._statistics = [buffer for buffer in trained.buffers() if buffer.is_floating_point()]

    @property
    def is_sharded(self) -> bool:
        return self.template is not None

    def evaluated(self) -> nn.Module:
        """The module that is scored and kept; if it is sharded, all processes call this together."""
        return self._whole(self.ema.module if self.ema else self.model)

    def averaged(self) -> dict[float, dict[str, Tensor]]:
        """The tensors of the average of each width; if sharded, all processes call this together."""
        return {one.width: self._whole(one.module).state_dict() for one in self.averages}

    def _whole(self, module: nn.Module) -> nn.Module:
        return module if self.template is None else gathered(module, self.template)

    def __call__(self, batch: Batch) -> Metrics:
        """One update.

        Args:
            batch: images (B, 3, S, S) in 0..255, labels (B, S, S) or (B, C, S, S) int64.

        Returns:
            Detached scalars on the device: "loss", "loss_<term>", "acc_seg", those of a subclass and, if
            it is due, of the probe; "nan", whether the update was skipped because of NaN or infinite values,
            and not only because of the loss scale of fp16.
        """
        self.begin()
        metrics = self.recorded(batch) if self.recorded else self.update(batch)
        self.count += 1
        for average in (*([self.ema] if self.ema else []), *self.averages):
            average.update(self.model, step=self.count)
        return metrics

    def update(self, batch: Batch) -> Metrics:
        """The part of an update that runs on the device, after `begin` and without the averages."""
        return self.apply(*self.gradients(batch))

    def gradients(self, batch: Batch) -> tuple[Metrics, Tensor | None]:
        """Compute all gradients; returns the metrics so far, and the running statistics from before."""
        metrics: Metrics = {}
        statistics = _flat(self._statistics) if self._statistics else None
        if self.mean_teacher and batch.unlabelled:
            at_once = -(-len(batch.images) // self.settings.accumulate)
            metrics |= self.mean_teacher.backward(self, batch.unlabelled, at_once)
        for images, labels, context in self.chunks(batch):
            with context:
                for name, value in self.backward(images, labels).items():
                    metrics[name] = metrics.get(name, 0) + value / self.settings.accumulate
        return metrics, statistics

    def apply(self, metrics: Metrics, statistics: Tensor | None) -> Metrics:
        """Update the parameters by what `gradients` computed; returns all metrics."""
        for name in self.optimizers:
            metrics |= self._apply(name)
        skipped = metrics.pop("skipped") > 0
        if statistics is not None:
            _restore(self._statistics, statistics, skipped)
        return metrics | {"nan": skipped & self._is_broken(metrics["loss"])}

    def begin(self) -> None:
        """Set the modes, the weights of the loss and the learning rates for the next update."""
        self.model.train()
        if self.auxiliary:
            self.auxiliary.head.train()
        for module in self.in_eval_mode:
            module.eval()
        self.loss.step = self.count
        self._set_learning_rates()

    def constants(self) -> tuple[float, ...]:
        """What `gradients` takes from the schedule of the next update as numbers of the host."""
        return tuple(map(self.loss.weight, self.loss.weights))

    def backward(self, images: Tensor, labels: Tensor) -> Metrics:
        """Add the gradients of one chunk."""
        logits, terms = self.supervised(images, labels)
        self._backward(terms["loss"])
        return {name: value.detach() for name, value in terms.items()} | {
            "acc_seg": self._accuracy(logits, labels)
        }

    def learning_rates(self) -> dict[str, float]:
        """The learning rate of each parameter group of the model in the last update."""
        return {group["name"]: group["lr"] for group in self.optimizers["optimizer"].param_groups}

    def supervised(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Metrics]:
        """Logits (B, C, h, w), and the loss with its terms."""
        with self.settings.precision.autocast():
            logits = self.forward(images)  # (B, C, S/4, S/4)
        if self.is_sharded:  # so that a gradient at the logits does not start the backward pass of the shards
            logits = logits.view_as(logits)
        terms = self.loss(logits, labels)
        if self.distillation:
            valid = labels_at(logits, labels) != self.settings.ignore_index
            loss = self.part_weight(labels, logits) * self.distillation(images, logits, valid)
            terms |= {"loss": terms["loss"] + self.distillation.weight * loss, "loss_distill": loss.detach()}
        if self.auxiliary:
            with self.settings.precision.autocast():
                beside = self.auxiliary.logits()  # (B, C, h, w)
            loss = self.loss(beside, labels)["loss"]
            self.auxiliary_loss = self.auxiliary.weight * loss
            terms |= {"loss": terms["loss"] + self.auxiliary_loss, "loss_auxiliary": loss.detach()}
        return logits, terms

    def _backward(self, loss: Tensor, optimizer: str = "optimizer") -> None:
        self.auxiliary_loss = None  # it is part of this loss
        scaled = self.scaled(loss, optimizer)
        torch.autograd.backward(scaled, one_or_nan(scaled))

    def scaled(self, loss: Tensor, optimizer: str = "optimizer") -> Tensor:
        """The loss of a chunk, scaled for its backward pass."""
        return self.scalers[optimizer].scale(loss / self.settings.accumulate)

    def probe_of(self, optimizer: str) -> GradientProbe | None:
        """The probe, if it is due in this update of the model."""
        is_due = self.probe is not None and optimizer == "optimizer" and self.probe.is_due(self.count)
        return self.probe if is_due else None

    def _apply(self, name: str) -> Metrics:
        """The update by one optimiser. With the model's, "skipped" is above 0 if the update was skipped."""
        optimizer, scaler, probe = self.optimizers[name], self.scalers[name], self.probe_of(name)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if all(p.grad is None for p in parameters):
            # A discriminator before its start; the scaler would raise an error.
            return {"skipped": parameters[0].new_zeros(())} if name == "optimizer" else {}
        if probe or self.settings.clip_norm is not None:
            scaler.unscale_(optimizer)
        if probe:
            probe.before()
        if self.settings.clip_norm is not None:
            clip_grad_norm_(parameters, self.settings.clip_norm)
        scaler.step(optimizer)
        [skipped] = scaler._found_inf_per_device(optimizer).values()
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        found = probe.after() if probe else {}
        return found | ({"skipped": skipped} if name == "optimizer" else {})

    def _is_broken(self, loss: Tensor) -> Tensor:
        """Whether a skipped update had NaN or infinite values, and not only a too high loss scale of fp16.

        Such a scale falls until the gradients are finite; if it falls below 1, they never were.
        """
        if self.settings.precision.name != "fp16":
            return torch.ones_like(loss, dtype=torch.bool)
        scale = self.scalers["optimizer"].scale(torch.ones_like(loss))
        return ~loss.isfinite() | (scale < 1)

    def _set_learning_rates(self) -> None:
        for group in self.optimizers["optimizer"].param_groups:
            group["lr"] = group["initial_lr"] * self.lr_factor(self.count) * self.lr_scale

    def chunks(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, AbstractContextManager[object]]]:
        """The chunks of the batch; the loss of each is weighted by its labels.

        Processes exchange gradients with the last chunk only. Each chunk starts from the same random state,
        as its layers draw for the whole batch.
        """
        pieces, share, start = self.settings.accumulate, len(batch.images), 0
        of_labels = batch.labels.chunk(pieces)
        self.all_labels = batch.labels if pieces > 1 else None
        parts = self.loss.parts_of(of_labels) if pieces > 1 else [WHOLE]
        triples = zip(batch.images.chunk(pieces), of_labels, parts, strict=True)
        for number, (images, labels, self.loss.part) in enumerate(triples, start=1):
            seed_update(self.settings.seed, self.count)
            self.places.take(start, len(images), share, images.device)
            start += len(images)
            yield images, labels, self.unsynchronised() if number < pieces else nullcontext()
        self.loss.part, self.all_labels = WHOLE, None

    def unsynchronised(self) -> AbstractContextManager[object]:
        """A context for a forward and backward pass without an exchange of gradients between processes."""
        if isinstance(self.forward, DistributedDataParallel):
            return self.forward.no_sync()
        return nullcontext()

    def part_weight(
        self, labels: Tensor, logits: Tensor | None = None, per_image: bool = False
    ) -> Tensor | float:
        """The weight of a mean over the labelled pixels, or images, of this chunk; 1 on average.

        With it, the mean over the chunks is the mean over the whole batch, on all processes.

        Args:
            labels: (b, H, W) of the chunk.
            logits: if given, labels are counted at the resolution of these, as by `labels_at`.
        """
        if self.all_labels is None:
            return 1.0
        void = self.settings.ignore_index
        both = (ids if logits is None else labels_at(logits, ids) for ids in (labels, self.all_labels))
        counts = torch.stack([num_labelled(ids, void, per_image) for ids in both]).double()
        part, whole = self.loss.sum_over_processes(counts).unbind()
        return (self.settings.accumulate * part / whole.clamp(min=1)).float()

    def _accuracy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Percentage of labelled pixels that are predicted correctly, at the resolution of the logits.

        With data.labels: multi, the percentage over the labelled pixels of all masks, at a threshold of 0.5.
        """
        seen = labels_at(logits, labels)
        valid = seen != self.settings.ignore_index
        logits = logits.detach()
        right = ((logits.argmax(dim=1) if seen.dim() == 3 else logits > 0) == seen) & valid
        return self.part_weight(labels, logits) * 100 * right.sum() / valid.sum().clamp(min=1)


def labels_at(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels (B, S, S) at the centres of the cells of the logits (B, C, h, w): (B, h, w); or with C masks."""
    rows, columns = (
        torch.arange(n, device=labels.device) * size // n + size // (2 * n)
        for n, size in zip(logits.shape[-2:], labels.shape[-2:], strict=True)
    )
    return labels[..., rows[:, None], columns]


def one_or_nan(loss: Tensor) -> Tensor:
    """The gradient of a loss with respect to itself; NaN where the loss is not finite."""
    return 1 + 0 * loss.detach()


def _flat(tensors: list[Tensor]) -> Tensor:
    """A copy of their values, (n,)."""
    return torch.cat([tensor.flatten() for tensor in tensors])


@torch.no_grad()
def _restore(tensors: list[Tensor], before: Tensor, condition: Tensor) -> None:
    """Give tensors the values that `_flat` copied, if the condition, a scalar on the device, is true."""
    kept = torch.where(condition, before, _flat(tensors))
    parts = torch.split(kept, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(old) for part, old in zip(parts, tensors, strict=True)])
