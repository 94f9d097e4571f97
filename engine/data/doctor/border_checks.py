"""The check for masks without a void border around their objects, beside masks that have one."""

from collections.abc import Iterator

import numpy as np

from engine.data.doctor.findings import HURTS, DataFinding, finding
from engine.data.doctor.meaning import Meaning
from engine.data.doctor.scan import Facts
from engine.data.sample import first_few
from engine.wording import some_of

MOST_RIM = 1.5  # outline pixels of classes for each of void; 222 masks of VOC's val have at most 1.14
LEAST = 0.05  # of the masks with objects, of each kind


def void_borders(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Both kinds of masks in train, such as those of SBD (no void) next to those of VOC."""
    listing, e = facts.listing, facts.entries
    if listing.ignore_index is None or listing.train not in listing.splits:
        return
    num_masks, num_classes = len(listing.samples), len(listing.class_names)
    in_train = np.isin(e["file"], listing.splits[listing.train])
    is_void = in_train & (meaning.labels == listing.ignore_index)
    is_class = in_train & (meaning.labels >= 0) & ~is_void
    void = np.bincount(e["file"][is_void], e["count"][is_void], num_masks)
    rim, rim_of_void = (np.bincount(e["file"][of], e["rim"][of], num_masks) for of in (is_class, is_void))
    has = np.zeros((num_masks, num_classes), bool)
    has[e["file"][is_class], meaning.labels[is_class]] = True
    has_objects = has.sum(1) > 1
    bordered = has_objects & (void > 0) & (rim <= MOST_RIM * rim_of_void)  # no two classes touch
    without = has_objects & (void == 0)
    if min(bordered.sum(), without.sum()) < max(1, LEAST * has_objects.sum()):
        return
    shares = [
        (has[without, c].sum() / has[bordered | without, c].sum(), name)
        for c, name in enumerate(listing.class_names)
        if has[bordered | without, c].any()
    ]
    by_class = [f"{name} {share:.0%}" for share, name in sorted(shares, key=lambda one: -one[0])]
    which = np.flatnonzero(without)
    have = "has" if bordered.sum() == 1 else "have"
    yield finding(
        "void_borders",
        HURTS,
        f"{some_of(len(which), int(has_objects.sum()), 'mask', 'has', 'have')} no void around the objects, "
        f"{int(bordered.sum())} {have} a void border; masks without one, of those with each class: "
        f"{first_few(by_class)}",
        "They were drawn by different rules, as those of SBD and of VOC in trainaug: along the outlines, "
        "some teach a class where the others teach nothing.",
        "Train on the masks with borders last or alone, such as data.train=train of VOC, and compare both.",
        listing.names(which),
    )
