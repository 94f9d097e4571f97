"""Counts images of any size by tiles, as `evaluation.evaluate` counts whole ones; see `tiles.py`.

Log-loss and calibration are counted from the probabilities of each part of an image. Its labels are predicted
into a temporary TIFF, whose parts are then read with a margin, for the bands along outlines: up to a fiftieth
of the diagonal around.

Shapes: C classes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from engine.data.rasters import Raster, new_map, open_map
from engine.data.sample import Dataset, UnreadableSample, note_or_raise
from engine.data.windows import LabelReader, open_sample
from engine.scoring.boundary import band_px, boundary_matrices, edge_counts, near_outline
from engine.scoring.calibration import reliability_counts
from engine.scoring.confusion import confusion_matrices
from engine.scoring.counting import Counts, Maps, Tally
from engine.scoring.multi_label import MultiLabelCounts, MultiLabelTally
from engine.scoring.protocols import Rectangle
from engine.scoring.segmenter import Segmenter
from engine.scoring.tiles import Tiling

PART_PX = 2048  # side of the parts in which outlines are counted
CPU = torch.device("cpu")


@torch.no_grad()
def evaluate_tiles(
    segmenter: Segmenter,
    dataset: Dataset,
    tiling: Tiling,
    on_image: Callable[[str, Counts | MultiLabelCounts], None],
    on_tile: Callable[[str, int, int], None] = lambda id, done, total: None,
) -> Tally | MultiLabelTally:
    """The tally of a split, with the counts of `evaluate(..., detailed=True)`.

    Args:
        on_image: called with the id of an image and its counts, one row each.
        on_tile: called with the id, how many tiles are done, and of how many.

    Raises:
        DataError: as reading a sample does; rasterio is not installed.
    """
    tally: Tally | MultiLabelTally = segmenter.kind.tally(
        segmenter.protocol.name, len(dataset.class_names), CPU
    )
    counts_of = _MaskCounts if segmenter.kind.is_multi else _ImageCounts
    for index, id in enumerate(dataset.ids):
        try:
            with open_sample(dataset, index) as (image, labels), TemporaryDirectory() as folder:
                path = Path(folder) / "map.tif"
                # Its counts are of the tally's kind.
                found: Any = counts_of(segmenter, image, labels, dataset.ignore_index, path)
                for done in found.predict(tiling):
                    on_tile(id, done, tiling.number(image.size))
                found.count_outlines()
        except UnreadableSample as error:
            note_or_raise(dataset, index, error)
            continue
        tally.add(found.counts, found.log_loss, found.num_void)
        on_image(id, found.counts)
    return tally


class _Parts:
    """An image and its labels, read in parts; `path` is that of a temporary file."""

    def __init__(
        self, segmenter: Segmenter, image: Raster, labels: LabelReader, ignore_index: int, path: Path
    ):
        self.segmenter, self.image, self.labels, self.path = segmenter, image, labels, path
        self.ignore_index, self.num_classes = ignore_index, len(segmenter.class_names)

    def blended(self, tiling: Tiling) -> Iterator[tuple[Rectangle, Tensor, Tensor]]:
        """Parts of the image with their probabilities (1, C, height, width) and their labels."""
        for box, part in tiling.blended(self.image.size, self._pixels, self.segmenter.probabilities):
            yield box, part[None], self.labels_in(box)

    def labels_in(self, box: Rectangle) -> Tensor:
        """(1, height, width) uint8, or (1, C, height, width)"""
        return torch.tensor(self.labels(box.rows, box.columns))[None]

    def _pixels(self, box: Rectangle) -> Tensor:
        return torch.tensor(self.image.read(box.rows, box.columns))


class _MaskCounts(_Parts):
    """Counts of one image whose classes may overlap."""

    def predict(self, tiling: Tiling) -> Iterator[int]:
        """Count each part; yields the number of tiles after each."""
        shape, name = (1, self.num_classes, *self.image.size), self.segmenter.protocol.name
        self.maps = self.segmenter.kind.maps(name, shape, CPU, detailed=True)
        self.num_void, every = torch.zeros((), dtype=torch.int64), slice(None)
        for done, (_, part, labels) in enumerate(self.blended(tiling), start=1):
            void = labels == self.ignore_index
            self.maps.put(every, every, part, labels, void)
            self.num_void += void.sum()
            yield done

    def count_outlines(self) -> None:
        """Bands along outlines need one class a pixel."""

    @property
    def counts(self) -> MultiLabelCounts:
        counts: MultiLabelCounts = self.maps.counts(torch.empty(0), self.ignore_index, None)
        return counts

    @property
    def log_loss(self) -> Tensor:
        total: Tensor = self.maps.log_loss
        return total


class _ImageCounts(_Parts):
    """Counts of one image, in two passes over it."""

    def __init__(
        self, segmenter: Segmenter, image: Raster, labels: LabelReader, ignore_index: int, path: Path
    ):
        super().__init__(segmenter, image, labels, ignore_index, path)
        empty = Tally.empty(self.num_classes, CPU)
        self.log_loss, self.num_void = empty.log_loss, empty.num_void
        self.counts = Counts(
            *(getattr(empty, name)[None] for name in ("confusion", "boundary", "edges", "reliability"))
        )

    def predict(self, tiling: Tiling) -> Iterator[int]:
        """Predict the labels into the file; yields the number of tiles after each."""
        assert self.counts.reliability is not None
        with new_map(self.path, self.image) as file:
            for done, (box, part, labels) in enumerate(self.blended(tiling), start=1):
                void = labels == self.ignore_index
                b, c, h, w = part.shape
                maps, every = Maps((b, c, h, w), CPU, with_confidence=True), slice(None)
                maps.put(every, every, part, labels, void)
                assert maps.confidence is not None
                self.log_loss += maps.log_loss
                self.num_void += void.sum()
                self.counts.confusion.add_(
                    confusion_matrices(maps.prediction, labels, self.num_classes, self.ignore_index)
                )
                self.counts.reliability.add_(
                    reliability_counts(maps.confidence, maps.prediction == labels, ~void)
                )
                file.write(maps.prediction[0].byte().numpy(), 1, window=(box.rows, box.columns))
                yield done

    def count_outlines(self) -> None:
        """Count the bands along outlines of the labels and of the predicted labels."""
        assert self.counts.boundary is not None and self.counts.edges is not None
        reach = band_px(*self.image.size)
        with open_map(self.path) as file:
            for box, seen in _with_margins(self.image.size, reach):
                labels, predicted = self.labels_in(seen), _read(file, seen)
                void = labels == self.ignore_index
                inner = (
                    slice(None),
                    slice(box.top - seen.top, box.top - seen.top + box.height),
                    slice(box.left - seen.left, box.left - seen.left + box.width),
                )
                near_label, near_prediction = (
                    near_outline(ids, void, reach)[inner] for ids in (labels, predicted)
                )
                labels, predicted = labels[inner], predicted[inner]
                self.counts.boundary.add_(
                    boundary_matrices(
                        predicted, labels, self.num_classes, self.ignore_index, near_label, near_prediction
                    )
                )
                self.counts.edges.add_(edge_counts(predicted, labels, self.ignore_index, near_label))


def _read(file: Any, box: Rectangle) -> Tensor:
    """(1, height, width) uint8"""
    return torch.from_numpy(file.read(1, window=(box.rows, box.columns)))[None]


def _with_margins(size: tuple[int, int], margin: int) -> Iterator[tuple[Rectangle, Rectangle]]:
    """Parts that together are an image, each with the rectangle of up to `margin` pixels more around it."""
    h, w = size
    for top in range(0, h, PART_PX):
        for left in range(0, w, PART_PX):
            bottom, right = min(h, top + PART_PX), min(w, left + PART_PX)
            first_row, first_column = max(0, top - margin), max(0, left - margin)
            seen = Rectangle(
                first_row,
                first_column,
                min(h, bottom + margin) - first_row,
                min(w, right + margin) - first_column,
            )
            yield Rectangle(top, left, bottom - top, right - left), seen
