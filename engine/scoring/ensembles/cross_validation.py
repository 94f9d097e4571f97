"""Honest scores from one set of images: repeated two-fold cross-validation.

The images are halved at random several times. Each half is scored with the ensemble that was selected on the
other half, so every image is scored once per repeat. The counts of all repeats are added up.

Shapes: N images, C classes.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.run_folder import RunFolderError
from engine.scoring.combining import Combination
from engine.scoring.ensembles.methods import choose_ensemble
from engine.scoring.ensembles.selection import Ensemble, SelectionData, one_hot
from engine.scoring.statistics import Overlaps

BEST_MEMBER = "best member"
Wanted = Callable[[int], list[Combination]]  # of the row of an image
OnRow = Callable[[int, Mapping[Combination, Overlaps]], None]  # its row, its (2, C) counts
Fold = tuple[NDArray[np.bool_], dict[str, Ensemble]]  # (N,) images for the selection; what was selected


def cross_validate(
    methods: Sequence[str],
    data: SelectionData,
    repeats: int,
    count: Callable[[Wanted, OnRow], None],
    progress: Callable[[int, int], None],
) -> dict[str, Overlaps]:
    """(N, 2, C) of each method and of BEST_MEMBER, selected in the same way, summed over the repeats.

    Args:
        data: of all N images.
        count: `count(wanted, on_row)` counts each image with the combinations `wanted(row)`, and passes the
            counts to `on_row`.
        progress: called with (repeats done, all).

    Raises:
        RunFolderError: fewer than two images have a labelled pixel.
    """
    if np.count_nonzero(data.overlaps[0][:, 1].any(axis=1)) < 2:
        raise RunFolderError(
            "--split-half: fewer than two of the images have a labelled pixel, so they cannot be halved. "
            "Leave it out."
        )
    folds: list[Fold] = []
    for repeat in range(repeats):
        folds += _choose_on_halves(methods, data, repeat)
        progress(repeat + 1, repeats)
    totals = {name: np.zeros_like(data.overlaps[0]) for name in (*methods, BEST_MEMBER)}

    def ensembles_for(row: int) -> list[tuple[str, Ensemble]]:
        """Those that were selected without this image."""
        return [item for chosen_on, ensembles in folds if not chosen_on[row] for item in ensembles.items()]

    def wanted(row: int) -> list[Combination]:
        return [e.combination for _, e in ensembles_for(row) if not e.soup and e.single_member is None]

    def on_row(row: int, counted: Mapping[Combination, Overlaps]) -> None:
        for name, ensemble in ensembles_for(row):
            totals[name][row] += _counts_of(data, ensemble, row, counted)

    count(wanted, on_row)
    return totals


def _counts_of(
    data: SelectionData, ensemble: Ensemble, row: int, counted: Mapping[Combination, Overlaps]
) -> Overlaps:
    """(2, C) of one image, for a soup, a single member, or a combination that was counted."""
    if ensemble.soup:
        found: Overlaps = data.overlaps_of_soup(ensemble.soup)[row]
    elif ensemble.single_member is not None:
        found = data.overlaps[ensemble.single_member][row]
    else:
        found = counted[ensemble.combination]
    return found


def _choose_on_halves(methods: Sequence[str], data: SelectionData, repeat: int) -> list[Fold]:
    num_images, num_members = len(data.ids), data.num_members
    labelled = np.flatnonzero(data.overlaps[0][:, 1].any(axis=1))  # on the others nothing can be selected
    order = np.random.default_rng([1, repeat]).permutation(labelled)
    first = np.zeros(num_images, dtype=np.bool_)
    first[order[: len(labelled) // 2]] = True
    folds: list[Fold] = []
    for half in (first, ~first):
        seen = data.of_images(half)
        ensembles = {method: choose_ensemble(method, seen) for method in methods}
        ensembles[BEST_MEMBER] = Ensemble(one_hot(seen.best_member, num_members))
        folds.append((half, ensembles))
    return folds
