"""Duplicate images, the same bytes or the same image saved again: repeats in a split, leaks between splits.

Equal files have equal SHA-256. Near-duplicates differ in at most MAX_BITS of their 64-bit difference hash
(Krawetz, 2013), and then by little in thumbnails of 32 x 32 px, normalised for brightness and contrast,
because the photos of a series have similar hashes too. Successive frames of a video are near-duplicates: a
leak, but no repetition, and their masks differ with reason: where these differ, the pixels are compared.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.division import share_key
from engine.data.doctor.findings import HURTS, NOTE, DataFinding, finding
from engine.data.doctor.image_facts import THUMB_PX
from engine.data.doctor.listing import Listed
from engine.data.doctor.scan import Facts
from engine.data.formats.files import FileDataset
from engine.data.formats.images import decode_image
from engine.data.formats.value_range import ValueRange
from engine.data.ranges import range_of
from engine.data.sample import DataError
from engine.wording import quantity, some_of

MAX_BITS = 6
# Root mean square between normalised thumbnails: at least 0.33 between 1,023 VOC photos, at most 0.10 for
# copies of half the size, and 0.05 for copies saved at JPEG quality 30.
MAX_DIFFERENCE = 0.15
MIN_CONTRAST = 8.0  # standard deviation of a thumbnail, 0..255; flat images all look alike
# Mean over the grey pixels, 0..255, where two masks differ. Of 60 VOC photos: at most 7.6 between a photo and
# a copy saved at JPEG quality 75, and at least 8.1 where an object moves by 1 px.
MAX_PIXEL_DIFFERENCE = 8.0
ROWS_AT_ONCE = 512
WAS_SEEN = "The model has seen these pixels with their labels: the score on {} is too high."


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
    kept = facts.thumbs[candidates].std((1, 2)) >= MIN_CONTRAST
    candidates, hashes = candidates[kept], facts.dhash[candidates[kept]]
    thumbs = normalised(facts.thumbs[candidates])  # (m, 1024)
    for start in range(0, len(hashes), ROWS_AT_ONCE):
        rows = hashes[start : start + ROWS_AT_ONCE, None]
        close = np.bitwise_count(rows ^ hashes[start:]) <= MAX_BITS  # (rows, m - start)
        for row, column in np.argwhere(np.triu(close, 1)):
            i, j = start + row, start + column
            if np.sqrt(np.mean((thumbs[i] - thumbs[j]) ** 2)) <= MAX_DIFFERENCE:
                yield int(candidates[i]), int(candidates[j])


def normalised(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 32, 32) -> (n, 1024) of mean 0 and standard deviation 1, so that brightness does not matter."""
    flat = thumbs.reshape(len(thumbs), THUMB_PX**2).astype(np.float32)
    scaled: NDArray[np.float32] = (flat - flat.mean(1, keepdims=True)) / np.maximum(
        flat.std(1, keepdims=True), 1
    )
    return scaled


def check_copies(facts: Facts) -> Iterator[DataFinding]:
    """Leaks between splits, repeats within a split, duplicates whose masks differ."""
    listing = facts.listing
    groups = find_groups(facts) if listing.has_files else []
    for split in listing.scored:
        if {split, listing.train} <= listing.splits.keys():
            yield from _leak(facts, groups, split)
    yield from _chosen_on(facts, groups)
    for split in listing.splits:
        yield from _repeats(facts, groups, split)
    yield from _contradictions(facts, groups)


def _leak(facts: Facts, groups: list[list[int]], split: str) -> Iterator[DataFinding]:
    """Images of a scored split that are trained on."""
    if split == facts.listing.train:
        yield trained_and_scored(facts.listing.section, split)
    else:
        yield from _shared(facts, groups, split, facts.listing.train, WAS_SEEN.format(split))


def trained_and_scored(section: Any, split: str) -> DataFinding:
    """Of a split that is data.train, and data.val or data.select, too."""
    of_val, of_select = "data.val=<a split of other images>", "data.select=<a split of other images>"
    if share_key(section) or section.format == "synthetic":  # there are two splits only
        of_select = "data.select=null"
    remedy = of_val if split == section.val else of_select
    return finding("leak", HURTS, f"{split} is both trained on and scored", WAS_SEEN.format(split), remedy)


def _chosen_on(facts: Facts, groups: list[list[int]]) -> Iterator[DataFinding]:
    """Images of val that the split has on which checkpoints are chosen."""
    listing, val, select = facts.listing, facts.listing.section.val, facts.listing.section.select
    if select not in (None, val) and {val, select} <= listing.splits.keys() - {listing.train}:
        why = f"Checkpoints are chosen by scores on these images: the score on {val} is slightly too high."
        yield from _shared(facts, groups, val, select, why)


