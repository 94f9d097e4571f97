"""Deliberately wrong labels: another class, a shifted mask, a missing object.

Shapes: label maps (h, w) uint8, class 0 background.
"""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint8]
KINDS = ("swapped class", "shifted mask", "missing object")
SHIFT = 0.1  # of the shorter side
LEAST_OBJECT = 0.01  # of the image: smaller ones are not changed
VOID_RIM_PX = 6  # the void around a removed object is removed too


def corrupt(labels: Labels, kind: str, num_classes: int, ignore_index: int, rng: Generator) -> Labels | None:
    """A wrong copy; None where there is no object to change."""
    if kind == "shifted mask":
        angle, distance_px = rng.uniform(0, 2 * math.pi), SHIFT * min(labels.shape)
        moved = np.rint([distance_px * math.sin(angle), distance_px * math.cos(angle)])
        spoiled = ndimage.shift(labels, moved, order=0, cval=0)
        return spoiled if _objects(labels, ignore_index) else None
    objects = _objects(labels, ignore_index)
    if not objects:
        return None
    mask = objects[rng.integers(len(objects))]
    spoiled = labels.copy()
    if kind == "swapped class":
        others = [c for c in range(1, num_classes) if c != labels[mask][0]]
        spoiled[mask] = rng.choice(others)
    else:
        rim = ndimage.binary_dilation(mask, iterations=VOID_RIM_PX) & (labels == ignore_index)
        spoiled[mask | rim] = 0
    return spoiled


def corrupt_some(
    labels: dict[str, Labels], share: float, num_classes: int, ignore_index: int, rng: Generator
) -> tuple[dict[str, Labels], dict[str, str]]:
    """All labels, of which `share` are wrong, with the kinds in turn; and the kind of each wrong one."""
    spoiled, kinds = dict(labels), {}
    wanted = round(share * len(labels))
    for id in rng.permutation(sorted(labels)).tolist():
        if len(kinds) == wanted:
            break
        kind = KINDS[len(kinds) % len(KINDS)]
        new = corrupt(labels[id], kind, num_classes, ignore_index, rng)
        if new is not None and (new != labels[id]).any():
            spoiled[id], kinds[id] = new, kind
    return spoiled, kinds


def share_found(ranking: list[str], spoiled: dict[str, str], among: float = 0.1) -> float:
    """The share of the wrong images that are in the first tenth of a ranking."""
    first = set(ranking[: round(among * len(ranking))])
    return len(first & spoiled.keys()) / len(spoiled)


def _objects(labels: Labels, ignore_index: int) -> list[NDArray[np.bool_]]:
    """A mask for each connected object that is large enough."""
    found = []
    for id in np.unique(labels):
        if id in (0, ignore_index):
            continue
        numbers, num = ndimage.label(labels == id)
        found += [numbers == number for number in range(1, num + 1)]
    return [mask for mask in found if mask.sum() >= LEAST_OBJECT * labels.size]
