"""Measures the gradient of each block, and how far the optimiser moved its weights.

The results are scalars on the device, which become numbers when the update is logged.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from engine.training.sharding import full
from models.blocks import trained_blocks

# At the first log steps, even if the recipe asks for none: does every block get a gradient?
NUM_FIRST_LOOKS = 2


class GradientProbe:
    """Called by a step before and after the optimiser in the updates that are measured; others cost nothing.

    Args:
        model: whose trained blocks are measured.
        every: updates between two measurements; 0: only the first ones, without a copy of the weights.
        log_every: updates between two log steps, of which `every` is a multiple.
        first: updates that were done before this start of the run.
    """

    def __init__(self, model: nn.Module, every: int, log_every: int, first: int):
        self.blocks = trained_blocks(model)
        self.every = every
        self.log_every = log_every
        self.first = first
        self._found: dict[str, Tensor] = {}
        self._before: dict[str, list[Tensor]] = {}

    def is_due(self, count: int) -> bool:
        """Whether to measure the update that comes after `count` updates; it ends on a log step."""
        done = count + 1
        early = done % self.log_every == 0 and done <= self.first + NUM_FIRST_LOOKS * self.log_every
        return early or (self.every > 0 and done % self.every == 0)

    def before(self) -> None:
        """After the backward pass, before gradients are clipped and the optimiser moves."""
        norms = {name: _gradient_norm(parameters) for name, parameters in self.blocks.items()}
        self._found = {f"gradients/norm/{name}": norm for name, norm in norms.items()}
        self._found |= {"gradients/total_norm": torch.stack([*norms.values()]).norm()}
        if self.every:
            self._before = {name: [p.detach().clone() for p in ps] for name, ps in self.blocks.items()}

    @torch.no_grad()
    def after(self) -> dict[str, Tensor]:
        """After the optimiser: "gradients/norm/<block>", "gradients/total_norm" and, if `every` is not 0,
        "gradients/update/<block>": the norm of the change of the weights over the norm of the weights."""
        for name, old in self._before.items():
            change = [p - before for p, before in zip(self.blocks[name], old, strict=True)]
            share = full(get_total_norm(change)) / full(get_total_norm(old)).clamp(min=1e-12)
            self._found[f"gradients/update/{name}"] = share
        found, self._found, self._before = self._found, {}, {}
        return found


def _gradient_norm(parameters: list[nn.Parameter]) -> Tensor:
    """Of all of them together; 0 for a block that no gradient reaches."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return full(get_total_norm(gradients)) if gradients else torch.zeros((), device=parameters[0].device)
