"""Checks of the files: whether they can be read, whether image and mask fit, pixel types and sizes."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.data.doctor.division import taken_out
from engine.data.doctor.findings import FIX, HURTS, NOTE, SPOILS, DataFinding, finding
from engine.data.doctor.listing import Listing
from engine.data.doctor.meaning import Meaning
from engine.data.doctor.scan import Facts
from engine.data.formats.bands import read_bands
from engine.data.formats.listing import ARRAY_ENDINGS, left_out
from engine.data.sample import DataError, first_few
from engine.wording import quantity, some_of

TINY_PX, HUGE_PX, LONG_RATIO = 32, 25_000_000, 4.0
NUM_PROBED = 8  # images whose bands are counted
GREY_MODES = ("1", "L", "I", "I;16", "I;16B", "F")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")

ODD_SIZES = {  # check -> what, why, remedy
    "tiny_images": (
        f"under {TINY_PX} px on a side",
        "A crop of them is nearly all padding, and the deepest feature map is one pixel.",
        "A smaller augment.crop, or {take them out}.",
    ),
    "huge_images": (
        f"of more than {HUGE_PX / 1e6:.0f} megapixels",
        "A crop shows a small part of them, they decode slowly, and scoring takes much memory.",
        "Cut them into tiles, or downscale them: masks with nearest neighbour.",
    ),
    "long_images": (
        f"more than {LONG_RATIO:g} times as long as wide",
        "A square crop of them is mostly padding.",
        "Cut them into tiles.",
    ),
}


def check_files(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Every finding about files, the worst first."""
    yield from refused(facts.listing)
    yield from damaged(facts)
    yield from unused_annotations(facts)
    yield from passed_over(facts)
    yield from other_size(facts)
    yield from empty_masks(facts, meaning)
    yield from pixel_types(facts)
    yield from odd_sizes(facts)


def refused(listing: Listing) -> Iterator[DataFinding]:
    """Splits that cannot be opened: missing files, duplicate ids, no such list."""
    for split, message in listing.refused.items():
        why = "Training stops before its first update."
        yield finding("split", SPOILS, f"split {split} cannot be opened: {message}", why, "see the message")


def damaged(facts: Facts) -> Iterator[DataFinding]:
    """Files that are truncated, damaged, empty or not images; then those that are not as expected."""
    for what, problems, stops in (
        ("image", facts.image_problems, facts.image_stops),
        ("mask", facts.mask_problems, facts.mask_stops),
    ):
        for must_stop in (False, True):
            found = {i: text for i, text in problems.items() if (i in stops) == must_stop}
            if not found:
                continue
            first, are_left_out = found[min(found)], facts.listing.may_skip and not must_stop
            yield finding(
                "damaged",
                HURTS if are_left_out else SPOILS,
                f"{quantity(len(found), f'{what} file')} cannot be read. {first.removesuffix('.')}",
                "Training leaves them out."
                if are_left_out
                else "Training stops at the first one, perhaps after hours.",
                f"Replace them{_or_fix(facts)}"
                if must_stop
                else _remedy_for_damaged(facts, len(found) == len(facts.modes) and what == "image"),
                facts.listing.images(sorted(found))
                if what == "image"
                else facts.listing.names(sorted(found)),
            )


def _remedy_for_damaged(facts: Facts, are_all_images: bool) -> str:
    if are_all_images and (number := _number_of_bands(facts)):
        return f"Read their {quantity(number, 'band')}: data.bands={number}"
    if not _can_be_copied(facts):
        return "Replace them."
    or_skip = "" if facts.listing.may_skip else "; or leave them out: data.on_error=skip"
    return f"Replace them{or_skip}{_or_fix(facts)}"


def _number_of_bands(facts: Facts) -> int | None:
    """That of the first images, where none can be read as RGB; None where they are no images, or differ."""
    if facts.listing.bands is not None:
        return None
    try:
        images = [sample.image for sample in facts.listing.samples[:NUM_PROBED] if sample.image]
        numbers = {len(read_bands(image).values) for image in images}
    except DataError:
        return None
    return numbers.pop() if len(numbers) == 1 else None


def unused_annotations(facts: Facts) -> Iterator[DataFinding]:
    """Objects without an outline in an annotation file."""
    for note in facts.listing.notes:
        why = "They are neither trained on nor scored."
        yield finding("no_outline", HURTS, note, why, "Outline them, or remove them from the file.")


def passed_over(facts: Facts) -> Iterator[DataFinding]:
    """Images in folders of tools, files of tools, and arrays next to images of other kinds."""
    samples = facts.listing.samples
    folders = {path.parent for sample in samples for path in (sample.image, sample.mask) if path}
    if not folders:
        return
    common = Path(os.path.commonpath(folders))
    between = {up for folder in folders for up in folder.parents if up.is_relative_to(common)}
    images = {sample.image for sample in samples if sample.image}
    arrays = {path for folder in {image.parent for image in images} if folder.is_dir()
              for path in folder.iterdir() if path.suffix.lower() in ARRAY_ENDINGS}  # fmt: skip
    found = left_out(sorted(folders | between)) | dict.fromkeys(sorted(arrays - images), 1)
    if found:
        yield finding(
            "passed_over",
            NOTE,
            "files left out: images in folders of tools, files of tools such as Thumbs.db or with a dot in "
            f"front of the name, and .npy next to other images: {sum(found.values())}",
            "Tools keep copies, thumbnails and settings there; a split has images or arrays, not both.",
            "Nothing.",
            [*found],
        )


