"""Class probabilities at an image's original size, from one model or several, under one protocol.

Everything that scores or shows predictions goes through here, so that a member, an ensemble and a picture are
the same computation. Knows nothing of labels or scores.

Shapes: B images of h x w pixels, C classes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Protocol:
    """How an image meets the model: `native` is its own size, resized by each of `scales`.

    With `flip` each view is seen mirrored, too. Probabilities are averaged at the original size.
    """

    name: str = "native"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    @classmethod
    def of(cls, section: Any) -> "Protocol":
        """From a recipe's `eval` section."""
        return cls(section.protocol, tuple(section.scales), section.flip)

    def card(self) -> dict[str, object]:
        """What stands beside every number."""
        return {**asdict(self), "scales": list(self.scales), "resolution": "original", "whole_image": True}


class Predictor:
    """Turns uint8 images into class probabilities.

    Args:
        protocol: the views of an image.
        autocast: makes the context of a forward pass, such as one of `torch.autocast`.
    """

    def __init__(self, protocol: Protocol, autocast: Callable[[], AbstractContextManager[object]]):
        self.protocol = protocol
        self.autocast = autocast

    @torch.no_grad()
    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 -> (B, C, h, w) float32 probabilities. The model has to be in eval mode."""
        assert not model.training, "a predictor needs model.eval()"
        views = [
            (scale, mirrored)
            for scale in self.protocol.scales
            for mirrored in (False, True)[: 1 + self.protocol.flip]
        ]
        total: Tensor | None = None
        for scale, mirrored in views:
            probabilities = self._view(model, images, scale, mirrored)
            total = probabilities if total is None else total.add_(probabilities)
        assert total is not None
        return total.div_(len(views))

    def _view(self, model: nn.Module, images: Tensor, scale: float, mirrored: bool) -> Tensor:
        size = images.shape[-2:]
        x = images.flip(-1) if mirrored else images
        if scale != 1.0:
            view_size = [max(1, round(scale * side)) for side in size]
            x = F.interpolate(x.float(), view_size, mode="bilinear", align_corners=False, antialias=True)
        with self.autocast():
            logits = model(x)
        logits = logits.flip(-1) if mirrored else logits  # (B, C, h', w')
        logits = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)  # (B, C, h, w)
        return logits.softmax(dim=1)
