"""Suspicious labels: regions where a confident ensemble predicts another class.

After confident learning (Northcutt et al. 2021, arXiv 1911.00068): a class is predicted with confidence where
its probability reaches its mean over the pixels with that label. Two things differ, since the unit here
is a region to be redrawn, not a pixel: confidence is the mean over a region, and a region below the threshold
counts in proportion instead of not at all. A thin rim along outlines is left out: all labels disagree there.

Shapes: C classes, images of h x w pixels.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RIM = 0.005  # of the image's diagonal: a region has to be thicker than twice this
LEAST_TRUST = 0.5  # below this mean threshold a ranking shows errors of the models rather than of the labels
WHOLE = 0.6  # of an object: a region that covers this much is about the object, not its outline
NUM_IDS = 256  # labels are uint8

Mask = NDArray[np.bool_]  # (h, w)


@dataclass(frozen=True)
class Region:
    """Connected pixels of one label for which another class is predicted.

    box: left, top, right, bottom in pixels, the last two beyond the region. num_pixels: in it.
    confidence, label_confidence: mean probability of the predicted class and of the label's.
    excess: by how much the first is above the second, summed over the pixels.
    of_label, of_prediction: its share of the connected pixels with that label, or with that prediction.
    """

    label: int
    prediction: int
    box: tuple[int, int, int, int]
    num_pixels: int
    confidence: float
    label_confidence: float
    excess: float
    of_label: float
    of_prediction: float

    def kind(self, background: int | None) -> str:
        """What is probably wrong, in words."""
        if self.label == background and self.of_prediction >= WHOLE:
            return "object without a label"
        if self.prediction == background and self.of_label >= WHOLE:
            return "label without an object"
        is_object = background not in (self.label, self.prediction)
        whole = is_object and max(self.of_label, self.of_prediction) >= WHOLE
        return "other class" if whole else "outline elsewhere"


@dataclass(frozen=True)
class Suspect:
    """An image: its score is that of its regions, highest first, added up, as a share of its pixels."""

    id: str
    score: float
    regions: list[tuple[float, Region]]

    def reason(self, background: int | None) -> str:
        """What is probably wrong, in words: the kind with the highest total score over its regions."""
        kinds: dict[str, float] = defaultdict(float)
        for score, region in self.regions:
            kinds[region.kind(background)] += score
        return max(kinds, key=kinds.__getitem__, default="nothing")


def find_regions(
    probabilities: NDArray[np.float32], labels: NDArray[np.uint8], ignore_index: int
) -> list[tuple[Region, Mask]]:
    """Where label and prediction disagree over more than a rim, with the (h, w) mask of each.

    Args:
        probabilities: (C, h, w). labels: (h, w), class ids and `ignore_index`, which disagrees with nothing.
    """
    labelled = labels != ignore_index
    predictions = probabilities.argmax(axis=0)  # (h, w)
    confidence = probabilities.max(axis=0)
    of_label = np.take_along_axis(probabilities, np.where(labelled, labels, 0)[None].astype(np.int64), 0)[0]
    rim_px = max(1, round(RIM * math.hypot(*labels.shape)))
    objects: dict[tuple[str, int], tuple[NDArray[np.int32], NDArray[np.int64]]] = {}

    def share(mask: Mask, kind: str, map_: NDArray[np.integer], id: int) -> float:
        """Of the connected pixels of class `id` in `map_` that the mask lies in."""
        if (kind, id) not in objects:
            numbers, _ = ndimage.label((map_ == id) & labelled)
            objects[kind, id] = numbers, np.bincount(numbers.ravel())
        numbers, sizes = objects[kind, id]
        return float(mask.sum() / sizes[np.unique(numbers[mask])].sum())

    regions: list[tuple[Region, Mask]] = []
    for label, prediction, window, mask in _thick_parts(labels, predictions, labelled, rim_px):
        inside = np.zeros_like(labelled)
        inside[window] = mask
        rows, columns = window
        region = Region(
            label,
            prediction,
            (columns.start, rows.start, columns.stop, rows.stop),
            int(mask.sum()),
            float(confidence[inside].mean()),
            float(of_label[inside].mean()),
            float((confidence - of_label)[inside].sum()),
            share(inside, "label", labels, label),
            share(inside, "prediction", predictions, prediction),
        )
        regions.append((region, inside))
    return regions


def _thick_parts(
    labels: NDArray[np.uint8], predictions: NDArray[np.int64], labelled: Mask, rim_px: int
) -> Iterator[tuple[int, int, tuple[slice, slice], Mask]]:
    """Label, prediction, window and mask of each connected disagreement of two classes, less thin parts."""
    wrong = labelled & (labels != predictions)
    side_px = 2 * rim_px + 1
    pairs = labels[wrong].astype(np.int64) * NUM_IDS + predictions[wrong]
    for pair, count in enumerate(np.bincount(pairs)):
        label, prediction = divmod(pair, NUM_IDS)
        if count < side_px**2:
            continue
        pixels = (wrong & (labels == label) & (predictions == prediction)).astype(np.uint8)
        # an opening by a square, one row and one column at a time
        core = ndimage.minimum_filter(pixels, side_px, mode="constant")
        thick = ndimage.maximum_filter(core, side_px, mode="constant")
        numbers, _ = ndimage.label(thick)
        for number, window in enumerate(ndimage.find_objects(numbers), 1):
            yield label, prediction, window, numbers[window] == number


class Suspicion:
    """Collects regions and class thresholds over a split, image by image; then ranks the images."""

    def __init__(self, num_classes: int, ignore_index: int):
        self.ignore_index = ignore_index
        self._sums = np.zeros(num_classes)  # of the probability of a class over the pixels labelled so
        self._nums = np.zeros(num_classes, np.int64)
        self._images: dict[str, tuple[int, list[Region]]] = {}

    def add(self, id: str, probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
        """One image: (C, h, w) probabilities and its (h, w) labels."""
        for label in np.unique(labels[labels != self.ignore_index]):
            so_labelled = labels == label
            self._sums[label] += probabilities[label][so_labelled].sum(dtype=float)
            self._nums[label] += so_labelled.sum()
        regions = [region for region, _ in find_regions(probabilities, labels, self.ignore_index)]
        self._images[id] = int((labels != self.ignore_index).sum()), regions

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """(C,): mean confidence of each class where it is the label; 1 where it has none."""
        return np.divide(self._sums, self._nums, out=np.ones_like(self._sums), where=self._nums > 0)

    @property
    def trust(self) -> float:
        """Mean threshold of the classes that have labels: how sure the models are of them."""
        present = self.thresholds[self._nums > 0]
        return float(present.mean()) if len(present) else 0.0

    def ranking(self) -> list[Suspect]:
        """Every image, most suspicious first; equal ones in the order in which they came."""
        suspects = [
            self._suspect(id, num_pixels, regions) for id, (num_pixels, regions) in self._images.items()
        ]
        return sorted(suspects, key=lambda suspect: -suspect.score)

    def _suspect(self, id: str, num_pixels: int, regions: Sequence[Region]) -> Suspect:
        thresholds = self.thresholds
        scored = [
            (r.excess * min(1.0, r.confidence / thresholds[r.prediction]) / max(1, num_pixels), r)
            for r in regions
        ]
        scored.sort(key=lambda pair: -pair[0])
        return Suspect(id, float(sum(score for score, _ in scored)), scored)
