"""Checks of the files themselves: can they be opened, do image and mask fit, what do the pixels look like."""

from collections.abc import Iterator, Sequence

import numpy as np

from engine.data.doctor.findings import FIX, HURTS, NOTE, SPOILS, DataFinding, finding
from engine.data.doctor.meaning import Meaning
from engine.data.doctor.scan import Facts

TINY_PX, HUGE_PX, LONG_RATIO = 32, 25_000_000, 4.0
GREY_MODES = ("1", "L", "I", "I;16", "I;16B", "F")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")

ODD_SIZES = {  # check -> what, why, remedy
    "tiny_images": (
        f"under {TINY_PX} px on a side",
        "A crop of them is nearly all padding, and the deepest features are one pixel.",
        "A smaller augment.crop, or take them out of the split.",
    ),
    "huge_images": (
        f"of more than {HUGE_PX / 1e6:.0f} megapixels",
        "A crop shows a small part of them, they decode slowly, and scoring takes much memory.",
        "Cut them into tiles, or shrink them: masks with nearest neighbour.",
    ),
    "long_images": (
        f"more than {LONG_RATIO:g} times as long as wide",
        "A square crop of them is mostly padding.",
        "Cut them into tiles.",
    ),
}


def check_files(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Every finding about files, the worst first."""
    yield from refused(facts)
    yield from damaged(facts)
    yield from other_size(facts)
    yield from empty_masks(facts, meaning)
    yield from pixel_types(facts)
    yield from odd_sizes(facts)


def refused(facts: Facts) -> Iterator[DataFinding]:
    """Splits that their reader does not open: missing files, ids listed twice, no such list."""
    for split, message in facts.listing.refused.items():
        why = "Training stops before its first update."
        yield finding("split", SPOILS, f"split {split} cannot be opened: {message}", why, "see the message")


def damaged(facts: Facts) -> Iterator[DataFinding]:
    """Files that are cut, broken, empty or no pictures."""
    for what, found in (("image", facts.image_problems), ("mask", facts.mask_problems)):
        if found:
            first = found[min(found)]
            yield finding(
                "damaged",
                HURTS if facts.listing.may_skip else SPOILS,
                f"{len(found)} {what} file{_s(found)} cannot be read. {first}",
                "Training leaves them out."
                if facts.listing.may_skip
                else "Training stops when it comes to one, perhaps after hours.",
                f"Fetch them again; or leave them out: data.on_error=skip, or {FIX}",
                _images(facts, sorted(found)) if what == "image" else _masks(facts, sorted(found)),
            )


def other_size(facts: Facts) -> Iterator[DataFinding]:
    """Masks that have not the size of their image."""
    unreadable = [*facts.image_problems, *facts.mask_problems]
    wrong = np.setdiff1d(np.flatnonzero(facts.is_broken), unreadable)
    if len(wrong):
        (h, w), (mask_h, mask_w) = facts.image_sizes[wrong[0]], facts.mask_sizes[wrong[0]]
        yield finding(
            "size_mismatch",
            SPOILS,
            f"{len(wrong)} mask{_s(wrong)} of another size than the image; the first is {mask_w}x{mask_h} "
            f"px, its image {w}x{h}",
            "Labels lie beside what they name; training stops when it comes to one.",
            f"Export these masks again at the size of their images; or leave them out: {FIX}",
            _masks(facts, wrong),
        )


def empty_masks(facts: Facts, meaning: Meaning) -> Iterator[DataFinding]:
    """Masks that are void all over, or background all over."""
    e, n = facts.entries, len(facts.listing.samples)
    if meaning.scheme == "binary":
        return
    pixels = np.bincount(e["file"], e["count"], n)
    void = np.bincount(e["file"], e["count"] * (meaning.labels == facts.listing.ignore_index), n)
    all_void = np.flatnonzero((pixels > 0) & (void == pixels))
    if len(all_void):
        yield finding(
            "all_void",
            HURTS,
            f"{len(all_void)} mask{_s(all_void)} void all over",
            "There is nothing to learn or to score in these images, but each takes its place in a batch.",
            "Label them, or take their ids out of the split.",
            _masks(facts, all_void),
        )
    if facts.listing.class_names[0].lower() not in ("background", "bg", "_background_"):
        return
    ground = np.bincount(e["file"], e["count"] * (meaning.labels == 0), n)
    nothing = np.flatnonzero((pixels > 0) & (ground > 0) & (ground + void == pixels))
    if len(nothing):
        yield finding(
            "only_background",
            NOTE,
            f"{len(nothing)} mask{_s(nothing)} with background alone",
            "Fine where the image shows none of the classes; else an annotation is missing, and the model is "
            "taught that the object is background.",
            "Look at them; label them, or take their ids out of the split.",
            _masks(facts, nothing),
        )


def pixel_types(facts: Facts) -> Iterator[DataFinding]:
    """Grey images among colour ones, and transparent images."""
    num_images = sum(mode != "" for mode in facts.modes)
    grey = [i for i, mode in enumerate(facts.modes) if mode in GREY_MODES]
    if 0 < len(grey) < num_images:
        yield finding(
            "grey_images",
            NOTE,
            f"{len(grey)} of {num_images} images are grey",
            "Colour augmentation does nothing to them, and where the photos of one class are grey the model "
            "learns greyness.",
            "Nothing, where grey photos come at test time too.",
            _images(facts, grey),
        )
    alpha = [i for i, mode in enumerate(facts.modes) if mode in ALPHA_MODES]
    if alpha:
        yield finding(
            "alpha_images",
            NOTE,
            f"{len(alpha)} of {num_images} images have transparency",
            "It is dropped: the model sees the colour that the file keeps below, which perhaps nobody saw.",
            "Save them as RGB, on the ground that they shall have.",
            _images(facts, alpha),
        )


def odd_sizes(facts: Facts) -> Iterator[DataFinding]:
    """Images that are tiny, huge, or much longer than wide."""
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
            what = f"{len(found)} image{_s(found)} {name}; the first is {w}x{h}"
            yield finding(check, NOTE, what, why, remedy, _images(facts, found))


def _images(facts: Facts, found: Sequence[int]) -> list[str]:
    return [str(facts.listing.samples[i].image or facts.listing.samples[i].id) for i in found]


def _masks(facts: Facts, found: Sequence[int]) -> list[str]:
    return [facts.listing.samples[i].name for i in found]


def _s(found) -> str:
    return "" if len(found) == 1 else "s"