def other_size(facts: Facts) -> Iterator[DataFinding]:
    """Masks whose size differs from that of their image."""
    unreadable = [*facts.image_problems, *facts.mask_problems]
    wrong = np.setdiff1d(np.flatnonzero(facts.is_broken), unreadable)
    if len(wrong):
        (h, w), (mask_h, mask_w) = facts.image_sizes[wrong[0]], facts.mask_sizes[wrong[0]]
        scaled = sum(facts.size_for_mask(i) is not None for i in wrong)
        remedy = f"Export these masks again at the size of their images{_or_fix(facts)}"
        if facts.listing.has_a_mask_file_each:
            remedy += ", which resizes those of the same aspect ratio with nearest neighbour"
            remedy += f" and leaves out the other {len(wrong) - scaled}" * (scaled < len(wrong))
        else:
            source = facts.listing.samples[wrong[0]].mask
            remedy = (
                f"Correct width and height of these images in {source}, or annotate those that are there."
            )
        yield finding(
            "size_mismatch",
            SPOILS,
            f"{quantity(len(wrong), 'mask')} of another size than the image; the first is {mask_w}x{mask_h} "
            f"px, its image {w}x{h}" + ", so width and height are swapped" * ((h, w) == (mask_w, mask_h)),
            "The labels do not fit the pixels; training stops at the first one.",
            remedy,
            facts.listing.names(wrong),
        )


def empty_masks(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Masks that are entirely void or entirely background."""
    e, n = facts.entries, len(facts.listing.samples)
    if meaning.scheme == "binary":
        return
    pixels = np.bincount(e["file"], e["count"], n)
    void = np.bincount(e["file"], e["count"] * (meaning.labels == facts.listing.ignore_index), n)
    all_void = np.flatnonzero((pixels > 0) & (void == pixels))
    empty = [split for split, own in facts.listing.splits.items() if np.isin(own, all_void).all()]
    if len(all_void):
        yield finding(
            "all_void",
            SPOILS if empty else HURTS,
            f"{quantity(len(all_void), 'mask')} entirely void" + f": all of {first_few(empty)}" * bool(empty),
            "There is nothing to learn or to score in these images, but they take up space in batches.",
            f"Label them, or {taken_out(facts.listing.section)}.",
            facts.listing.names(all_void),
        )
    if facts.listing.class_names[0].lower() not in ("background", "bg", "_background_"):
        return
    ground = np.bincount(e["file"], e["count"] * (meaning.labels == 0), n)
    nothing = np.flatnonzero((pixels > 0) & (ground > 0) & (ground + void == pixels))
    if len(nothing):
        yield finding(
            "only_background",
            NOTE,
            f"{quantity(len(nothing), 'mask')} with background only",
            "Fine if the image shows none of the classes; otherwise an annotation is missing, and the model "
            "learns the object as background.",
            f"Look at them; label them, or {taken_out(facts.listing.section)}.",
            facts.listing.names(nothing),
        )


def pixel_types(facts: Facts) -> Iterator[DataFinding]:
    """Grayscale images among colour images, and transparent images."""
    num_images = sum(mode != "" for mode in facts.modes)
    grey = [i for i, mode in enumerate(facts.modes) if mode in GREY_MODES]
    if 0 < len(grey) < num_images:
        yield finding(
            "grey_images",
            NOTE,
            f"{some_of(len(grey), num_images, 'image', 'is', 'are')} grayscale",
            "Colour augmentation does not change them, and if the photos of one class are grayscale, the "
            "model learns that.",
            "Nothing, if there are grayscale photos at test time too.",
            facts.listing.images(grey),
        )
    alpha = [i for i, mode in enumerate(facts.modes) if mode in ALPHA_MODES]
    if alpha:
        yield finding(
            "alpha_images",
            NOTE,
            f"{some_of(len(alpha), num_images, 'image', 'has', 'have')} transparency",
            "It is dropped: the model sees the stored colour of transparent pixels, which viewers hide.",
            "Save them as RGB on a suitable background; or data.bands=4, if the fourth channel is a band, "
            "such as near infrared.",
            facts.listing.images(alpha),
        )


def odd_sizes(facts: Facts) -> Iterator[DataFinding]:
    """Images that are tiny, huge, or very elongated."""
    sizes = facts.image_sizes if facts.listing.has_files else facts.mask_sizes
    short, long, area = sizes.min(1), sizes.max(1), sizes.prod(1)
    is_odd = {
        "tiny_images": (short > 0) & (short < TINY_PX),
        "huge_images": area > HUGE_PX,
        "long_images": long > LONG_RATIO * np.maximum(short, 1),
    }
    for check, odd in is_odd.items():
        found = np.flatnonzero(odd)
        if len(found):
            h, w = sizes[found[0]]
            name, why, remedy = ODD_SIZES[check]
            what = f"{quantity(len(found), 'image')} {name}; the first is {w}x{h}"
            remedy = remedy.replace("{take them out}", taken_out(facts.listing.section))
            yield finding(check, NOTE, what, why, remedy, facts.listing.images(found))


def _or_fix(facts: Facts) -> str:
    return f"; or {FIX}" if facts.listing.has_a_mask_file_each and _can_be_copied(facts) else ""


def _can_be_copied(facts: Facts) -> bool:
    """Whether a repaired copy would hold a sample."""
    return any(not broken or facts.size_for_mask(i) for i, broken in enumerate(facts.is_broken))
