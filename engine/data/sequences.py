"""Sequences of frames, such as of a video, as the names of images show them."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

FRAME = r"(.*\D)(\d+)"  # the name of a sequence and the number of a frame
GROUP = r"^(.*\D)\d+$"  # the same, as data.folder.group takes it
MIN_SEQUENCES = 3
MIN_FRAMES = 3  # on average


def sequences_of(ids: Sequence[str]) -> dict[str, dict[int, int]]:
    """By the name of a sequence, its frames: number -> place in `ids`. Other ids are left out."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for place, id in enumerate(ids):
        if match := re.fullmatch(FRAME, id):
            found[match[1]][int(match[2])] = place
    return dict(found)


def group_of_frames(ids: Sequence[str]) -> str | None:
    """The pattern of a sequence's name, where the names show several sequences of several frames."""
    sequences = sequences_of(ids)
    num_frames = sum(map(len, sequences.values()))
    several = [name for name, frames in sequences.items() if len(frames) > 1]
    is_video = (
        len(several) >= MIN_SEQUENCES and num_frames == len(ids) and num_frames >= MIN_FRAMES * len(sequences)
    )
    return GROUP if is_video else None


def group_name(id: str, pattern: str | None) -> str:
    """The part of an id that all images of a group share; without a match the id itself."""
    match = re.search(pattern, id) if pattern else None
    return (match[1] or "") if match else id


def are_consecutive(numbers: Sequence[int]) -> bool:
    """Whether numbers of frames are at even distances, with at most half of them missing."""
    steps = np.diff(np.sort(numbers)).tolist()
    return bool(steps) and 2 * len(steps) >= sum(steps) / math.gcd(*steps)
