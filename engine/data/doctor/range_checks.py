"""Checks of the values of images with more than 8 bits per channel: do they fit data.range?"""

from collections.abc import Iterator

import numpy as np

from engine.data.doctor.findings import HURTS, NOTE, DataFinding, finding
from engine.data.doctor.scan import Facts
from engine.data.formats.value_range import ValueRange
from engine.data.ranges import probed, range_of
from engine.wording import quantity, some_of

FLAT = 1 / 16  # of the range: an image that uses less is of nearly one grey


def check_ranges(facts: Facts) -> Iterator[DataFinding]:
    """Which values the images hold, and those that data.range does not fit."""
    wide = np.flatnonzero(~np.isnan(facts.spans[:, 0]))
    if not len(wide):
        return
    low, high = used = facts.listing.value_range or _measured(facts)
    spans = facts.spans[wide]  # (n, 2)
    yield finding(
        "range",
        NOTE,
        f"{some_of(len(wide), len(facts.spans), 'image', 'has', 'have')} more than 8 bits per channel, with "
        f"values from {spans[:, 0].min():g} to {spans[:, 1].max():g}; {low:g} becomes black, {high:g} white",
        "They are read with 8 bits per channel, in equal steps of this range.",
        "Nothing, if these are the darkest and the brightest value that matter; else "
        "'data.range=[<lowest>, <highest>]'.",
        facts.listing.images(wide),
    )
    shown = np.minimum(spans[:, 1], high) - np.maximum(spans[:, 0], low)
    flat = wide[shown < FLAT * (high - low)]
    if 2 * len(flat) > len(wide):
        yield finding(
            "flat_images",
            HURTS,
            f"{quantity(len(flat), 'image uses', 'images use')} less than a sixteenth of "
            f"data.range, {_listed(used)}",
            "They are nearly of one grey, such as black.",
            f"'data.range={_suggested(facts, used)}'",
            facts.listing.images(flat),
        )
    beyond = wide[(spans[:, 0] < low) | (spans[:, 1] > high)]
    if len(beyond):
        yield finding(
            "beyond_range",
            HURTS,
            f"{quantity(len(beyond), 'image holds', 'images hold')} values outside of data.range, "
            f"{_listed(used)}",
            "These pixels become black or white, whatever they show.",
            f"'data.range={_listed(range_of(spans))}', which holds all of them",
            facts.listing.images(beyond),
        )


def _measured(facts: Facts) -> ValueRange:
    """As a run finds it: from the training split."""
    train = facts.listing.splits.get(facts.listing.train, np.zeros(0, np.int64))
    spans = facts.spans[train[probed(len(train))]] if len(train) else np.zeros((0, 2))
    spans = spans[~np.isnan(spans[:, 0])]
    return range_of(spans) if len(spans) else (0.0, 65535.0)


def _suggested(facts: Facts, used: ValueRange) -> str:
    """auto, where that is another range; else the one of the image in the middle."""
    if _measured(facts) != used:
        return "auto"
    lowest, highest = np.nanmedian(facts.spans, axis=0)
    return _listed(range_of([(lowest, highest)]))


def _listed(value_range: ValueRange) -> str:
    return f"[{value_range[0]:g}, {value_range[1]:g}]"
