"""The checks of masks of classes that may overlap (data.labels: multi), read as in a training.

Shapes: N samples, C classes, h x w pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.file_checks import refused
from engine.data.doctor.findings import HURTS, NOTE, SPOILS, DataFinding, finding
from engine.data.doctor.listing import Listing
from engine.data.formats.class_masks import ClassMasks
from engine.data.sample import DataError, UnreadableSample
from engine.wording import quantity, some_of

NOT_MADE = "duplicates, sequences, value ranges, borders of masks: those are for masks of one class a pixel"


@dataclass(frozen=True)
class MaskSums:
    """Pixels of each sample: with the class (N, C), of an unknown class (N, C), of the image (N,).

    problems: sample -> why it cannot be read; its sums are 0.
    """

    own: NDArray[np.int64]
    void: NDArray[np.int64]
    size: NDArray[np.int64]
    problems: dict[int, DataError]


def masks_report(listing: Listing, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """The values of a `DataReport`; `progress` is called with (samples done, total)."""
    sums = _read(listing, progress)
    findings = [
        *refused(listing),
        *_unreadable(listing, sums),
        *_void(listing, sums),
        *_two_whites(listing, sums),
        *_absent(listing, sums),
    ]
    may_skip = listing.may_skip and all(isinstance(e, UnreadableSample) for e in sums.problems.values())
    return {
        "findings": findings,
        "values": [_row(listing, sums, place) for place in range(len(listing.class_names))],
        "skipped": [NOT_MADE],
        "num_samples": {split: len(indices) for split, indices in listing.splits.items()},
        "divergence": {},
        "readable": (not sums.problems or may_skip)
        and not any(
            (sums.void[own] == sums.size[own, None]).all()
            for split, own in listing.splits.items()
            if split in listing.scored
        ),
    }


def _read(listing: Listing, progress: Callable[[int, int], None]) -> MaskSums:
    n, C = len(listing.samples), len(listing.class_names)
    sums = MaskSums(np.zeros((n, C), np.int64), np.zeros((n, C), np.int64), np.zeros(n, np.int64), {})
    for row, sample in enumerate(listing.samples):
        try:
            labels = sample.dataset[sample.index].labels.numpy()  # (C, h, w)
        except DataError as error:
            sums.problems[row] = error
        else:
            sums.own[row] = (labels == 1).sum((1, 2))
            sums.void[row] = (labels == listing.ignore_index).sum((1, 2))
            sums.size[row] = labels[0].size
        progress(row + 1, n)
    return sums


def _unreadable(listing: Listing, sums: MaskSums) -> Iterator[DataFinding]:
    if not sums.problems:
        return
    are_skipped = listing.may_skip and all(isinstance(e, UnreadableSample) for e in sums.problems.values())
    first = next(iter(sums.problems.values()))
    yield finding(
        "damaged",
        HURTS if are_skipped else SPOILS,
        f"{some_of(len(sums.problems), len(sums.size), 'sample', 'is', 'are')} not as the recipe says. The "
        f"first: {first}",
        "these images are left out" if are_skipped else "training stops at the first one",
        "correct these files, or take the images out",
        listing.names(sums.problems),
    )


def _void(listing: Listing, sums: MaskSums) -> Iterator[DataFinding]:
    empty = np.flatnonzero((sums.size > 0) & (sums.void == sums.size[:, None]).all(axis=1))
    if len(empty):
        yield finding(
            "all_void",
            SPOILS if len(empty) == (sums.size > 0).sum() else HURTS,
            f"{some_of(len(empty), len(sums.size), 'image', 'has', 'have')} void alone in all masks",
            "there is nothing to learn from them",
            "label them, or take them out",
            listing.names(empty),
        )


def _two_whites(listing: Listing, sums: MaskSums) -> Iterator[DataFinding]:
    """Masks of 0 and 255 among masks of 0 and 1."""
    if isinstance(listing.encoding, ClassMasks) and listing.encoding.binary:
        return
    has_one, has_void = sums.own > 0, (sums.void > 0) & (sums.void < sums.size[:, None])  # (N, C)
    white = has_void & ~has_one
    if white.any() and has_one.any() and not (has_one & has_void).any():
        yield finding(
            "two_whites",
            HURTS,
            f"{some_of(int(white.sum()), white.size, 'mask', 'holds', 'hold')} 0 and 255, which is void, "
            f"and {some_of(int(has_one.sum()), white.size, 'mask', 'holds', 'hold')} 0 and 1, but none both",
            "If some were saved as black and white, their objects are neither trained on nor scored.",
            "data.folder.values=binary reads both as the class. Do nothing, if 255 is meant as void.",
            listing.names(np.flatnonzero(white.any(axis=1))),
        )


def _absent(listing: Listing, sums: MaskSums) -> Iterator[DataFinding]:
    names = np.array(listing.class_names)
    of_split = {split: sums.own[indices].sum(axis=0) > 0 for split, indices in listing.splits.items()}
    if listing.train not in of_split:
        return
    for split, check, severity, why in (
        (listing.train, "never_trained", HURTS, "it is never predicted, and its scores are 0 or missing"),
        *((split, "never_scored", NOTE, "it has no score there") for split in listing.scored),
    ):
        absent = tuple(names[~of_split[split]].tolist()) if split in of_split else ()
        if absent:
            yield finding(
                check,
                severity,
                f"{quantity(len(absent), 'class', 'classes')} on no image of {split}: {', '.join(absent)}",
                why,
                "add images with the class, or leave it out of data.classes",
                classes=absent,
            )


def _row(listing: Listing, sums: MaskSums, place: int) -> dict[str, Any]:
    """Of the table of values: the images with a class, and its share of the known pixels of each split."""
    share = {}
    for split, indices in listing.splits.items():
        known = (sums.size[indices] - sums.void[indices, place]).sum()
        share[split] = float(sums.own[indices, place].sum() / max(1, known))
    num_masks = int((sums.own[:, place] > 0).sum())
    return {"value": 1, "name": listing.class_names[place], "masks": num_masks, "share": share}
