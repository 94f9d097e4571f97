"""Duplicate images, the same bytes or the same image saved again: repeats in a split, leaks between splits.

Equal files have equal SHA-256. Near-duplicates differ in at most MAX_BITS of their 64-bit difference hash
(Krawetz, 2013), and then by little in thumbnails of 32 x 32 px, normalised for brightness and contrast,
because the photos of a series have similar hashes too.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.findings import HURTS, NOTE, DataFinding, finding
from engine.data.doctor.meaning import Meaning
from engine.data.doctor.scan import Facts
from engine.wording import quantity, some_of

MAX_BITS = 6
MAX_DIFFERENCE = (
    0.15  # root mean square between normalised thumbnails: at least 0.33 between 1,023 VOC photos,
)
# at most 0.10 for copies of half the size, 0.05 for copies saved at JPEG quality 30
MIN_CONTRAST = 8.0  # standard deviation of a thumbnail, 0..255; flat images all look alike
ROWS_AT_ONCE = 512


def find_groups(facts: Facts) -> list[list[int]]:
    """The samples of each image that occurs more than once, in order."""
    first_with: dict[bytes, int] = {}
    group_of = {}  # sample -> the first of its group
    for i, mode in enumerate(facts.modes):
        if mode:  # readable
            group_of[i] = first_with.setdefault(facts.sha256[i].tobytes(), i)
    for i, j in _near(facts, np.array(sorted(first_with.values()), np.int64)):
        old, new = sorted((group_of[i], group_of[j]), reverse=True)
        if old != new:
            group_of.update({k: new for k, group in group_of.items() if group == old})
    groups: dict[int, list[int]] = {}
    for i, group in group_of.items():
        groups.setdefault(group, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _near(facts: Facts, candidates: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    thumbs = facts.thumbs[candidates].astype(np.float32).reshape(len(candidates), -1)  # (m, 1024)
    spread = thumbs.std(1, keepdims=True)
    kept = spread[:, 0] >= MIN_CONTRAST
    candidates, hashes = candidates[kept], facts.dhash[candidates[kept]]
    thumbs = ((thumbs - thumbs.mean(1, keepdims=True)) / np.maximum(spread, 1))[kept]
    for start in range(0, len(hashes), ROWS_AT_ONCE):
        rows = hashes[start : start + ROWS_AT_ONCE, None]
        close = np.bitwise_count(rows ^ hashes[start:]) <= MAX_BITS  # (rows, m - start)
        for row, column in np.argwhere(np.triu(close, 1)):
            i, j = start + row, start + column
            if np.sqrt(np.mean((thumbs[i] - thumbs[j]) ** 2)) <= MAX_DIFFERENCE:
                yield int(candidates[i]), int(candidates[j])


def check_copies(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Leaks between train and scored splits, repeats within a split, duplicates whose masks differ."""
    listing = facts.listing
    groups = find_groups(facts) if listing.has_files else []
    for split in listing.scored:
        if {split, listing.train} <= listing.splits.keys():
            yield from _leak(facts, groups, split)
    for split in listing.splits:
        yield from _repeats(facts, groups, split)
    yield from _contradictions(facts, groups)


def _leak(facts: Facts, groups: list[list[int]], split: str) -> Iterator[DataFinding]:
    train = facts.listing.train
    why = f"The model has seen these pixels with their labels: the score on {split} is too high."
    if split == train:
        what = f"{split} is both trained on and scored"
        yield finding("leak", HURTS, what, why, "data.val=<a split of other images>")
        return
    in_train, scored = set(facts.listing.splits[train].tolist()), facts.listing.splits[split].tolist()
    in_scored = set(scored)
    twin = {i: i for i in scored if i in in_train}  # scored sample -> one of train with the same image
    for group in groups:
        trained = [i for i in group if i in in_train]
        if trained:
            twin = {**{i: trained[0] for i in group if i in in_scored}, **twin}
    if twin:
        files = [
            f"{_file(facts, i)} in both lists" if i == j else f"{_file(facts, i)} and {_file(facts, j)}"
            for i, j in sorted(twin.items())
        ]
        same_file = sum((facts.sha256[i] == facts.sha256[j]).all() if i != j else 1 for i, j in twin.items())
        again = _again(len(twin), same_file)
        are = f"of {split} is", f"of {split} are"
        what = f"{some_of(len(twin), len(scored), 'image', *are)} also in {train}{again}"
        remedy = f"Take them out of the list of {train}, or out of that of {split}."
        yield finding("leak", HURTS, what, why, remedy, files)


def _repeats(facts: Facts, groups: list[list[int]], split: str) -> Iterator[DataFinding]:
    own = set(facts.listing.splits[split].tolist())
    inside = [[i for i in group if i in own] for group in groups]
    later = [(group[0], i) for group in inside for i in group[1:] if not _contradict(facts, group[0], i)]
    if later:
        same_file = sum((facts.sha256[i] == facts.sha256[j]).all() for i, j in later)
        yield finding(
            "repeats",
            NOTE,
            f"{some_of(len(later), len(own), 'image', f'of {split} is', f'of {split} are')} repeated"
            f"{_again(len(later), same_file)}",
            "A repeated image counts twice in every epoch, or twice in the score.",
            f"Keep one of each in the list of {split}.",
            [f"{_file(facts, j)} as {_file(facts, i)}" for i, j in later],
        )


def _contradictions(facts: Facts, groups: list[list[int]]) -> Iterator[DataFinding]:
    differing = [(group[0], i) for group in groups for i in group[1:] if _contradict(facts, group[0], i)]
    if differing:
        samples = facts.listing.samples
        yield finding(
            "contradiction",
            HURTS,
            f"{quantity(len(differing), 'image')} repeated with another mask",
            "The same pixels have two different labels, and one of the masks is wrong.",
            "Look at both masks and keep the right one.",
            [f"{samples[i].name} and {samples[j].name}" for i, j in differing],
        )


def _contradict(facts: Facts, i: int, j: int) -> bool:
    """Whether two masks of the same size have different pixel counts; other sizes are not compared."""
    same_size = bool((facts.mask_sizes[i] == facts.mask_sizes[j]).all())
    return same_size and facts.counts_of(i) != facts.counts_of(j)


def _file(facts: Facts, i: int) -> str:
    return str(facts.listing.samples[i].image or facts.listing.samples[i].id)


def _again(total: int, same_file: int) -> str:
    return f" ({total - same_file} of them saved again)" if same_file < total else ""