def _shared(facts: Facts, groups: list[list[int]], split: str, other: str, why: str) -> Iterator[DataFinding]:
    """The images of a split that are in another one too, also as a copy."""
    in_other, own = set(facts.listing.splits[other].tolist()), facts.listing.splits[split].tolist()
    in_own = set(own)
    twin = {i: i for i in own if i in in_other}  # sample of the split -> one of the other with the same image
    for group in groups:
        others = [i for i in group if i in in_other]
        if others:
            twin = {**{i: others[0] for i in group if i in in_own}, **twin}
    if twin:
        files = [
            f"{_file(facts, i)} in both lists" if i == j else f"{_file(facts, i)} and {_file(facts, j)}"
            for i, j in sorted(twin.items())
        ]
        same_file = sum((facts.sha256[i] == facts.sha256[j]).all() if i != j else 1 for i, j in twin.items())
        again = _again(len(twin), same_file)
        are = f"of {split} is", f"of {split} are"
        what = f"{some_of(len(twin), len(own), 'image', *are)} also in {other}{again}"
        remedy = f"Take them out of the list of {other}, or out of that of {split}."
        if share_key(facts.listing.section):
            remedy = "Keep one file of each, with its mask, and move the others out of the folder."
        yield finding("leak", HURTS, what, why, remedy, files)


def _repeats(facts: Facts, groups: list[list[int]], split: str) -> Iterator[DataFinding]:
    own = set(facts.listing.splits[split].tolist())
    inside = [[i for i in group if i in own] for group in groups]
    nearest = [pair for group in inside for pair in _nearest_earlier(facts, group)]
    later = [(i, j) for i, j in nearest if not _masks_differ(facts, i, j) and _same_pixels(facts, i, j)]
    if later:
        same_file = sum((facts.sha256[i] == facts.sha256[j]).all() for i, j in later)
        yield finding(
            "repeats",
            NOTE,
            f"{some_of(len(later), len(own), 'image', f'of {split} is', f'of {split} are')} repeated"
            f"{_again(len(later), same_file)}",
            "A repeated image counts twice in every epoch, or twice in the score.",
            "Keep one file of each, with its mask, and move the others out of the folder."
            if share_key(facts.listing.section)
            else f"Keep one of each in the list of {split}.",
            [f"{_file(facts, j)} as {_file(facts, i)}" for i, j in later],
        )


def _contradictions(facts: Facts, groups: list[list[int]]) -> Iterator[DataFinding]:
    nearest = [pair for group in groups for pair in _nearest_earlier(facts, group)]
    differing = [(i, j) for i, j in nearest if _masks_differ(facts, i, j) and _same_pixels(facts, i, j)]
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


def _nearest_earlier(facts: Facts, group: list[int]) -> Iterator[tuple[int, int]]:
    """Each sample of a group but the first, after the most similar of those before it."""
    thumbs = normalised(facts.thumbs[group])
    for place in range(1, len(group)):
        differences = ((thumbs[:place] - thumbs[place]) ** 2).sum(axis=1)
        yield group[int(differences.argmin())], group[place]


def _masks_differ(facts: Facts, i: int, j: int) -> bool:
    """Whether two masks of the same size have different pixel counts; other sizes are not compared."""
    same_size = bool((facts.mask_sizes[i] == facts.mask_sizes[j]).all())
    return same_size and facts.counts_of(i) != facts.counts_of(j)


def _same_pixels(facts: Facts, i: int, j: int) -> bool:
    """Whether two similar images are the same where their masks differ, up to being saved again."""
    if (facts.sha256[i] == facts.sha256[j]).all():
        return True
    spans, samples = facts.spans[[i, j]], [facts.listing.samples[k] for k in (i, j)]
    value_range = facts.listing.value_range or (None if np.isnan(spans).any() else range_of(spans))
    try:
        one, other = (_grey(sample, value_range) for sample in samples)
        mask, other_mask = (_stored_mask(sample) for sample in samples)
    except DataError:
        return False
    if one.shape != other.shape or mask.shape != other_mask.shape or mask.shape[:2] != one.shape:
        return True  # of another size, or turned by EXIF: not compared
    differs = mask != other_mask
    pixels = np.abs(one - other)[differs if differs.ndim == 2 else differs.any(axis=2)]
    return not len(pixels) or bool(pixels.mean() <= MAX_PIXEL_DIFFERENCE)


def _stored_mask(sample: Listed) -> NDArray[Any]:
    assert isinstance(sample.dataset, FileDataset)  # the others have no image files
    return sample.dataset.stored_mask(sample.index)


def _grey(sample: Listed, value_range: ValueRange | None) -> NDArray[np.float32]:
    """(h, w), 0..255."""
    assert sample.image is not None
    grey: NDArray[np.float32] = decode_image(sample.image, value_range)[0].mean(axis=2, dtype=np.float32)
    return grey


def _file(facts: Facts, i: int) -> str:
    return str(facts.listing.samples[i].image or facts.listing.samples[i].id)


def _again(total: int, same_file: int) -> str:
    return f" ({total - same_file} of them saved again, or almost the same)" if same_file < total else ""
