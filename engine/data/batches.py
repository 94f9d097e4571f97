"""From samples to batches on the device.

For training they are padded, copied, augmented and mixed; for scoring, images of equal size are batched.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.augment import Augment
from engine.data.mixing import Guest, Mixing, paste_guests
from engine.data.order import Draw, SampleOrder
from engine.data.resident import Resident
from engine.data.sample import (
    DataError,
    Dataset,
    Sample,
    next_readable,
    none_readable,
    note_or_raise,
    read_or_error,
    skipped_ids,
)
from engine.data.warp import MAX_LEVEL
from engine.data.workers import auto_workers, read_by_workers


@dataclass(frozen=True)
class UnlabelledViews:
    """Views of U unlabelled images, (U, n, S, S) in 0..255.

    weak: for the teacher. inside: (U, S, S) bool, where they show the image and not what is around it.
    strong: for the student: images, and (U, S, S) bool, where they are those of image (i + U / 2) modulo U.
    """

    weak: Tensor
    inside: Tensor
    strong: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Batch:
    """images (B, 3, h, w), uint8 or float in 0..255; labels (B, h, w), integer; ids: one per sample.

    With data.labels: multi, labels are (B, C, h, w), here and in everything that is made from them.
    unlabelled: of data.unlabelled, or None.
    """

    images: Tensor
    labels: Tensor
    ids: list[str]
    unlabelled: UnlabelledViews | None = None


class TrainBatches:
    """The endless sequence of augmented batches of one process.

    Args:
        dataset: a split; for a `Resident` one no worker process is started.
        order: which samples make up which update.
        augment: applied on `device`.
        mixing: what is pasted onto each sample; these guests are read and augmented like the samples.
        device: where the batches go.
        rank, world_size: this process takes its share of each update.
        workers: decoding processes of a data set that stays on disk; "auto" depends on the CPU cores.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: SampleOrder,
        augment: Augment,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        workers: int | str = "auto",
        mixing: Mixing | None = None,
    ):
        self.dataset = dataset
        self.order = order
        self.augment = augment
        self.mixing = mixing
        self.device = device
        self.rank, self.world_size = rank, world_size
        self.workers = num_workers(dataset, workers, world_size)

    def starting_at(self, step: int) -> Iterator[Batch]:
        """Batches of updates `step`, `step` + 1, ..., without replaying the earlier ones."""
        plan = (self._with_guests(self.order.update(s, self.rank, self.world_size)) for s in count(step))
        loaded = zip(count(step), _load(self.dataset, plan, self.workers), strict=False)
        for update, (results, draws) in loaded:
            yield self._batch(results, draws, self.augment.at(update))

    def num_pixels(self, draws: list[Draw], sizes: list[tuple[int, int]]) -> int:
        """Of the padded images that the batch of these samples is made from, their guests included."""
        read = [sizes[draw.index] for draw in self._with_guests(draws)]
        return len(read) * max(h for h, _ in read) * max(w for _, w in read)

    def of(self, draws: list[Draw]) -> Batch:
        """The batch of these samples, read by this process, in crops of the largest size."""
        draws = self._with_guests(draws)
        results = [read_or_error(self.dataset, draw.index) for draw in draws]
        return self._batch(results, draws, self.augment)

    def _guests(self, draw: Draw) -> list[Guest]:
        return self.mixing.guests(self.dataset.ids[draw.index], draw.epoch) if self.mixing else []

    def _with_guests(self, hosts: list[Draw]) -> list[Draw]:
        """The draws of an update, then those of their guests."""
        guests = [
            Draw(guest.index, host.epoch, f"{self.dataset.ids[host.index]} {layer}")
            for host in hosts
            for layer, guest in enumerate(self._guests(host))
        ]
        return hosts + guests

    def _batch(self, results: list[Sample | DataError], draws: list[Draw], augment: Augment) -> Batch:
        samples = [
            result if isinstance(result, Sample) else next_readable(self.dataset, draw.index, result)
            for result, draw in zip(results, draws, strict=True)
        ]
        images, labels = _pad(samples, augment.ignore_index)
        parameters = [
            augment.parameters(self.dataset.ids[draw.index], draw.epoch, draw.host) for draw in draws
        ]
        sizes = [s.size for s in samples]
        images, labels = _to(self.device, images), _to(self.device, labels)
        images, labels = augment(images, labels, sizes, parameters)
        hosts = [draw for draw in draws if not draw.host]
        if self.mixing:
            images, labels = paste_guests(images, labels, [self._guests(host) for host in hosts])
        return Batch(images, labels, [s.id for s in samples[: len(hosts)]])


