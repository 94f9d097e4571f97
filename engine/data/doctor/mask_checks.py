"""Checks of the values in masks: ids or colours, the right ids, clean borders."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.findings import FIX, HURTS, SPOILS, DataFinding, finding
from engine.data.doctor.mask_facts import has_colours, shown
from engine.data.doctor.meaning import OUTSIDE, Meaning
from engine.data.doctor.scan import Facts
from engine.data.formats.masks import BlackAndWhite, MappedValues, SameIds, value_text
from engine.data.sample import first_few
from engine.data.suggested_ids import ids_text, suggested_ids
from engine.wording import quantity, some_of

MAX_SUGGESTED = 64  # values in a suggestion
OF_ONE = {"have": "has", "are": "is", "do": "does"}  # the verbs of READINGS

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
    """Every finding about mask values; all but one spoil a training."""
    yield from readings(facts, meaning)
    yield from scheme(facts, meaning)
    yield from two_whites(facts, meaning)
    yield from palettes(facts, meaning)
    yield from rainbow(facts, meaning)
    yield from soft(facts, meaning)
    yield from outside(facts, meaning)
    yield from nodata(facts, meaning)


def readings(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Masks that do not hold ids, or whose colours are in another order."""
    for reading, (check, what, why) in READINGS.items():
        found = [i for i, own in enumerate(meaning.reading) if own == reading]
        if reading == "wide":  # values that are no ids have a finding of their own
            found = [i for i in found if not meaning.is_unclear[i]]
        if not found:
            continue
        remedy = _fix(meaning)
        if reading == "wide" and facts.listing.takes_ids and not meaning.scheme:
            remedy += f"; or read them as they are: {_ids(meaning)}"
        if reading == "colours":
            e = facts.entries
            own = np.isin(e["file"], found)
            colours, place = np.unique(e["value"][own], return_inverse=True)
            pixels = np.bincount(place, e["count"][own])
            common = [shown(int(colour), "x3") for colour in colours[np.argsort(-pixels)]]
            what += f": {first_few(common)}"
            remedy = (
                "Export ids; or read the folder by the colours of its masks, with a recipe from: trident new "
                "<the folder of the data>"
            )
        files = facts.listing.names(found)
        verb, _, rest = what.partition(" ")
        masks = some_of(len(found), meaning.num_masks, "mask", OF_ONE[verb], verb)
        yield finding(check, SPOILS, f"{masks} {rest}", why, remedy, files)


