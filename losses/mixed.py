"""The weighted sum of loss terms.

Terms that are ratios of sums over pixels share one pass over strips of the upsampled logits; for the others
the logits are upsampled once.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple, Protocol, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engine.options import Section
from losses.multi_label import multi_label_sums
from losses.pixel_sums import PixelSums, pixel_sums
from losses.statistics import Reduce, full_precision, identity, num_labelled
from losses.terms import LossError


class Ramp(Section, from_attributes=True):
    """A weight that is `begin` up to step `start`, then moves linearly to `end` within `ramp` steps."""

    begin: float = Field(ge=0)
    end: float = Field(ge=0)
    start: int = Field(ge=0)
    ramp: int = Field(ge=0)

    def at(self, step: int) -> float:
        """The weight at update `step`."""
        done = min(1.0, max(0, step - self.start) / max(1, self.ramp))
        return self.begin + (self.end - self.begin) * done


class FromSums(Protocol):
    """A term that is computed from `PixelSums`; its attribute `takes_sums` is true.

    If it has `sum_options`, these are arguments of `pixel_sums`. If `of_sums` has a parameter `denominator`,
    the term divides by that on a part of a batch.
    """

    def of_sums(self, sums: PixelSums, reduce: Reduce, **denominator: Tensor) -> Tensor: ...


class Part(NamedTuple):
    """How each term is computed on a part of a batch, by its log name; see `MixedLoss.parts_of`.

    weights: factors of the values of the terms.
    denominators: what terms divide by instead of their denominators on the part.
    """

    weights: Mapping[str, Tensor]
    denominators: Mapping[str, Tensor]


WHOLE = Part({}, {})


class MixedLoss(nn.Module):
    """Adds up terms, each a module called as `term(logits, labels)`.

    If the `forward` of a term has a parameter `reduce`, it gets the function that sums over all processes. A
    term that is `FromSums` gets the result of `losses.pixel_sums` instead of logits and labels. If a term has
    a method `denominator(labels)`, it returns the denominator of its mean, for a batch computed in parts.

    Args:
        terms: the log name of each term ("loss_ce") -> the term and its weight.
        num_classes: C.
        ignore_index: the label of void pixels.
        align_corners: how the logits are upsampled to the labels, as in `torch.nn.functional.interpolate`.
        multi_label: labels are masks (B, C, H, W) of classes that may overlap.

    Attributes:
        step: the number of the update, on which weights may depend.
        gradient_norms: whether the norm of each weighted term's gradient is returned, too; it costs a
            backward pass of the loss per term.
        part: how terms are computed where the labels are a part of a larger batch; see `parts_of`.
        sum_over_processes: applied to every sum over the batch before a ratio is formed. With several
            processes it has to be an all-reduce whose backward is an all-reduce too: each process then
            returns the loss of the whole batch, and the mean of their parameter gradients (what DDP computes)
            is the gradient of one process with the whole batch.
    """

    def __init__(
        self,
        terms: Mapping[str, tuple[nn.Module, float | Ramp]],
        num_classes: int,
        ignore_index: int,
        align_corners: bool = False,
        multi_label: bool = False,
    ):
        super().__init__()
        self.multi_label = multi_label
        self.terms = nn.ModuleDict({name: term for name, (term, _) in terms.items()})
        self.weights = {name: weight for name, (_, weight) in terms.items()}
        self.reducing = {
            name for name, t in self.terms.items() if "reduce" in signature(t.forward).parameters
        }
        self.dividing = {
            name
            for name, t in self.terms.items()
            if getattr(t, "takes_sums", False)
            and "denominator" in signature(cast(FromSums, t).of_sums).parameters
        }
        self.all_take_sums = all(getattr(term, "takes_sums", False) for term in self.terms.values())
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.align_corners = align_corners
        self.step = 0
        self.gradient_norms = False
        self.part = WHOLE
        self.sum_over_processes: Reduce = identity

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The total and its terms; computed in float32 (float64 if given that), under autocast too.

        Args:
            logits: (B, C, h, w), any float type; upsampled bilinearly to the labels.
            labels: (B, H, W), integers; (B, C, H, W) of masks.

        Returns:
            "loss", the weighted sum, and under its log name each term: unweighted, detached. If asked for,
            "grad_<term>": the norm of its weighted gradient at the logits. All scalars.

        Raises:
            LossError: the model returned something else, such as a dict, or another number of classes; or the
                labels are not one map for each image.
        """
        if not (isinstance(logits, Tensor) and logits.shape[1:2] == (self.num_classes,)):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise LossError(
                f"The model must return logits (B, {self.num_classes}, h, w), one a class; got {got}."
            )
        labels = self._checked(labels, len(logits))
        with torch.autocast(logits.device.type, enabled=False):
            if self.gradient_norms or not self.all_take_sums:
                logits = full_precision(logits)  # before the gradients of several terms are added
            values = self._values(logits, labels)
            for name, part_weight in self.part.weights.items():
                values[name] = part_weight.to(values[name]) * values[name]
            weighted = {name: self.weight(name) * value for name, value in values.items()}
            found = {"loss": torch.stack([*weighted.values()]).sum()}
            found |= {name: value.detach() for name, value in values.items()}
            if self.gradient_norms and logits.requires_grad:
                found |= {name.replace("loss", "grad"): _norm(v, logits) for name, v in weighted.items()}
        return found

    def _checked(self, labels: Tensor, num_images: int) -> Tensor:
        """The labels; class ids as int64, by which torch can index, and masks as they are."""
        shape = ("C", "H", "W") if self.multi_label else ("H", "W")
        are_ids = self.multi_label or not labels.is_floating_point()
        if labels.ndim != 1 + len(shape) or len(labels) != num_images or not are_ids:
            integers = "" if self.multi_label else "integers "
            raise LossError(
                f"Labels have to be {integers}({', '.join((str(num_images), *shape))}), a map for each "
                f"image; got {labels.dtype} of shape {tuple(labels.shape)}."
            )
        return labels if self.multi_label else labels.long()

    def weight(self, name: str) -> float:
        """The weight of a term, by its log name, at the present step."""
        weight = self.weights[name]
        return weight.at(self.step) if isinstance(weight, Ramp) else weight

    @torch.no_grad()
    def parts_of(self, labels: Sequence[Tensor]) -> list[Part]:
        """For each part of a batch, what `part` has to be while its loss is computed.

        The mean of the losses of the parts is then the loss of the whole batch, on all processes, for terms
        that are a mean over pixels or images. Dice, Jaccard, Tversky and Lovasz over the batch, OHEM and
        terms without `denominator` become a mean over the parts, weighted by their labelled pixels.

        d is the denominator of the whole batch divided by the number of parts. A term whose `of_sums` has a
        parameter `denominator` gets d; the value of any other term is multiplied by its denominator on the
        part divided by d. Both give the same, except where the denominator on a part is 0 and the numerator
        is not: cross-entropy with label smoothing, of classes of weight 0.

        Args:
            labels: (b, H, W) of each part, on this process.
        """
        sums = torch.stack(
            [
                torch.stack([self._denominator(term, of_part).double() for of_part in labels])
                for term in self.terms.values()
            ]
        )  # (terms, parts)
        sums = self.sum_over_processes(sums)
        means = sums.mean(1)
        weights = sums / means[:, None].clamp(min=torch.finfo(sums.dtype).tiny)
        denominators = {n: mean for n, mean in zip(self.terms, means, strict=True) if n in self.dividing}
        return [
            Part(
                {n: w for n, w in zip(self.terms, of_part, strict=True) if n not in self.dividing},
                denominators,
            )
            for of_part in weights.unbind(1)
        ]

    def _denominator(self, term: nn.Module, labels: Tensor) -> Tensor:
        found = getattr(term, "denominator", None)
        return found(labels) if found else num_labelled(labels, self.ignore_index)

    def upsampled(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, C, h, w) logits at the size of the labels: (B, C, H, W)."""
        size = labels.shape[-2:]
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits, size, mode="bilinear", align_corners=self.align_corners)

    def _values(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        reduce, divisors = self.sum_over_processes, self.part.denominators
        sums, whole, values = None, None, {}
        for name, term in self.terms.items():
            if getattr(term, "takes_sums", False):
                sums = sums or self._sums(logits, labels)
                divisor = {"denominator": divisors[name]} if name in divisors else {}
                values[name] = cast(FromSums, term).of_sums(sums, reduce, **divisor)
            else:
                whole = self.upsampled(logits, labels) if whole is None else whole
                values[name] = term(whole, labels, **{"reduce": reduce} if name in self.reducing else {})
                _require_scalar(values[name], term)
        return values

    def _sums(self, logits: Tensor, labels: Tensor) -> PixelSums:
        options: dict[str, Any] = {"align_corners": self.align_corners}
        for term in self.terms.values():
            options |= getattr(term, "sum_options", {})
        sums = multi_label_sums if self.multi_label else pixel_sums
        return sums(logits, labels, self.ignore_index, **options)


def _require_scalar(value: object, term: nn.Module) -> None:
    if not isinstance(value, Tensor) or value.ndim:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise LossError(f"The loss {type(term).__name__} returned {found}. Return a tensor of no dimension.")


def _norm(loss: Tensor, logits: Tensor) -> Tensor:
    [gradient] = torch.autograd.grad(loss, logits, retain_graph=True)
    return gradient.square().sum().sqrt()
