"""Adversarial refinement: a step that also plays against a PatchGAN discriminator.

The discriminator D sees (image, class probabilities) and tells the model's from the label's; the model is
paid for probabilities that D takes for labels (Luc et al. 2016, arXiv 1611.08408; patches as in pix2pix,
arXiv 1611.07004). Void pixels are hidden from D on both sides. Until `start` the update is the supervised
one.

Shapes: B samples, C classes, S the side of the crop.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.training.step import Metrics, SupervisedStep
from losses.adversarial import discriminator_accuracy, discriminator_loss, generator_loss

LABEL_SMOOTHING = 0.1  # so that D cannot tell labels by being exactly one-hot


@dataclass(frozen=True)
class Game:
    """The discriminator and the rules; `start` and `ramp` in steps.

    discriminator: the bare module, frozen while the model learns from it.
    forward: the same module as it is trained (distributed).
    """

    discriminator: nn.Module
    forward: nn.Module
    optimizer: torch.optim.Optimizer
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
        self.modules["discriminator"] = game.discriminator
        self.optimizers["discriminator"] = game.optimizer

    def backward(self, images: Tensor, labels: Tensor) -> Metrics:
        weight = self.game.weight_at(self.count)
        if weight == 0:
            return super().backward(images, labels)
        logits, terms = self._supervised(images, labels)
        logits_full = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear", align_corners=False)
        probabilities = logits_full.softmax(dim=1)  # (B, C, S, S)
        valid = (labels != self.settings.ignore_index)[:, None]  # (B, 1, S, S)
        adversarial = self._generator_loss(images, probabilities, valid)
        self._backward(terms["loss"] + weight * adversarial)
        metrics = {name: value.detach() for name, value in terms.items()}
        metrics |= {"acc_seg": self._accuracy(logits, labels), "adv/g_loss": adversarial.detach()}
        metrics["adv/weight"] = torch.full_like(terms["loss"].detach(), weight)
        return metrics | self._discriminator_backward(images, probabilities.detach(), labels, valid)

    def _generator_loss(self, images: Tensor, probabilities: Tensor, valid: Tensor) -> Tensor:
        """D is frozen: the gradient passes through it to the probabilities and leaves none in it."""
        self.game.discriminator.requires_grad_(False)
        with self.settings.precision.autocast():
            scores, patch_weight = self.game.discriminator(images, probabilities, valid)
        self.game.discriminator.requires_grad_(True)
        return generator_loss(self.game.objective, scores, patch_weight, self.game.batch_sum)

    def _discriminator_backward(self, images: Tensor, fake: Tensor, labels: Tensor, valid: Tensor) -> Metrics:
        num_classes = fake.shape[1]
        one_hot = F.one_hot(labels.masked_fill(~valid[:, 0], 0), num_classes)  # (B, S, S, C)
        one_hot = one_hot.permute(0, 3, 1, 2)  # (B, C, S, S)
        real = one_hot * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / num_classes
        with self.settings.precision.autocast():
            scores, patch_weight = self.game.forward(
                torch.cat([images, images]), torch.cat([fake, real]), torch.cat([valid, valid])
            )  # (2B, 1, h, w): one pass, since InstanceNorm does not mix samples
        (fake_scores, real_scores), (fake_weight, real_weight) = scores.chunk(2), patch_weight.chunk(2)
        loss = discriminator_loss(
            self.game.objective, real_scores, fake_scores, real_weight, fake_weight, self.game.batch_sum
        )
        self._backward(loss)
        on_real, on_fake = discriminator_accuracy(
            self.game.objective, real_scores.detach(), fake_scores.detach()
        )
        return {"adv/d_loss": loss.detach(), "adv/d_acc_real": on_real, "adv/d_acc_fake": on_fake}
