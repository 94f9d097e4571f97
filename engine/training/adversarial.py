"""Adversarial refinement: an update that also trains the model against a PatchGAN discriminator.

The discriminator D sees (image, class probabilities) and classifies them as predicted or made from labels;
the model is rewarded for probabilities that D takes for labels (Luc et al. 2016, arXiv 1611.08408; Hung et
al. 2018, arXiv 1802.07934; patches as in pix2pix, arXiv 1611.07004). Void pixels are hidden from D in both.
Before `start` the update is only supervised.

The gradients of both losses are computed at the logits, so their norms are known before the model's backward
pass, which runs once, on their sum. A NaN from the discriminator never reaches the model.

Shapes: B samples, C classes, S the side of the crop, or of the logits where the discriminator works there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from engine.training.schedule import ramp_up
from engine.training.step import Metrics, SupervisedStep, labels_at, one_or_nan
from losses.adversarial import (
    OBJECTIVES,
    discriminator_accuracy,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    smoothed_labels,
)

LABEL_SHARE = 0.9  # least probability of the label's class on the real side, as in arXiv 1611.08408
BAND = (0.55, 0.90)  # smoothed share of patches that D classifies correctly; 0.5 is guessing
MEMORY = 0.95  # of that smoothing: the weight of the previous value
PATIENCE_STEPS = 100
FACTORS = (1 / 8, 4.0)  # bounds of the factor on the recipe's weight


class Watchdog(nn.Module):
    """Adapts the adversarial weight to how well the discriminator does.

    The model learns little from a discriminator that is nearly always right, and nothing from one that
    guesses. After `PATIENCE_STEPS` updates in a row outside BAND the weight is halved (D too good) or
    doubled (D guesses), within FACTORS; then the count starts again. All of this runs on the device, without
    synchronisation.

    Buffers, which a checkpoint saves:
        accuracy: smoothed share of patches that D classifies correctly.
        outside: updates in a row above the band, or below it as a negative number.
        factor: of the adversarial weight.

    Args:
        active: whether `factor` may change; accuracy is measured either way.
    """

    accuracy: Tensor
    outside: Tensor
    factor: Tensor

    def __init__(self, active: bool = True):
        super().__init__()
        self.active = active
        self.register_buffer("accuracy", torch.tensor(sum(BAND) / 2))
        self.register_buffer("outside", torch.tensor(0))
        self.register_buffer("factor", torch.tensor(1.0))

    @torch.no_grad()
    def observe(self, accuracy: Tensor) -> None:
        """Add the accuracy of one update, a scalar in 0..1 that is the same on every process.

        NaN, for an update that was skipped, does not change the smoothed accuracy.
        """
        accuracy = torch.where(accuracy.isfinite(), accuracy, self.accuracy)
        self.accuracy.lerp_(accuracy, 1 - MEMORY)
        wins, guesses = self.accuracy > BAND[1], self.accuracy < BAND[0]
        longer = torch.where(wins, self.outside.clamp(min=0) + 1, self.outside.clamp(max=0) - 1)
        self.outside.copy_(torch.where(wins | guesses, longer, 0))
        if self.active:
            moved = torch.where(wins, self.factor / 2, self.factor * 2).clamp(*FACTORS)
            is_long = self.outside.abs() >= PATIENCE_STEPS
            self.factor.copy_(torch.where(is_long, moved, self.factor))
            self.outside.masked_fill_(is_long, 0)


@dataclass(frozen=True)
class AdversarialSettings:
    """The discriminator and how the model is trained against it; `start` and `ramp` in steps.

    discriminator: the bare module, frozen while the model learns from it.
    at_logits: it sees images, labels and probabilities at the resolution of the logits, not of the crop.
    forward: the same module for its own training (distributed).
    optimizer: of the discriminator; fused, so that an update with NaN in its gradients is skipped on the
        device.
    """

    discriminator: nn.Module
    forward: nn.Module
    optimizer: torch.optim.Optimizer
    watchdog: Watchdog
    objective: str
    weight: float
    start: int
    ramp: int
    batch_sum: Callable[[Tensor], Tensor]
    at_logits: bool = False

    @torch.no_grad()
    def realness(self, images: Tensor, probabilities: Tensor, inside: Tensor) -> Tensor:
        """(B, h, w): the probability with which a discriminator with `bce` takes predictions for labels.

        Args:
            images: (B, n, S, S); inside: (B, S, S) bool.
            probabilities: (B, C, h, w), at the resolution of the logits.
        """
        size, valid = probabilities.shape[-2:], inside
        if self.at_logits:
            images, valid = _resized(images, probabilities), labels_at(probabilities, inside)
        else:
            probabilities = F.interpolate(probabilities, images.shape[-2:], mode="bilinear")
        scores, _ = self.discriminator(images, probabilities, valid[:, None])  # (B, 1, cells)
        return F.interpolate(scores.float().sigmoid(), size, mode="bilinear")[:, 0]

    def weight_at(self, step: int) -> float:
        """Rises linearly from 0 at `start` to the full weight `ramp` steps later."""
        return self.weight * ramp_up(step, self.start, self.ramp)


class AdversarialStep(SupervisedStep):
    """A SupervisedStep that adds the generator's loss, then trains the discriminator on the same batch."""

    def __init__(self, *args: Any, adversarial: AdversarialSettings, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.adversarial = adversarial
        self.modules |= {"discriminator": adversarial.discriminator, "watchdog": adversarial.watchdog}
        self.optimizers["discriminator"] = adversarial.optimizer
        self.scalers["discriminator"] = self.settings.precision.scaler()

    def apply(self, metrics: Metrics, statistics: Tensor | None) -> Metrics:
        metrics = super().apply(metrics, statistics)
        if "adv/d_loss" in metrics:
            watchdog, skipped = self.adversarial.watchdog, metrics["adv/d_skipped"] > 0
            accuracy = (metrics["adv/d_acc_real"] + metrics["adv/d_acc_fake"]) / 2
            watchdog.observe(torch.where(skipped, torch.nan, accuracy))
            metrics |= {"adv/d_accuracy": watchdog.accuracy.clone()}
            metrics |= {"adv/weight_factor": watchdog.factor.clone()}
        return metrics

    def constants(self) -> tuple[float, ...]:
        return (*super().constants(), self.adversarial.weight_at(self.count))

    def backward(self, images: Tensor, labels: Tensor) -> Metrics:
        scheduled = self.adversarial.weight_at(self.count)
        if scheduled == 0:
            return super().backward(images, labels)
        logits, terms = self.supervised(images, labels)
        accuracy = self._accuracy(logits, labels)
        sees = logits if self.adversarial.at_logits else None
        of_pixels, of_images = (self.part_weight(labels, sees, per_image) for per_image in (False, True))
        if self.adversarial.at_logits:
            images, labels = _resized(images, logits), labels_at(logits, labels)
        probabilities = self.loss.upsampled(logits.float(), labels).softmax(dim=1)  # (B, C, S, S)
        valid = (labels != self.settings.ignore_index)[:, None]  # (B, 1, S, S)
        adversarial_loss = of_pixels * self._generator_loss(images, probabilities, valid)

        weight = scheduled * self.adversarial.watchdog.factor
        supervised_grad = self._gradient(terms["loss"], logits)  # (B, C, h, w), as the next
        adversarial_grad = weight * self._gradient(adversarial_loss, logits)
        norm = adversarial_grad.float().norm()
        sum_grad = supervised_grad + torch.where(norm.isfinite(), adversarial_grad, 0.0)
        roots, gradients = [logits], [sum_grad]
        if self.auxiliary_loss is not None:
            scaled = self.scaled(self.auxiliary_loss)
            roots, gradients = [logits, scaled], [sum_grad, one_or_nan(scaled)]
            self.auxiliary_loss = None
        torch.autograd.backward(roots, gradients)

        metrics = {name: value.detach() for name, value in terms.items()}
        metrics |= {"acc_seg": accuracy, "adv/g_loss": adversarial_loss.detach()}
        ratio = norm / supervised_grad.float().norm().clamp(min=1e-12)
        metrics |= {"adv/weight": weight, "adv/grad_ratio": ratio}
        weights = of_pixels, of_images
        return metrics | self._discriminator_backward(images, probabilities.detach(), labels, valid, weights)

    def _gradient(self, loss: Tensor, logits: Tensor) -> Tensor:
        """The gradient of a scaled loss with respect to the logits."""
        scaled = self.scaled(loss)
        return torch.autograd.grad(scaled, logits, one_or_nan(scaled))[0]

    def _generator_loss(self, images: Tensor, probabilities: Tensor, valid: Tensor) -> Tensor:
        """Computed with D frozen, so that the gradient reaches the probabilities, but not D."""
        self.adversarial.discriminator.requires_grad_(False)
        with self.settings.precision.autocast():
            scores, patch_weight = self.adversarial.discriminator(images, probabilities, valid)
        self.adversarial.discriminator.requires_grad_(True)
        return generator_loss(self.adversarial.objective, scores, patch_weight, self.adversarial.batch_sum)

    def _discriminator_backward(
        self,
        images: Tensor,
        fake: Tensor,
        labels: Tensor,
        valid: Tensor,
        weights: tuple[Tensor | float, Tensor | float] = (1.0, 1.0),
    ) -> Metrics:
        """`weights`: of the means over the patches and images of this chunk; a patch counts by its pixels."""
        settings, (of_pixels, of_images) = self.adversarial, weights
        real = smoothed_labels(fake, labels.masked_fill(~valid[:, 0], 0), LABEL_SHARE)  # (B, C, S, S)
        with self.settings.precision.autocast():
            scores, patch_weight = settings.forward(
                torch.cat([images, images]), torch.cat([fake, real]), torch.cat([valid, valid])
            )  # (2B, 1, h, w): one pass, since InstanceNorm does not mix samples
        (fake_scores, real_scores), (fake_weight, real_weight) = scores.chunk(2), patch_weight.chunk(2)
        sides = real_scores, fake_scores, real_weight, fake_weight
        loss = of_pixels * discriminator_loss(settings.objective, *sides, settings.batch_sum)
        if penalty := OBJECTIVES[settings.objective].penalty:
            loss = loss + of_images * penalty * self._penalty(images, real, fake, valid)
        self._backward(loss, "discriminator")
        norm = get_total_norm([p.grad for p in settings.discriminator.parameters() if p.grad is not None])

        real_scores, fake_scores, real_weight, fake_weight = (side.detach().float() for side in sides)
        on_real, on_fake = discriminator_accuracy(
            settings.objective, real_scores, fake_scores, real_weight, fake_weight, settings.batch_sum
        )
        return {
            "adv/d_loss": loss.detach(),
            "adv/d_acc_real": of_pixels * on_real,
            "adv/d_acc_fake": of_pixels * on_fake,
            "adv/d_skipped": 1 - norm.isfinite().float(),
        }

    def _penalty(self, images: Tensor, real: Tensor, fake: Tensor, valid: Tensor) -> Tensor:
        """In float32, as it is differentiated twice; with the bare module, since DDP waits for gradients."""
        share = self.places.mine(torch.rand(self.places.num_samples, 1, 1, 1, device=images.device))
        with torch.autocast(images.device.type, enabled=False):
            return gradient_penalty(
                lambda between: self.adversarial.discriminator(images, between, valid),
                real, fake, share, self.adversarial.batch_sum,
            )  # fmt: skip


def _resized(images: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    return F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
