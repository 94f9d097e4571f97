"""Class probabilities at an image's original size, from one model, under one protocol.

Everything that scores or shows predictions uses this module, so that a model's predictions are always
computed in the same way.

Shapes: B images of h x w pixels, C classes; the region that the protocol scores is H x W.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.batches import forward_px
from engine.scoring.combining import Combination
from engine.scoring.label_kinds import SINGLE, LabelKind
from engine.scoring.numerics import convolutions_as_they_come
from engine.scoring.protocols import PADDLE_GREY, EvaluationProtocol, View
from engine.scoring.upsampling import Piece, Pieces, combined, sure_images


class Predictor:
    """Turns uint8 images into class probabilities.

    Args:
        protocol: the views of an image.
        autocast: makes the context manager of a forward pass, such as `torch.autocast`.
        kind: of the labels.
    """

    def __init__(
        self,
        protocol: EvaluationProtocol,
        autocast: Callable[[], AbstractContextManager[object]],
        kind: LabelKind = SINGLE,
    ):
        self.protocol = protocol
        self.autocast = autocast
        self.kind = kind

    @torch.no_grad()
    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 -> (B, C, H, W) float32 probabilities, all at once: see `pieces`.

        The model has to be in eval mode. H x W is h x w except under `centercrop`, which crops.
        """
        return self.pieces(model, images).all_probabilities()

    @torch.no_grad()
    @convolutions_as_they_come()
    def pieces(self, model: nn.Module, images: Tensor) -> Pieces:
        """(B, 3, h, w) uint8 -> the logits of all views at the model's own resolution.

        Those of one size run through the model in batches, windows and images alike.
        """
        assert not model.training, "a predictor needs model.eval()"
        num_images, h, w = images.shape[0], *images.shape[2:]
        allowed = forward_px(images.device)
        by_size: dict[tuple[int, int], list[View]] = {}
        for view in self.protocol.views(h, w):
            by_size.setdefault(view.size, []).append(view)
        pieces: list[Piece] = []
        for (height, width), views in by_size.items():
            at_once = max(1, allowed // (height * width))
            together = max(1, at_once // num_images)
            for start in range(0, len(views), together):
                some = views[start : start + together]
                seen = torch.cat([_seen(images, view) for view in some])  # (views * B, 3, height, width)
                logits = self._in_parts(model, seen, at_once)
                each = logits.view(len(some), num_images, *logits.shape[1:])  # (views, B, C, h', w')
                pieces += [
                    Piece(view, of_view.flip(-1) if view.mirrored else of_view)
                    for view, of_view in zip(some, each, strict=True)
                ]
        region, average = self.protocol.region(h, w), self.protocol.average
        return Pieces(pieces, region, average, self.kind.probabilities).merged()

    def together(self, models: Mapping[str, nn.Module], combination: Combination, images: Tensor) -> Tensor:
        """(B, C, H, W) probabilities of a combination of models for (B, n, h, w), all at once."""
        found = self.of_members(models, images, [combination])
        return combined([found.get(name) for name in models], combination)

    def of_members(
        self,
        models: Mapping[str, nn.Module],
        images: Tensor,
        combinations: Iterable[Combination],
        alone: Iterable[str] = (),
    ) -> dict[str, Pieces]:
        """The logits of those models that some combinations need for these images, and of those in `alone`.

        Where an early exit leaves out all other members for all of the images, these do not run.
        """
        names, found = list(models), dict[str, Pieces]()
        # A copy between two GPUs waits for what was started on either, so the images are copied before any
        # forward pass, and the logits after the last one: members on different GPUs run at the same time.
        there = {name: images.to(_device_of(model, images)) for name, model in models.items()}

        def start(some: Iterable[str]) -> None:
            started = {name: self.pieces(models[name], there[name]) for name in some if name not in found}
            found.update({name: pieces.to(images.device) for name, pieces in started.items()})

        def run(numbers: Sequence[int]) -> list[Pieces | None]:
            start(names[number] for number in numbers)
            return [found.get(name) for name in names]

        start(alone)
        for combination in combinations:
            if early_exit := combination.early_exit:
                sure = sure_images(run([early_exit.member]), combination)
                if sure is not None and sure.all():
                    continue
            run(combination.used)
        return found

    def _in_parts(self, model: nn.Module, seen: Tensor, at_once: int) -> Tensor:
        """(N, 3, h, w) -> logits (N, C, h', w') float32; with fewer at once where a GPU's memory is full.

        The model may be on another device than the images; its logits are on theirs.
        """
        at_once, device = min(at_once, len(seen)), _device_of(model, seen)
        try:
            with self.autocast():
                parts = torch.split(seen.to(device), at_once)
                logits = [model(part.float()).float() for part in parts]  # as in training
                return torch.cat(logits).to(seen.device)
        except torch.OutOfMemoryError:
            if at_once == 1:
                raise
        return self._in_parts(model, seen, at_once // 2)

    def scored(self, maps: Tensor) -> Tensor:
        """(..., h, w) -> (..., H, W): the region of images or labels that the protocol scores."""
        top, left, height, width = self.protocol.region(*maps.shape[-2:])
        return maps[..., top : top + height, left : left + width]


def _device_of(model: nn.Module, images: Tensor) -> torch.device:
    """That of the images for a model without parameters."""
    return next(model.parameters(), images).device


def _seen(images: Tensor, view: View) -> Tensor:
    """(B, 3, h, w) -> (B, 3, *view.size), the input of the model."""
    top, left, height, width = view.box
    x = images[..., top : top + height, left : left + width]
    if view.canvas != (height, width):
        margins = (0, view.canvas[1] - width, 0, view.canvas[0] - height)
        x = F.pad(x.float(), margins, value=PADDLE_GREY)
    if view.size != view.canvas:
        x = F.interpolate(
            x.float(), view.size, mode="bilinear", align_corners=False, antialias=view.antialias
        )
    return x.flip(-1) if view.mirrored else x
