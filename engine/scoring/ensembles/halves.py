"""Honest figures from one set of images: chosen on one half, reported on the other, many times over.

Each time the images are halved at random, each half reports what the other one chose, so every image is
reported once; the counts of all times are added up. Knows nothing of files.

Shapes: N images, C classes.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.scoring.combining import Combination
from engine.scoring.ensembles.methods import Choice, Evidence, alone, choose
from engine.scoring.statistics import Overlaps

BEST_MEMBER = "best member"
Wanted = Callable[[int], list[Combination]]  # of the row of an image
OnRow = Callable[[int, Mapping[Combination, Overlaps]], None]  # its row, its (2, C) counts
Half = tuple[NDArray[np.bool_], dict[str, Choice]]  # the images that chose, what they chose


def count_across_halves(
    methods: Sequence[str],
    seen: Evidence,
    repeats: int,
    count: Callable[[Wanted, OnRow], None],
    progress: Callable[[int, int], None],
) -> dict[str, Overlaps]:
    """(N, 2, C) of each method and of BEST_MEMBER, which is a choice as well, summed over the repeats.

    Args:
        seen: of all N images.
        count: `count(wanted, on_row)` asks for the combinations of each image by row, and tells its counts.
        progress: called with (halvings done, all).
    """
    halves: list[Half] = []
    for repeat in range(repeats):
        halves += _choose_by_halves(methods, seen, repeat)
        progress(repeat + 1, repeats)
    totals = {name: np.zeros_like(seen.overlaps[0]) for name in (*methods, BEST_MEMBER)}

    def choices_for(row: int) -> list[tuple[str, Choice]]:
        """Those of the halves that the image is not in."""
        return [item for chosen_on, choices in halves if not chosen_on[row] for item in choices.items()]

    def wanted(row: int) -> list[Combination]:
        return [c.combination for _, c in choices_for(row) if not c.soup and c.member is None]

    def on_row(row: int, counted: Mapping[Combination, Overlaps]) -> None:
        for name, choice in choices_for(row):
            totals[name][row] += _counts_of(seen, choice, row, counted)

    count(wanted, on_row)
    return totals


def _counts_of(seen: Evidence, choice: Choice, row: int, counted: Mapping[Combination, Overlaps]) -> Overlaps:
    """(2, C) of one image: of a soup, of a member alone, or what was counted for it."""
    if not choice.soup and choice.member is None:
        return counted[choice.combination]
    of_all = seen.overlaps_of_soup(choice.soup) if choice.soup else seen.overlaps[choice.member or 0]
    of_one: Overlaps = of_all[row]
    return of_one


def _choose_by_halves(methods: Sequence[str], seen: Evidence, repeat: int) -> list[Half]:
    num_images, num_members = len(seen.ids), len(seen.names)
    order = np.random.default_rng([1, repeat]).permutation(num_images)
    first = np.zeros(num_images, dtype=np.bool_)
    first[order[: num_images // 2]] = True
    found: list[Half] = []
    for half in (first, ~first):
        evidence = seen.of(half)
        choices = {method: choose(method, evidence) for method in methods}
        choices[BEST_MEMBER] = Choice(alone(evidence.best_member, num_members))
        found.append((half, choices))
    return found
