"""Folds of a split for cross-validation: each image is in one of them, and the classes are spread evenly.

Shapes: N images, G groups, C classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.data.sample import DataError
from engine.data.sequences import are_consecutive, group_name, group_of_frames, sequences_of


def group_pattern(ids: Sequence[str]) -> str | None:
    """The pattern of a sequence's name, where the names are those of frames with consecutive numbers."""
    several = [frames for frames in sequences_of(ids).values() if len(frames) > 1]
    return group_of_frames(ids) if all(are_consecutive([*frames]) for frames in several) else None


def make_folds(
    ids: Sequence[str], pixels: NDArray[np.int64], num_folds: int, pattern: str | None = None
) -> list[list[str]]:
    """The ids of each fold, in the order of the split; the same each time.

    As in StratifiedGroupKFold of scikit-learn, groups are assigned one after the other, those that hold the
    largest share of a class first, each to the fold that has least of what it holds: images, images of each
    class, and pixels of each class, as shares of all.

    Args:
        pixels: (N, C) pixels of each class in each image.
        pattern: of the part of an id that the images of one group share; None: each image is a group.

    Raises:
        DataError: there are fewer groups than folds.
    """
    names = [group_name(id, pattern) for id in ids]
    _, first, group_of = np.unique(names, return_index=True, return_inverse=True)
    if len(first) < num_folds:
        raise DataError(f"{num_folds} folds need as many groups, and there are {len(first)}.")
    counts = np.zeros((len(first), 1 + 2 * pixels.shape[1]))
    np.add.at(counts, group_of, np.column_stack([np.ones(len(ids)), pixels > 0, pixels]))
    shares = counts / np.maximum(counts.sum(axis=0), 1)  # (G, 1 + 2 C)
    weights = np.ones(shares.shape[1])
    weights[0] = len(weights)  # the number of images counts as much as all classes together
    held = np.zeros((num_folds, shares.shape[1]))
    fold_of = np.zeros(len(first), int)
    for group in np.lexsort((first, -shares.max(axis=1))):
        fold = fold_of[group] = np.argmin(held @ (weights * shares[group]))
        held[fold] += shares[group]
    return [
        [id for id, group in zip(ids, group_of, strict=True) if fold_of[group] == fold]
        for fold in range(num_folds)
    ]
