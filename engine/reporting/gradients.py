"""Blocks of a network whose gradient is zero or far too large.

A measurement is a row of the log with "gradients/norm/<block>" in it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from engine.wording import quantity

LOOKS_IN_A_ROW = 2  # drop path can leave a block without a gradient once, and fp16 can overflow in one update
EXPLODING_FACTOR = 1000.0  # times the median block; new networks have up to a hundred
NUM_NAMED = 5
TAG = "gradients/norm/"

Look = Mapping[str, float]


def dead_blocks(looks: Sequence[Look]) -> list[str]:
    """Blocks whose gradient was exactly 0 in each of the last measurements."""
    return _in_a_row(looks, lambda norm, middle: norm == 0)


def exploding_blocks(looks: Sequence[Look]) -> list[str]:
    """Blocks whose gradient was NaN, infinite or far above the median in each of the last measurements."""
    return _in_a_row(looks, lambda norm, middle: not norm <= EXPLODING_FACTOR * middle)


def named(blocks: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    more = f" and {quantity(len(blocks) - NUM_NAMED, 'more block')}" if len(blocks) > NUM_NAMED else ""
    return ", ".join(blocks[:NUM_NAMED]) + more


def _in_a_row(looks: Sequence[Look], is_bad: Callable[[float, float], bool]) -> list[str]:
    if len(looks) < LOOKS_IN_A_ROW:
        return []
    found = [_bad(look, is_bad) for look in looks[-LOOKS_IN_A_ROW:]]
    return [block for block in found[-1] if all(block in bad for bad in found)]


def _bad(look: Look, is_bad: Callable[[float, float], bool]) -> list[str]:
    norms = {tag.removeprefix(TAG): norm for tag, norm in look.items() if tag.startswith(TAG)}
    alive = [norm for norm in norms.values() if math.isfinite(norm) and norm > 0]
    middle = median(alive) if alive else math.inf
    return [block for block, norm in norms.items() if is_bad(norm, middle)]