def scheme(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Ids that start at 1; black-and-white masks."""
    num_classes = len(facts.listing.class_names)
    if meaning.scheme == "from one":
        yield finding(
            "ids_from_one",
            SPOILS,
            f"ids run from 1 to {num_classes} and no mask holds 0: they start at 1",
            "Label ids start at 0. Every pixel would be trained as the next class, and the last "
            "class has no label.",
            _fix(meaning),
            [sample.name for sample in facts.listing.samples],
        )
    if meaning.scheme == "binary":
        void = facts.listing.ignore_index == 255
        yield finding(
            "black_and_white",
            SPOILS,
            "masks hold only 0 and 255: black and white, not ids 0 and 1",
            f"{'255 is void: the object is not trained on or scored' if void else 'No class has id 255'}.",
            _fix(meaning),
            [sample.name for sample in facts.listing.samples],
        )


def two_whites(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Masks of 0 and 255 among masks of 0 and 1."""
    listing, e = facts.listing, facts.entries
    is_of_ids = isinstance(listing.encoding, SameIds) and listing.takes_ids
    if not is_of_ids or len(listing.class_names) != 2 or listing.ignore_index != 255:
        return
    white, one = ({*e["file"][e["value"] == value].tolist()} for value in (255, 1))
    if white and one and not white & one:
        yield finding(
            "two_whites",
            HURTS,
            f"{some_of(len(white), meaning.num_masks, 'mask', 'holds', 'hold')} 255, which is void, and "
            f"{some_of(len(one), meaning.num_masks, 'mask', 'holds', 'hold')} class 1, but none holds both",
            "If some were saved as black and white, their objects are neither trained on nor scored.",
            "data.format=folder data.folder.values=binary reads both as class 1. Do nothing, if 255 is meant "
            "as void.",
            listing.names(sorted(white)),
        )


def palettes(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Palette images whose ids disagree with their colours."""
    why = (
        "Readers take the ids and ignore the colours, so these pixels are trained as other classes. Some "
        "editors sort the palette when they save."
    )
    permuted = np.flatnonzero(meaning.is_permuted)
    if len(permuted):
        files = facts.listing.names(permuted)
        what = (
            f"{some_of(len(permuted), meaning.num_masks, 'mask', 'has', 'have')} the classes' "
            "colours at other ids"
        )
        yield finding("palette_order", SPOILS, what, why, _fix(meaning), files)
    elif meaning.disagreeing:
        found = np.flatnonzero(np.isin(facts.palette_of, list(meaning.disagreeing)))
        ids = sorted({id for own in meaning.disagreeing.values() for id in own})
        what = f"palettes disagree: the colours of ids {first_few(ids)} have other ids in other masks"
        remedy = "Export these masks again with one palette; Trident cannot know which of them is right."
        yield finding("palette_order", SPOILS, what, why, remedy, facts.listing.names(found))


def rainbow(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Masks that were resized with interpolation or drawn with anti-aliasing."""
    # Masks in colours of no class have a finding of their own, and no copy mends them.
    has_ids = np.array(meaning.reading) != "colours"
    found = np.flatnonzero(meaning.is_rainbow & ~meaning.is_soft & has_ids)
    if meaning.is_gray_scale:
        yield finding(
            "soft_masks",
            SPOILS,
            f"{quantity(meaning.num_masks, 'mask is', 'masks are')} gray, with most pixels near 0 and 255 "
            "and the others in between",
            "They are soft masks of two classes, such as probabilities; read as ids, each gray is a class.",
            "data.format=folder data.folder.values=binary; the doctor then offers a copy in which half of "
            "the range is the threshold.",
            [sample.name for sample in facts.listing.samples],
        )
    elif len(found):
        blends = facts.entries[meaning.is_blend & np.isin(facts.entries["file"], found)]
        num_values = len(np.unique(blends["value"]))
        yield finding(
            "rainbow_borders",
            SPOILS,
            f"{some_of(len(found), meaning.num_masks, 'mask', 'has', 'have')} interpolated borders: "
            f"{quantity(num_values, 'value that occurs', 'values that occur')} only between two "
            f"others, on {quantity(int(blends['count'].sum()), 'pixel')}",
            "They were resized with interpolation or drawn with anti-aliasing. Between ids 0 and 15 are "
            "the ids of other classes, so each outline is trained as those classes.",
            f"Resize masks with nearest neighbour; or make these borders void: {_fix(meaning)}",
            facts.listing.names(found),
        )


def soft(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Masks of colours, or of black and white, with values close to those of the classes."""
    found = np.flatnonzero(meaning.is_soft)
    if len(found):
        entries = facts.entries
        others = entries[meaning.is_blend & np.isin(entries["file"], found)]
        pixels = entries["count"][np.isin(entries["file"], found)].sum()
        is_binary = isinstance(facts.listing.encoding, BlackAndWhite)
        how = "half of the range is the threshold" if is_binary else "each pixel takes the nearest colour"
        yield finding(
            "soft_masks",
            SPOILS,
            f"{some_of(len(found), meaning.num_masks, 'mask', 'has', 'have')} values besides those "
            "of the classes: "
            f"{len(np.unique(others['value']))}, on {others['count'].sum() / pixels:.1%} of their pixels",
            "They were saved as JPEG, resized with interpolation, or are probabilities. Training stops at "
            "the first one.",
            f"Export them again as PNG; or {FIX}, where {how}",
            facts.listing.names(found),
        )


def outside(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Values without a class that none of the checks above explains."""
    if meaning.scheme or meaning.is_gray_scale:
        return
    e = facts.entries
    explained = ~np.isin(meaning.reading, ("", "wide")) | meaning.is_permuted
    bad = (meaning.labels == OUTSIDE) & ~meaning.is_blend & ~explained[e["file"]]
    if not bad.any():
        return
    names, void = facts.listing.class_names, facts.listing.ignore_index
    values, first, place = np.unique(e["value"][bad], return_index=True, return_inverse=True)
    pixels = np.bincount(place, e["count"][bad])
    forms = [facts.forms[file] for file in e["file"][bad][first]]
    each = [
        f"{shown(values[i], forms[i])} ({quantity(int(pixels[i]), 'pixel')})" for i in np.argsort(-pixels)
    ]
    yield finding(
        "unknown_values",
        SPOILS,
        f"values outside the {len(names)} classes ({names[0]} to {names[-1]}, void {void}): "
        f"{first_few(each)}",
        "No class has these values; training stops at the first such mask.",
        _remedy_for_outside(meaning, values, has_colours(forms[0])),
        facts.listing.names(np.unique(e["file"][bad])),
    )


def nodata(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """GeoTIFF masks that declare a value as "no data" which the recipe reads as a class."""
    if isinstance(facts.listing.encoding, MappedValues):  # the recipe says what each value is
        return
    declared = np.array([facts.nodata.get(i, np.nan) for i in range(meaning.num_masks)])
    e, labels = facts.entries, meaning.labels
    bad = (e["value"] == declared[e["file"]]) & (labels != OUTSIDE) & (labels != facts.listing.ignore_index)
    if bad.any():
        values = [value_text(value) for value in np.unique(e["value"][bad])]
        yield finding(
            "nodata",
            SPOILS,
            f"{some_of(len(np.unique(e['file'][bad])), meaning.num_masks, 'mask', 'declares', 'declare')} "
            f'{first_few(values)} as "no data", which is a class in the recipe '
            f"({quantity(int(e['count'][bad].sum()), 'pixel')})",
            "Pixels without data would be trained and scored as that class.",
            f"If it is no class: {_ids(meaning)}. If it is one, name it there with its label id.",
            facts.listing.names(np.unique(e["file"][bad])),
        )


def _fix(meaning: Meaning) -> str:
    return FIX if meaning.can_be_mended else "Export these masks again."


def _ids(meaning: Meaning) -> str:
    """A data.ids for all values of the masks, as it is typed on a command line."""
    listing = meaning.facts.listing
    values = np.unique(meaning.facts.entries["value"][~meaning.is_blend]).tolist()
    if isinstance(listing.encoding, MappedValues):
        labels = {value_text(value): label for value, label in listing.encoding.pairs}
        named = {value: "void" if id == listing.ignore_index else id for value, id in labels.items()}
        ids = {text: "void" for text in map(value_text, values) if text not in named} | named
    else:
        ids = suggested_ids(values, len(listing.class_names), {*meaning.facts.nodata.values()})
    return f"'data.ids={ids_text(ids)}'"


def _remedy_for_outside(meaning: Meaning, values: NDArray[Any], are_colours: bool) -> str:
    listing = meaning.facts.listing
    if isinstance(listing.encoding, BlackAndWhite):
        return "If there are more than two classes: data.folder.values=ids, with their names in data.classes."
    if are_colours:
        return "Give each class its colour in data.classes, and those of void in data.folder.void_colours."
    remedy = "Name every class in data.classes, by id; or export these masks again."
    one = value_text(values[0])
    if len(values) == 1 and one.isdigit() and int(one) < 256 and isinstance(listing.encoding, SameIds):
        remedy = f"If {one} is void: data.ignore_index={one}. If it is a class, name it in data.classes."
        if int(one) == len(listing.class_names):
            remedy += " If ids run from 1 and 0 is void, subtract 1 from each."
    num_values = len(np.unique(meaning.facts.entries["value"][~meaning.is_blend]))
    if listing.takes_ids and num_values <= MAX_SUGGESTED:
        remedy += f" If these are their label ids, type {_ids(meaning)}"
        remedy += " (with --fix <new folder>, a copy has those ids)." if meaning.can_be_mended else "."
    return remedy