def scoring_batches(
    dataset: Dataset,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    max_px: int | None = None,
    workers: int | str = "auto",
) -> Iterator[Batch]:
    """Every image once over all processes, unchanged, uint8; images of one size share batches of `max_px`.

    By default as many pixels as a forward pass takes at once.

    Skipped images are in no batch; `dataset.skipped` has them.

    Raises:
        DataError: an image cannot be read and is not to be skipped; or none can be read.
    """
    groups = _equal_sizes(dataset.sizes(), max_px or forward_px(device))[rank::world_size]
    plan = ([Draw(index, 0) for index in group] for group in groups)
    for results, draws in _load(dataset, plan, num_workers(dataset, workers, world_size)):
        samples = _readable(dataset, results, draws)
        if not samples:
            continue
        images = torch.stack([s.image for s in samples])  # (B, 3, h, w)
        labels = torch.stack([s.labels for s in samples])  # (B, h, w)
        yield Batch(_to(device, images), _to(device, labels), [s.id for s in samples])
    if dataset.skipped and len(dataset) and len(skipped_ids(dataset)) == len(dataset):
        reason = next(iter(dataset.skipped.reasons.values()))
        raise none_readable(dataset, reason)


def forward_px(device: torch.device) -> int:
    """How many pixels to score in one forward pass, unless a single view is larger.

    On a CPU the activations should stay in the cache: eight windows of 512 px at once take a SegFormer-B0
    nearly twice as long as one after another.
    """
    return 1 << 18 if device.type == "cpu" else 1 << 21


def num_workers(dataset: Dataset, wish: int | str, world_size: int) -> int:
    """Decoding processes: 0 for a resident data set, else `wish`, else this process's share of the cores."""
    if isinstance(dataset, Resident):
        return 0
    return wish if isinstance(wish, int) else auto_workers(world_size)


def _load(
    dataset: Dataset, plan: Iterator[list[Draw]], workers: int
) -> Iterator[tuple[list[Sample | DataError], list[Draw]]]:
    """The samples of each batch, or why they cannot be read, and its draws."""
    if workers:
        return read_by_workers(dataset, plan, workers)
    return (([read_or_error(dataset, draw.index) for draw in draws], draws) for draws in plan)


def _readable(dataset: Dataset, results: list[Sample | DataError], draws: list[Draw]) -> list[Sample]:
    for result, draw in zip(results, draws, strict=True):
        if isinstance(result, DataError):
            note_or_raise(dataset, draw.index, result)
    return [result for result in results if isinstance(result, Sample)]


def _pad(samples: list[Sample], ignore_index: int) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) and (B, H, W): each sample in the upper left, 0 and `ignore_index` around it."""
    multiple = 1 << MAX_LEVEL
    H, W = (-(-max(s.size[axis] for s in samples) // multiple) * multiple for axis in (0, 1))
    margins = [(0, W - w, 0, H - h) for h, w in (s.size for s in samples)]
    images = [F.pad(s.image, margin) for s, margin in zip(samples, margins, strict=True)]
    labels = [F.pad(s.labels, margin, value=ignore_index) for s, margin in zip(samples, margins, strict=True)]
    return torch.stack(images), torch.stack(labels)


def _to(device: torch.device, tensor: Tensor) -> Tensor:
    """An asynchronous copy to the GPU; on the CPU the tensor itself."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _equal_sizes(sizes: list[tuple[int, int]], max_px: int) -> list[list[int]]:
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        by_size.setdefault(size, []).append(index)
    groups = []
    for (h, w), indices in by_size.items():
        length = max(1, max_px // max(1, h * w))
        groups += [indices[i : i + length] for i in range(0, len(indices), length)]
    return groups
