"""Checks of the values in masks: ids or colours, the right ids, clean borders."""

from collections.abc import Iterator

import numpy as np

from engine.data.doctor.findings import FIX, SPOILS, DataFinding, finding
from engine.data.doctor.mask_facts import has_colours, shown
from engine.data.doctor.meaning import OUTSIDE, Meaning
from engine.data.doctor.scan import Facts
from engine.data.sample import first_few

READINGS = {
    "grey": (
        "rgb_masks",
        "have three equal channels that hold the id",
        "Masks of ids have one channel; the reader refuses these.",
    ),
    "rgb": (
        "rgb_masks",
        "are drawn in the colours of the classes instead of ids",
        "The reader takes ids and refuses colours; read as grayscale they would give wrong ids.",
    ),
    "bgr": (
        "bgr_masks",
        "are drawn in the colours of the classes with red and blue swapped (BGR, as in OpenCV)",
        "The swapped colour belongs to no class, or to another one.",
    ),
    "colours": (
        "unknown_colours",
        "have colours that no class has",
        "Which class such a colour means is unknown.",
    ),
    "wide": (
        "mask_type",
        "do not have 8 bits per pixel",
        "The reader takes 8-bit ids and refuses these.",
    ),
}


def check_masks(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Every finding about mask values; all of them spoil a training."""
    yield from readings(facts, meaning)
    yield from scheme(facts, meaning)
    yield from palettes(facts, meaning)
    yield from rainbow(facts, meaning)
    yield from outside(facts, meaning)


def readings(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Masks that do not hold ids, or whose colours are in another order."""
    for reading, (check, what, why) in READINGS.items():
        found = [i for i, own in enumerate(meaning.reading) if own == reading]
        if not found:
            continue
        remedy = FIX
        if reading == "colours":
            e = facts.entries
            own = np.isin(e["file"], found)
            colours, place = np.unique(e["value"][own], return_inverse=True)
            pixels = np.bincount(place, e["count"][own])
            common = [shown(int(colour), "x3") for colour in colours[np.argsort(-pixels)]]
            what += f": {first_few(common)}"
            remedy = "Name the colour of each class where the recipe's format takes colours, or export ids."
        files = [facts.listing.samples[i].name for i in found]
        yield finding(check, SPOILS, f"{len(found)} of {meaning.num_masks} masks {what}", why, remedy, files)


def scheme(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Ids that start at 1; black-and-white masks."""
    samples, num_classes = facts.listing.samples, len(facts.listing.class_names)
    if meaning.scheme == "from one":
        yield finding(
            "ids_from_one",
            SPOILS,
            f"ids run from 1 to {num_classes} and no mask holds 0: they start at 1",
            "Label ids start at 0. Every pixel would be trained as the next class, and the last "
            "class has no label.",
            FIX,
            [sample.name for sample in samples],
        )
    if meaning.scheme == "binary":
        void = facts.listing.ignore_index == 255
        yield finding(
            "black_and_white",
            SPOILS,
            "masks hold only 0 and 255: black and white, not ids 0 and 1",
            f"{'255 is void: the object is not trained on or scored' if void else 'No class has id 255'}.",
            FIX,
            [sample.name for sample in samples],
        )


def palettes(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Palette images whose ids disagree with their colours."""
    samples = facts.listing.samples
    why = (
        "Readers take the ids and ignore the colours, so these pixels are trained as other classes. Some "
        "editors sort the palette when they save."
    )
    permuted = np.flatnonzero(meaning.is_permuted)
    if len(permuted):
        files = [samples[i].name for i in permuted]
        what = f"{len(permuted)} of {meaning.num_masks} masks have the classes' colours at other ids"
        yield finding("palette_order", SPOILS, what, why, FIX, files)
    elif meaning.disagreeing:
        found = np.flatnonzero(np.isin(facts.palette_of, list(meaning.disagreeing)))
        ids = sorted({id for own in meaning.disagreeing.values() for id in own})
        what = f"palettes disagree: the colours of ids {first_few(ids)} have other ids in other masks"
        remedy = "Export these masks again with one palette; Trident cannot know which of them is right."
        yield finding("palette_order", SPOILS, what, why, remedy, [samples[i].name for i in found])


def rainbow(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Masks that were resized with interpolation or drawn with anti-aliasing."""
    found = np.flatnonzero(meaning.is_rainbow)
    if len(found):
        blends = facts.entries[meaning.is_blend]
        num_values = len(np.unique(blends["value"]))
        yield finding(
            "rainbow_borders",
            SPOILS,
            f"{len(found)} of {meaning.num_masks} masks have interpolated borders: {num_values} values that "
            f"occur only between two others, on {blends['count'].sum():,} pixels",
            "They were resized with interpolation or drawn with anti-aliasing. Between ids 0 and 15 are "
            "the ids of other classes, so each outline is trained as those classes.",
            f"Resize masks with nearest neighbour; or make these borders void: {FIX}",
            [facts.listing.samples[i].name for i in found],
        )


def outside(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Values without a class that none of the checks above explains."""
    if meaning.scheme:
        return
    e = facts.entries
    explained = np.array([reading != "" for reading in meaning.reading], bool) | meaning.is_permuted
    bad = (meaning.labels == OUTSIDE) & ~meaning.is_blend & ~explained[e["file"]]
    if not bad.any():
        return
    names, void = facts.listing.class_names, facts.listing.ignore_index
    values, first, place = np.unique(e["value"][bad], return_index=True, return_inverse=True)
    pixels = np.bincount(place, e["count"][bad])
    forms = [facts.forms[file] for file in e["file"][bad][first]]
    each = [f"{shown(int(values[i]), forms[i])} ({pixels[i]:,.0f} pixels)" for i in np.argsort(-pixels)]
    yield finding(
        "unknown_values",
        SPOILS,
        f"values outside the {len(names)} classes ({names[0]} to {names[-1]}, void {void}): "
        f"{first_few(each)}",
        "No class has these values; training stops at the first such mask.",
        _remedy_for_outside(facts, values.tolist(), has_colours(forms[0])),
        [facts.listing.samples[i].name for i in np.unique(e["file"][bad])],
    )


def _remedy_for_outside(facts: Facts, values: list[int], are_colours: bool) -> str:
    if are_colours:
        return "Give each class its colour in data.classes, and those of void in data.folder.void_colours."
    if len(values) > 1:
        return "Name every class in data.classes, by id; or export these masks again."
    remedy = (
        f"If {values[0]} is void: data.ignore_index={values[0]}. If it is a class, name it in data.classes."
    )
    if values == [len(facts.listing.class_names)]:
        remedy += " If ids run from 1 and 0 is void, subtract 1 from each."
    return remedy
