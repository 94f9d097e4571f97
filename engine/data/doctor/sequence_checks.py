"""Frames of one sequence in train and in a scored split: they are so similar that the score is too high.

Names alone do not tell: those of VOC2012 begin with a year, others with a class. The sequences are real where
the frames of val look more like their neighbours in train than like other images.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from engine.data import open_split
from engine.data.doctor.copies import normalised
from engine.data.doctor.division import by_hand, share_key
from engine.data.doctor.findings import HURTS, NOTE, DataFinding, finding
from engine.data.doctor.scan import Facts
from engine.data.formats import OF_POLYGONS
from engine.data.options import Data
from engine.data.sample import DataError
from engine.data.sequences import GROUP, MIN_SEQUENCES, are_consecutive, group_of_frames, sequences_of
from engine.wording import quantity, some_of

MAX_PAIRS = 500  # of thumbnails that are compared
SHARES = (0.2, 0.3, 0.4, 0.5, 0.7)  # of the images for val, where their own share leaves a side empty
SEPARATORS = "-_ /"  # between the name of a sequence and the number of a frame
ALIKE = 0.7  # of the difference between images of different sequences


def check_sequences(facts: Facts) -> Iterator[DataFinding]:
    """For each scored split, the sequences that have frames there and in train."""
    listing = facts.listing
    if listing.train not in listing.splits:
        return
    train = listing.splits[listing.train]
    for split in listing.scored:
        if split in listing.splits and split != listing.train:
            yield from _in_both(facts, train, listing.splits[split], split)


def _in_both(
    facts: Facts, train: NDArray[np.int64], scored: NDArray[np.int64], split: str
) -> Iterator[DataFinding]:
    listing = facts.listing
    own, of_train = np.setdiff1d(scored, train), set(train.tolist())  # `leak` names those in both lists
    both = [*train.tolist(), *own.tolist()]
    ids = [listing.samples[i].id for i in both]
    shared = {}  # name of the sequence -> number of a frame -> sample
    for name, frames in sequences_of(ids).items():
        samples = {number: both[place] for number, place in frames.items()}
        if 0 < sum(i in of_train for i in samples.values()) < len(samples):
            shared[name] = samples
    if not shared:
        return
    look_alike = listing.has_files and _look_alike(facts, shared, of_train)
    seem_frames = group_of_frames(ids) and all(are_consecutive([*f]) for f in shared.values())
    if not look_alike and not seem_frames:
        return
    num = sum(i not in of_train for frames in shared.values() for i in frames.values())
    are = f"of {split} is a frame", f"of {split} are frames"
    what = f"{some_of(num, len(scored), 'image', *are)} of sequences that {listing.train} has, too"
    yield finding(
        "sequences",
        HURTS if look_alike else NOTE,
        f"{what}: {quantity(len(shared), 'sequence')}" + ("" if look_alike else ", by their names"),
        f"Frames of one sequence are similar, so the score on {split} is higher than on new sequences.",
        _remedy(listing.section, len(scored) / (len(train) + len(scored)), len(shared)),
        [
            f"{name.rstrip(SEPARATORS)}: {_count(frames, of_train, listing.train, split)}"
            for name, frames in shared.items()
        ],
    )


def _count(frames: dict[int, int], of_train: set[int], train: str, split: str) -> str:
    num = sum(i in of_train for i in frames.values())
    return f"{quantity(num, 'frame')} in {train}, {len(frames) - num} in {split}"


def _look_alike(facts: Facts, shared: dict[str, dict[int, int]], of_train: set[int]) -> bool:
    """Whether frames of the scored split differ less from the nearest frame of train than from any other."""
    pairs = []
    for frames in shared.values():
        numbers = np.array([number for number, i in frames.items() if i in of_train])
        for number, i in frames.items():
            if i not in of_train:
                pairs.append((i, frames[int(numbers[np.abs(numbers - number).argmin()])]))
    rng = np.random.default_rng(0)
    chosen = np.array(pairs)[rng.permutation(len(pairs))[:MAX_PAIRS]]  # (p, 2)
    name_of = {i: name for name, frames in shared.items() for i in frames.values()}
    others = np.array(sorted(of_train))
    distant = []
    for i in chosen[:, 0].tolist():
        of_other = [j for j in rng.choice(others, 8).tolist() if name_of.get(j) != name_of[i]]
        distant.append(of_other[0] if of_other else int(rng.choice(others)))
    own, near, far = (normalised(facts.thumbs[column]) for column in (*chosen.T, np.array(distant)))

    def difference(other: NDArray[np.float32]) -> float:
        return float(np.median(np.sqrt(((own - other) ** 2).mean(axis=1))))

    return difference(near) <= ALIKE * difference(far)


def _remedy(section: Any, share: float, num_sequences: int) -> str:
    """Recipe lines that put each sequence on one side, where they open; else what to do by hand."""
    if section.fold is not None:
        return (
            f"To have each sequence in one fold, add --group '{GROUP}' and another --out to the comparison."
        )
    move = "Move the frames of each sequence to one of the two splits."
    if share_key(section):
        move = f"To have each sequence in one of the two splits, {by_hand(section)}."
    if num_sequences < MIN_SEQUENCES:
        return f"{move} If there is only one, score its last part and leave out the frames just before."
    values = section.model_dump(exclude_unset=True)
    own = "polygons" if section.format in OF_POLYGONS else "folder"  # the section of the split
    split = {**(values.get(own) or {}), "group": GROUP}
    lines = [f"'data.{own}.group={GROUP}'"]
    if section.format == "voc":
        lines += ["data.format=folder", *([] if "classes" in values else ["data.classes=voc21"])]
        values = {"classes": "voc21", **values, "format": "folder"}
    given = split.get("val_share")
    for val_share in (given or max(0.05, round(share, 2)), *SHARES):
        if _opens({**values, own: {**split, "val_share": val_share}}):
            lines += [] if val_share == given else [f"data.{own}.val_share={val_share:g}"]
            return f"Split by sequence: {' '.join(lines)}"
    return move


def _opens(values: dict[str, Any]) -> bool:
    try:
        data = Data.model_validate(values)
        for split in (data.train, data.val):
            open_split(data, split)
    except (ValidationError, DataError):
        return False
    return data.select is None
