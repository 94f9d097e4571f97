"""Adversarial refinement: a step that also plays against a PatchGAN discriminator.

The discriminator D sees (image, class probabilities) and tells the model's from the label's; the model is
paid for probabilities that D takes for labels (Luc et al. 2016, arXiv 1611.08408; Hung et al. 2018, arXiv
1802.07934; patches as in pix2pix, arXiv 1611.07004). Void pixels are hidden from D on both sides. Until
`start` the update is the supervised one.

Both losses meet at the logits: each gives its gradient there, so their norms are known before the model's
backward pass, which runs once, on the sum. Numbers of D that are none (NaN) never reach the model.

Shapes: B samples, C classes, S the side of the crop.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from engine.data.batches import Batch
from engine.training.step import Metrics, SupervisedStep
from engine.training.watchdog import Watchdog
from losses.adversarial import (
    OBJECTIVES,
    discriminator_accuracy,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    smoothed_labels,
)

LABEL_SHARE = 0.9  # what a label's class has at least on the real side, as in arXiv 1611.08408


@dataclass(frozen=True)
class Game:
    """The discriminator and the rules; `start` and `ramp` in steps.

    discriminator: the bare module, frozen while the model learns from it.
    forward: the same module as it is trained (distributed).
    optimizer: of a fused kind, which leaves out an update whose gradients are no numbers.
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

    def weight_at(self, step: int) -> float:
        """Rises linearly from 0 at `start` to the full weight `ramp` steps later."""
        if step < self.start:
            return 0.0
        return self.weight * min(1.0, (step - self.start + 1) / max(1, self.ramp))


class AdversarialStep(SupervisedStep):
    """A SupervisedStep that adds the generator's term, then trains the discriminator on the same batch."""

    def __init__(self, *args, game: Game, **kwargs):
        super().__init__(*args, **kwargs)
        self.game = game
        self.modules |= {"discriminator": game.discriminator, "watchdog": game.watchdog}
        self.optimizers["discriminator"] = game.optimizer
        self.scalers["discriminator"] = self.settings.precision.skipping_scaler()

    def __call__(self, batch: Batch) -> Metrics:
        metrics = super().__call__(batch)
        if "adv/d_loss" in metrics:
            watchdog, skipped = self.game.watchdog, metrics["adv/d_skipped"] > 0
            accuracy = (metrics["adv/d_acc_real"] + metrics["adv/d_acc_fake"]) / 2
            watchdog.observe(torch.where(skipped, torch.nan, accuracy))
            metrics |= {"adv/d_accuracy": watchdog.accuracy.clone()}
            metrics |= {"adv/weight_factor": watchdog.factor.clone()}
        return metrics

    def backward(self, images: Tensor, labels: Tensor) -> Metrics:
        scheduled = self.game.weight_at(self.count)
        if scheduled == 0:
            return super().backward(images, labels)
        logits, terms = self._supervised(images, labels)
        full_size = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear", align_corners=False)
        probabilities = full_size.softmax(dim=1)  # (B, C, S, S)
        valid = (labels != self.settings.ignore_index)[:, None]  # (B, 1, S, S)
        adversarial = self._generator_loss(images, probabilities, valid)

        weight = scheduled * self.game.watchdog.factor
        wanted = self._gradient(terms["loss"], logits)  # (B, C, S/4, S/4), as the next
        pushed = weight * self._gradient(adversarial, logits)
        norm = pushed.float().norm()
        logits.backward(wanted + torch.where(norm.isfinite(), pushed, 0.0))

        metrics = {name: value.detach() for name, value in terms.items()}
        metrics |= {"acc_seg": self._accuracy(logits, labels), "adv/g_loss": adversarial.detach()}
        metrics |= {"adv/weight": weight, "adv/grad_ratio": norm / wanted.float().norm().clamp(min=1e-12)}
        return metrics | self._discriminator_backward(images, probabilities.detach(), labels, valid)

    def _gradient(self, loss: Tensor, logits: Tensor) -> Tensor:
        """Of a loss with respect to the logits, scaled as `_backward` scales."""
        scaled = self.scalers["optimizer"].scale(loss / self.settings.accumulate)
        return torch.autograd.grad(scaled, logits)[0]

    def _generator_loss(self, images: Tensor, probabilities: Tensor, valid: Tensor) -> Tensor:
        """D is frozen: the gradient passes through it to the probabilities and leaves none in it."""
        self.game.discriminator.requires_grad_(False)
        with self.settings.precision.autocast():
            scores, patch_weight = self.game.discriminator(images, probabilities, valid)
        self.game.discriminator.requires_grad_(True)
        return generator_loss(self.game.objective, scores, patch_weight, self.game.batch_sum)

    def _discriminator_backward(self, images: Tensor, fake: Tensor, labels: Tensor, valid: Tensor) -> Metrics:
        game = self.game
        real = smoothed_labels(fake, labels.masked_fill(~valid[:, 0], 0), LABEL_SHARE)  # (B, C, S, S)
        with self.settings.precision.autocast():
            scores, patch_weight = game.forward(
                torch.cat([images, images]), torch.cat([fake, real]), torch.cat([valid, valid])
            )  # (2B, 1, h, w): one pass, since InstanceNorm does not mix samples
        (fake_scores, real_scores), (fake_weight, real_weight) = scores.chunk(2), patch_weight.chunk(2)
        sides = real_scores, fake_scores, real_weight, fake_weight
        loss = discriminator_loss(game.objective, *sides, game.batch_sum)
        if penalty := OBJECTIVES[game.objective].penalty:
            loss = loss + penalty * self._penalty(images, real, fake, valid)
        self._backward(loss, "discriminator")
        norm = get_total_norm([p.grad for p in game.discriminator.parameters() if p.grad is not None])

        detached = (side.detach().float() for side in sides)
        on_real, on_fake = discriminator_accuracy(game.objective, *detached, game.batch_sum)
        return {
            "adv/d_loss": loss.detach(),
            "adv/d_acc_real": on_real,
            "adv/d_acc_fake": on_fake,
            "adv/d_skipped": 1 - norm.isfinite().float(),
        }

    def _penalty(self, images: Tensor, real: Tensor, fake: Tensor, valid: Tensor) -> Tensor:
        """In float32, as it is differentiated twice; through the bare module, since DDP would wait for it."""
        share = torch.rand(len(images), 1, 1, 1, device=images.device)
        with torch.autocast(images.device.type, enabled=False):
            return gradient_penalty(
                lambda between: self.game.discriminator(images, between, valid),
                real, fake, share, self.game.batch_sum,
            )  # fmt: skip
