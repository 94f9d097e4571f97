"""Runs models over a split and counts the predictions of each of them and of combinations of them.

All share the decoded images, the views and the counting. Several processes each take their share of the
batches and sum the tallies' `tensors()`.

Shapes: B images, C classes; the scored region of an image is H x W pixels.
"""

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.scoring.boundary import near_outline
from engine.scoring.combining import Combination
from engine.scoring.counting import Counts, Maps, Tally
from engine.scoring.label_kinds import LabelKind
from engine.scoring.predictor import Predictor
from engine.scoring.threads import Models, in_threads
from engine.scoring.upsampling import Pieces, strips, sure_images, weighted_logits
from models.folding import evaluating

ENSEMBLE = "mean"  # of probabilities: the combination that a run makes of its members
OnBatch = Callable[[list[str], dict[str, Counts]], None]
OnMaps = Callable[[Tensor, Mapping[str, Any]], None]


class PixelCounter(Protocol):
    """Counts something else from the probabilities of all pixels.

    totals: to which `evaluate` adds what `count` returns, batch after batch.
    """

    @property
    def totals(self) -> list[Tensor]: ...

    def count(self, labels: Tensor, outputs: Mapping[str, Tensor], seed: int) -> list[Tensor]:
        """Of a strip: labels (B, rows, W); by name, probabilities (B, C, rows, W).

        Called by several threads at once: it must not change the counter.

        Args:
            seed: of random choices; the same in every evaluation, another one in every strip.
        """


class ScoringBatch(Protocol):
    """images (B, 3, h, w) uint8, labels (B, h, w) integer, ids: one per image."""

    @property
    def images(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def ids(self) -> list[str]: ...


def evaluate(
    models: dict[str, nn.Module],
    batches: Iterable[ScoringBatch],
    predictor: Predictor,
    num_classes: int,
    ignore_index: int,
    device: torch.device,
    on_batch: OnBatch | None = None,
    combinations: Mapping[str, Combination] = MappingProxyType({}),
    counted: Collection[str] | None = None,
    detailed: bool = False,
    pixel_counter: PixelCounter | None = None,
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
        on_maps: called with the labels of a batch (B, H, W) and, by name, the maps of its predictions.
    """
    names = [name for name in (*models, *combinations) if counted is None or name in counted]
    kind = predictor.kind
    tallies = {name: kind.tally(name, num_classes, device) for name in names}
    wanted = {name: combination for name, combination in combinations.items() if name in tallies}
    members, alone = list(models), [name for name in names if name in models]
    used = {*alone} | {members[number] for combination in wanted.values() for number in combination.used}

    @torch.no_grad()
    def score(own_models: Models, batch: ScoringBatch) -> _Scored:
        own_models = {**models, **own_models}  # in the order of the combinations
        of_models = predictor.of_members(own_models, batch.images, wanted.values(), alone)
        labels = predictor.scored(batch.labels)  # (B, H, W)
        void = labels == ignore_index
        pixel_counts: list[Tensor] = []
        seeds = count(zlib.crc32(" ".join(batch.ids).encode()))

        def count_pixels(strip: Tensor, outputs: Mapping[str, Tensor]) -> None:
            assert pixel_counter is not None
            found = pixel_counter.count(strip, outputs, next(seeds))
            pixel_counts[:] = map(torch.add, pixel_counts, found) if pixel_counts else found

        on_strip = count_pixels if pixel_counter else None
        maps = _maps(kind, of_models, members, wanted, names, labels, void, detailed, on_strip)
        near_label = near_outline(labels, void) if detailed and not kind.is_multi else None
        counts = {name: maps[name].counts(labels, ignore_index, near_label) for name in names}
        return _Scored(batch.ids, labels, maps, counts, void.sum(), pixel_counts)

    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        running = {name: models[name] for name in members if name in used}
        for scored in in_threads(score, running, batches, predictor, device):
            for name in names:
                tallies[name].add(scored.counts[name], scored.maps[name].log_loss, scored.num_void)
            if pixel_counter:
                for total, more in zip(pixel_counter.totals, scored.pixel_counts, strict=True):
                    total += more
            if on_maps:
                on_maps(scored.labels, scored.maps)
            if on_batch:
                on_batch(scored.ids, scored.counts)
    return tallies


@dataclass(frozen=True)
class _Scored:
    """What was counted in one batch; pixel_counts: of the `PixelCounter`."""

    ids: list[str]
    labels: Tensor  # (B, H, W)
    maps: dict[str, Maps]
    counts: dict[str, Counts]
    num_void: Tensor
    pixel_counts: list[Tensor]


def _maps(
    kind: LabelKind,
    of_models: dict[str, Pieces],
    members: list[str],
    combinations: Mapping[str, Combination],
    names: list[str],
    labels: Tensor,
    void: Tensor,
    detailed: bool,
    on_strip: Callable[[Tensor, Mapping[str, Tensor]], None] | None,
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
        if on_strip:
            on_strip(strip, outputs)
    return maps
