"""Runs models over a split and counts the predictions of each of them and of combinations of them.

All share the decoded images, the views and the counting. Several processes each take their share of the
batches and sum the tallies' `tensors()`.

Shapes: B images, C classes; the scored region of an image is H x W pixels.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.batches import Batch
from engine.scoring.boundary import near_outline
from engine.scoring.combining import Combination
from engine.scoring.counting import Counts, Maps, Tally
from engine.scoring.label_kinds import LabelKind
from engine.scoring.predictor import Predictor
from engine.scoring.upsampling import Pieces, strips, sure_images, weighted_logits
from models.folding import evaluating

ENSEMBLE = "mean"  # of probabilities: the combination that a run makes of its members
OnBatch = Callable[[list[str], dict[str, Counts]], None]
OnMaps = Callable[[Tensor, Mapping[str, Any]], None]
OnPixels = Callable[[Tensor, dict[str, Tensor]], None]


@dataclass
class ImageProgress:
    """Counts images for a callback (done, total), which is called with the total at the end in any case."""

    total: int
    show: Callable[[int, int], None]
    done: int = 0

    def add(self, images: int) -> None:
        self.done += images
        self.show(self.done, self.total)

    def end(self) -> None:
        if self.done < self.total:
            self.show(self.total, self.total)


@torch.no_grad()
def evaluate(
    models: dict[str, nn.Module],
    batches: Iterable[Batch],
    predictor: Predictor,
    num_classes: int,
    ignore_index: int,
    device: torch.device,
    on_batch: OnBatch | None = None,
    combinations: Mapping[str, Combination] = MappingProxyType({}),
    counted: Collection[str] | None = None,
    detailed: bool = False,
    on_pixels: OnPixels | None = None,
    on_maps: OnMaps | None = None,
) -> dict[str, Tally]:
    """Tallies by name: of each model, then of each combination.

    Args:
        models: by name; in eval mode meanwhile, and back in training mode afterwards where they were.
        batches: every image of the split once, with its labels.
        on_batch: called with the ids of a batch and, by name, its `Counts`.
        combinations: of all models, in their order; every model runs once.
        counted: the names to count; None is all. A model that none of these needs does not run.
        detailed: also count boundaries, edges and reliability, besides the confusion; not of masks that may
            overlap, which have none of these.
        on_pixels: called with the labels of a strip (B, rows, W) and, by name, its probabilities
            (B, C, rows, W).
        on_maps: called with the labels of a batch (B, H, W) and, by name, the maps of its predictions.
    """
    names = [name for name in (*models, *combinations) if counted is None or name in counted]
    kind = predictor.kind
    tallies = {name: kind.tally(name, num_classes, device) for name in names}
    wanted = {name: combination for name, combination in combinations.items() if name in tallies}
    members, alone = list(models), [name for name in names if name in models]
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        for batch in batches:
            of_models = predictor.of_members(models, batch.images, wanted.values(), alone)
            labels = predictor.scored(batch.labels)  # (B, H, W)
            void = labels == ignore_index
            maps = _maps(kind, of_models, members, wanted, names, labels, void, detailed, on_pixels)
            near_label = near_outline(labels, void) if detailed and not kind.is_multi else None
            counts = {name: maps[name].counts(labels, ignore_index, near_label) for name in names}
            for name in names:
                tallies[name].add(counts[name], maps[name].log_loss, void.sum())
            if on_maps:
                on_maps(labels, maps)
            if on_batch:
                on_batch(batch.ids, counts)
    return tallies


def _maps(
    kind: LabelKind,
    of_models: dict[str, Pieces],
    members: list[str],
    combinations: Mapping[str, Combination],
    names: list[str],
    labels: Tensor,
    void: Tensor,
    detailed: bool,
    on_pixels: OnPixels | None,
) -> dict[str, Maps]:
    """Predicted classes by name. Logits are upsampled once, for the models and for all combinations.

    A mean of logits counts as another model if it can be taken before the upsampling; if only such means
    are wanted, no member is upsampled.
    """
    sources, in_strip = dict(of_models), {}
    pieces = [of_models.get(member) for member in members]
    for name, combination in combinations.items():
        merged = weighted_logits(pieces, combination)
        if merged is None:
            in_strip[name] = combination, sure_images(pieces, combination)
        else:
            sources[name] = merged
    used = {name for name in names if name in sources}
    used |= {members[number] for combination, _ in in_strip.values() for number in combination.used}
    first = next(iter(of_models.values()))
    maps = {name: kind.maps(name, first.shape, first.device, detailed) for name in names}
    for images, rows in strips(first.shape, first.device):
        outputs = {name: sources[name].probabilities(images, rows) for name in sources if name in used}
        each = [outputs.get(member) for member in members]
        for name, (combination, sure) in in_strip.items():
            outputs[name] = combination(each, None if sure is None else sure[images])
        strip, of_void = labels[images, ..., rows, :], void[images, ..., rows, :]
        for name in names:
            maps[name].put(images, rows, outputs[name], strip, of_void)
        if on_pixels:
            on_pixels(strip, outputs)
    return maps
