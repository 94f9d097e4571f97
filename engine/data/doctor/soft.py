"""Soft masks: colours, or black and white, with values close to those of the classes.

JPEG and interpolation make them, and models that write probabilities. A value close to that of a class is
taken for it. A farther one, as at a border between two classes, is void in masks of colours; in black and
white it is class 1 above half of the range.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.mask_facts import has_colours
from engine.data.formats.masks import BlackAndWhite, Colours

COLOUR_DISTANCE = 32.0  # in RGB, at most; the colours of VOC are at least 64 apart
GREY_DISTANCE = 64.0  # from 0 or 255
CHANNEL_SPREAD = 16  # between the channels of a gray pixel; JPEG changes it by a few
# Of the pixels of a soft mask: those far from all classes, together and of one value. Masks of 40 VOC photos,
# saved in colours as JPEG of quality 50, have at most 0.062 and 0.0013.
MAX_FAR, MAX_FAR_OF_ONE = 0.1, 0.005

MIN_CLASS = 2e-3  # share of the pixels that a class has at least in soft masks
MIN_ENDS, MIN_SURE_ENDS = 0.5, 0.8  # share of the pixels at both ends of the range
MAX_LEVEL = 0.01  # of the pixels, for a single gray in the middle: above, it is a class of its own


def are_black_and_white(levels: NDArray[Any], counts: NDArray[Any]) -> bool:
    """Whether gray levels 0..255 and their pixels, over all masks, are those of two classes, softened.

    JPEG and interpolation leave nearly all pixels at both ends; probabilities gather there, and have every
    value in between.
    """
    eighths = np.bincount(levels.astype(np.int64) // 32, counts, minlength=8) / counts.sum()
    ends, between = eighths[[0, 7]], eighths[1:7]
    middle = counts[(levels >= 64) & (levels < 192)] / counts.sum()
    if ends.min() < MIN_CLASS or middle.max(initial=0) > MAX_LEVEL:
        return False
    return bool(ends.sum() >= MIN_SURE_ENDS or (ends.sum() >= MIN_ENDS and ends.min() > between.mean()))


def white_of(form: str, values: NDArray[Any]) -> float:
    """The value of white in soft masks of black and white, from (k,) values of all masks of a pixel type."""
    known = values[~np.isnan(values)]
    if form.startswith("float") and known.min(initial=0) >= 0 and known.max(initial=0) <= 1:
        return 1.0
    return 65535.0 if form == "uint16" and known.max(initial=0) > 255 else 255.0


def nearest_labels(
    encoding: Colours | BlackAndWhite, values: NDArray[Any], form: str, void: int, white: float = 255.0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Label ids of (k,) stored values of one mask, and which of them are far from those of all classes.

    Args:
        white: of `white_of`.
    """
    if isinstance(encoding, Colours):
        known = np.array(encoding.colours, np.float64)  # (n, 3)
        between = np.linalg.norm(known[:, None] - known[None], axis=2)  # (n, n)
        limit = min(COLOUR_DISTANCE, between[between > 0].min(initial=np.inf) / 2)
        distances = np.linalg.norm(_channels(values)[:, None] - known, axis=2)  # (k, n)
        far = distances.min(axis=1) > limit
        labels = np.array(encoding.labels, np.uint8)[distances.argmin(axis=1)]
        return np.where(far, void, labels).astype(np.uint8), far
    if has_colours(form):
        channels = _channels(values)  # (k, 3)
        level, far = channels.mean(axis=1), np.ptp(channels, axis=1) > CHANNEL_SPREAD
    else:
        level, far = values.astype(np.float64), np.zeros(len(values), bool)
    level = level * (255 / white)
    if white != 1:  # of probabilities from 0 to 1 none is far
        far |= (np.minimum(abs(level), abs(255 - level)) > GREY_DISTANCE) & ~np.isnan(level)
    return np.where(np.isnan(level), void, level >= 127.5).astype(np.uint8), far


def is_soft(
    encoding: Colours | BlackAndWhite,
    values: NDArray[Any],
    counts: NDArray[Any],
    form: str,
    white: float = 255.0,
) -> bool:
    """Whether nearly all pixels of a mask are close to a class, given its values and their pixels."""
    far_counts = counts[nearest_labels(encoding, values, form, 0, white)[1]]
    total = counts.sum()
    return bool(far_counts.sum() <= MAX_FAR * total and far_counts.max(initial=0) <= MAX_FAR_OF_ONE * total)


def _channels(packed: NDArray[Any]) -> NDArray[np.float64]:
    """(k,) 0xRRGGBB -> (k, 3)"""
    codes = packed.astype(np.int64)
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.float64)
