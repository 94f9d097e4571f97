"""Learning from images without masks: the moving average of the weights teaches the model, the student.

The teacher predicts a weak view (mean teacher, arXiv 1703.01780). Where it is confident, its class is the
label of strong views of the same pixels, on which the student is trained (FixMatch, arXiv 2001.07685;
UniMatch, arXiv 2208.09910). With `data.unlabelled.discriminator`, pixels that the discriminator recognises as
predicted are left out (arXiv 1802.07934). Losses are computed at the resolution of the student's logits.

Shapes: U unlabelled images of this process, C classes, S the side of the crop, h and w of the teacher's
logits, which may be finer than the student's.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.batches import UnlabelledViews
from engine.data.options import Unlabelled
from engine.data.unlabelled import with_partners
from engine.training.dropout import Places, seed_update
from engine.training.schedule import ramp_up
from engine.training.step import Metrics, SupervisedStep, labels_at, one_or_nan
from losses.statistics import full_precision

Realness = Callable[[Tensor, Tensor, Tensor], Tensor]
Student = tuple[Tensor, "PseudoLabels", AbstractContextManager[None]]  # images, targets


class PseudoLabels(NamedTuple):
    """For each cell of the teacher's logits, (U, h, w): its class, whether that is used as a label (`kept`),
    and whether it is inside the image and not in its padding."""

    classes: Tensor
    kept: Tensor
    inside: Tensor

    def mixed(self, pasted: Tensor) -> "PseudoLabels":
        """The labels of a strong view, which shows the partner where `pasted`, (U, S, S), is true."""
        where = labels_at(self.classes, pasted)
        return PseudoLabels(*(with_partners(values, where) for values in self))


class MeanTeacher:
    """Adds the gradients of the unlabelled images of an update to those of the labelled ones.

    Args:
        teacher: the moving average of the model, in eval mode.
        section: `data.unlabelled`, its `ramp` in steps.
        start: the first update with unlabelled images.
        realness: AdversarialSettings.realness, if the discriminator leaves out pixels; else None.
        encoder: of the model, for feature dropout; None: no view with feature dropout.
    """

    def __init__(
        self,
        teacher: nn.Module,
        section: Unlabelled,
        start: int = 0,
        realness: Realness | None = None,
        encoder: nn.Module | None = None,
    ):
        self.teacher, self.section, self.start, self.realness = teacher, section, start, realness
        self.dropout = FeatureDropout(encoder, section.feature_dropout) if encoder else None

    def weight_at(self, step: int) -> float:
        """Rises linearly from 0 at `start` to the full weight `ramp` steps later."""
        return self.section.weight * ramp_up(step, self.start, int(self.section.ramp))

    def backward(self, step: SupervisedStep, views: UnlabelledViews, at_once: int) -> Metrics:
        """Add the gradients of an update, without exchanging them between processes.

        Args:
            step: after its `begin`.
            views: the unlabelled images of the update.
            at_once: number of images that fit into the memory, such as a chunk of the labelled ones.

        Returns:
            Detached scalars, the same on all processes: the loss, its weight, and the percentage of pixels
            that are used as labels; nothing before `start`.
        """
        weight = self.weight_at(step.count)
        if weight == 0:
            return {}
        pieces = -(-len(views.weak) // at_once)
        found = self._pseudo_labels(step, views, pieces)
        students: list[Student] = [
            (images, found.mixed(pasted), nullcontext()) for images, pasted in views.strong
        ]
        if self.dropout:
            students.append((views.weak, found, self.dropout.active(step.places)))
        losses = []
        for number, (images, targets, context) in enumerate(students, start=1):
            with context:
                losses.append(self._student(step, number, images, targets, weight / len(students), pieces))
        counts = torch.stack([found.kept.sum(), found.inside.sum()]).float()
        num_kept, num_inside = step.loss.sum_over_processes(counts)
        return {
            "unlabelled/loss": torch.stack(losses).mean(),
            "unlabelled/weight": counts.new_tensor(weight),
            "unlabelled/kept": 100 * num_kept / num_inside.clamp(min=1),
        }

    @torch.no_grad()
    def _pseudo_labels(self, step: SupervisedStep, views: UnlabelledViews, pieces: int) -> PseudoLabels:
        found = []
        parts = views.weak.tensor_split(pieces), views.inside.tensor_split(pieces)
        for images, inside in zip(*parts, strict=True):
            with step.settings.precision.autocast():
                logits = self.teacher(images)
            probabilities = full_precision(logits).softmax(dim=1)
            confidence, classes = probabilities.max(dim=1)
            shown = labels_at(logits, inside)
            kept = shown & (confidence >= self.section.threshold)
            if self.realness:
                assert self.section.discriminator is not None
                kept &= self.realness(images, probabilities, inside) >= self.section.discriminator
            found.append((classes, kept, shown))
        return PseudoLabels(*map(torch.cat, zip(*found, strict=True)))

    def _student(
        self,
        step: SupervisedStep,
        number: int,
        images: Tensor,
        targets: PseudoLabels,
        weight: float,
        pieces: int,
    ) -> Tensor:
        """Forward and backward pass of one view; returns its loss.

        As in UniMatch, the loss is a mean over all pixels of the image, and pixels that are not kept count as
        0, so few confident pixels give a small loss.
        """
        losses, start = [], 0
        parts = (x.tensor_split(pieces) for x in (images, targets.classes, targets.kept))
        for part, classes, kept in zip(*parts, strict=True):
            seed_update(step.settings.seed, step.count, stream=number)
            step.places.take(start, len(part), len(images), part.device)
            start += len(part)
            with step.unsynchronised():
                with step.settings.precision.autocast():
                    logits = step.forward(part)  # (u, C, h, w)
                classes, kept, inside = (labels_at(logits, x) for x in (classes, kept, targets.inside))
                per_pixel = F.cross_entropy(full_precision(logits), classes, reduction="none")
                sums = torch.stack([(per_pixel * kept).sum(), inside.sum().to(per_pixel)])
                of_part, num_inside = step.loss.sum_over_processes(sums)  # num_inside is of all parts
                loss = of_part / num_inside.clamp(min=1)
                scaled = step.scalers["optimizer"].scale(weight * loss)
                torch.autograd.backward(scaled, one_or_nan(scaled))
            losses.append(loss.detach())
        return torch.stack(losses).sum()


class FeatureDropout:
    """Channel dropout on the features of the encoder, while it is active: the third stream of UniMatch.

    Args:
        encoder: returns a map (B, C, h, w), or several; tokens (B, N, C) among them are not changed.
        share: of the channels that are dropped.
    """

    def __init__(self, encoder: nn.Module, share: float):
        self.share = share
        self._places: Places | None = None
        encoder.register_forward_hook(self._drop)

    @contextmanager
    def active(self, places: Places) -> Iterator[None]:
        self._places = places
        try:
            yield
        finally:
            self._places = None

    def _drop(self, encoder: nn.Module, inputs: object, output: object) -> object:
        return None if self._places is None else self._dropped(output, self._places)

    def _dropped(self, output: Any, places: Places) -> Any:
        if isinstance(output, list | tuple):
            return type(output)(self._dropped(each, places) for each in output)
        if not isinstance(output, Tensor) or output.ndim != 4:
            return output
        kept = 1 - self.share
        return output * places.kept(output, [output.shape[1], 1, 1], kept) / kept
