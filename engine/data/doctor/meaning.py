"""What the values of the masks seem to mean, where it differs from the recipe.

The checks report it and the fix acts on it, so that both agree.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.doctor.mask_facts import has_colours, pack
from engine.data.doctor.scan import Facts
from engine.data.doctor.soft import GREY_DISTANCE, are_black_and_white, is_soft, white_of
from engine.data.formats.masks import BlackAndWhite, Colours, MappedValues, MaskEncoding, SameIds
from engine.data.formats.pairing import PHOTO_ENDINGS
from engine.data.formats.voc import voc_palette
from engine.data.sample import DataError

RIM_SHARE = 0.9  # of its pixels: above, a value occurs almost only at borders
RAMP_SHARE = 0.1  # of a mask's border pixels; the worst of 1,023 real VOC and SBD masks has 0.012
MATCHED = 0.9  # of a mask's pixels with colours of the table: above, it is drawn in those colours
MAX_IDS = 4  # values of all masks; JPEG and interpolation leave more
MANY_LEVELS = 64  # values of one mask; above, they may be probabilities
BLACK = 0
MENDED = (SameIds, MappedValues, Colours, BlackAndWhite)  # encodings whose masks a fix can write
OUTSIDE = -1  # the label of a value that has none


def label_of(encoding: MaskEncoding, value: float, form: str) -> int:
    """The label id that a recipe's encoding gives a stored value, or OUTSIDE."""
    name, _, channels = form.partition("x")
    if channels in ("3", "4"):
        packed = int(value)
        pixel: Any = [packed >> 16 & 255, packed >> 8 & 255, packed & 255, 255][: int(channels)]
    else:
        pixel = [value, 255] if channels == "2" else value
    with np.errstate(invalid="ignore"):
        stored = np.array([[pixel]]).astype(name)
    if not np.array_equal(stored, [[pixel]], equal_nan=True):  # such as 0.5 as one of 8 bits
        return OUTSIDE
    try:
        return int(encoding(stored, Path("a mask"))[0, 0])
    except DataError:
        return OUTSIDE


class Meaning:
    """The meaning of the facts; shapes: k entries, n masks."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.num_masks = len(facts.listing.samples)

    @cached_property
    def is_rainbow(self) -> NDArray[np.bool_]:
        """(n,) masks with interpolated values at borders: resized, or drawn with anti-aliasing."""
        e = self.facts.entries
        rims, ramps = (np.bincount(e["file"], e[name], self.num_masks) for name in ("rim", "ramp"))
        num_thin = np.bincount(e["file"], self._is_thin & (e["ramp"] > 0), self.num_masks)
        return (num_thin >= 2) & (ramps >= RAMP_SHARE * rims) & (rims > 0)

    @cached_property
    def is_blend(self) -> NDArray[np.bool_]:
        """(k,) values that occur only at such borders, or that a soft mask has besides those of classes."""
        file = self.facts.entries["file"]
        soft = self.is_soft[file] & (self.labels == OUTSIDE)
        return np.asarray((self._is_thin & self.is_rainbow[file] & ~self.is_soft[file]) | soft)

    @cached_property
    def is_soft(self) -> NDArray[np.bool_]:
        """(n,) masks of colours, or of black and white, with other values that are close to these."""
        encoding, soft = self.facts.listing.encoding, np.zeros(self.num_masks, bool)
        entries = self.facts.entries
        others = entries[self.labels == OUTSIDE]
        if not isinstance(encoding, Colours | BlackAndWhite):
            return soft
        if isinstance(encoding, Colours) and len(np.unique(others["value"])) <= len(encoding.colours):
            return soft  # so few are more likely those of classes that the recipe does not name
        few = np.unique(others["value"])
        if isinstance(encoding, BlackAndWhite) and 0 < len(few) <= MAX_IDS and 1 < few[-1] < GREY_DISTANCE:
            return soft  # likewise: ids; probabilities end at 1
        wide = np.array([self.white_of_forms[form] > 255 for form in self.facts.forms], bool)
        # In masks of 16 bits 1 and 255 are nearly black.
        is_other = (self.labels == OUTSIDE) | (wide[entries["file"]] & (entries["value"] > 0))
        for i in np.unique(entries["file"][is_other]):
            own = entries[slice(*np.searchsorted(entries["file"], [i, i + 1]))]
            form = self.facts.forms[i]
            white = self.white_of_forms[form]
            soft[i] = self.is_rainbow[i] or is_soft(encoding, own["value"], own["count"], form, white)
        return soft

    @cached_property
    def white_of_forms(self) -> dict[str, float]:
        """By pixel type, the value of white in soft masks of black and white."""
        forms, e = np.array(self.facts.forms), self.facts.entries
        return {form: white_of(form, e["value"][forms[e["file"]] == form]) for form in {*forms.tolist()}}

    @cached_property
    def is_gray_scale(self) -> bool:
        """Whether the masks are soft ones of two classes, where the recipe takes 8-bit ids."""
        e, listing = self.facts.entries, self.facts.listing
        is_ids = isinstance(listing.encoding, SameIds) and {*self.facts.forms} <= {"uint8", ""}
        is_ids &= listing.takes_ids and len(listing.class_names) == 2
        endings = {sample.mask.suffix.lower() for sample in listing.samples if sample.mask}
        is_jpeg = endings <= {*PHOTO_ENDINGS} and len(np.unique(e["value"])) > MAX_IDS
        if not (is_ids and (is_jpeg or self.facts.num_values.max(initial=0) > MANY_LEVELS)):
            return False
        return are_black_and_white(e["value"], e["count"])

    @property
    def can_be_mended(self) -> bool:
        """Whether a copy with corrected masks can be written."""
        listing = self.facts.listing
        is_file_each = listing.has_a_mask_file_each and isinstance(listing.encoding, MENDED)
        return is_file_each and not self.is_gray_scale

    @cached_property
    def as_ids(self) -> bool:
        """Whether a repaired copy holds label ids where the recipe's masks hold other values.

        Soft pixels may become void, which has a label id, but no value in black and white.
        """
        return isinstance(self.facts.listing.encoding, MappedValues) or bool(self.is_soft.any())

    @cached_property
    def is_unclear(self) -> NDArray[np.bool_]:
        """(n,) masks with values that have no label id, and that nothing here explains."""
        unclear = np.zeros(self.num_masks, bool)
        bad = (self.labels == OUTSIDE) & ~self.is_blend
        unclear[self.facts.entries["file"][bad]] = True
        is_bgr: NDArray[np.bool_] = np.array(self.reading) == "bgr"
        return unclear & ~is_bgr

    @cached_property
    def _is_thin(self) -> NDArray[np.bool_]:
        e = self.facts.entries
        return np.asarray(e["rim"] >= RIM_SHARE * e["count"])

    def blends_of(self, i: int) -> NDArray[np.int64]:
        """The values of mask i that occur only at its interpolated borders."""
        e = self.facts.entries
        return np.asarray(e["value"][self.is_blend & (e["file"] == i)])

    @cached_property
    def takes_colours(self) -> bool:
        """Whether the recipe's masks are colours, not ids."""
        encoding = self.facts.listing.encoding
        return any(label_of(encoding, colour, "uint8x3") != OUTSIDE for colour in self.table)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(k,) label ids as the recipe reads them; OUTSIDE where the value has none."""
        e, forms = self.facts.entries, np.array(self.facts.forms, dtype="U16")
        encoding = self.facts.listing.encoding
        labels = np.full(len(e), OUTSIDE)
        for form in set(self.facts.forms) - {""}:
            own = forms[e["file"]] == form
            values, place = np.unique(e["value"][own], return_inverse=True)
            if has_colours(form) and len(values) > 1024:  # photos: only the likely ones
                frequent = values[np.argsort(-np.bincount(place, e["count"][own]))[:64]]
                values = np.union1d(frequent, values[np.isin(values, [*self.table, *self.table_reversed])])
            read_as = "uint8" if form in self._wide_forms else form
            known = np.array([label_of(encoding, value, read_as) for value in values], np.int64)
            place = np.searchsorted(values, e["value"][own]).clip(max=len(values) - 1)
            same = np.equal(values[place], e["value"][own]) | np.isnan(e["value"][own])  # NaN is the last
            labels[own] = np.where(same, known[place], OUTSIDE)
        return labels

    @cached_property
    def _wide_forms(self) -> set[str]:
        """Pixel types of one channel that the reader refuses, whatever the value."""
        encoding = self.facts.listing.encoding
        if isinstance(encoding, MappedValues):  # reads all of them
            return set()
        forms = {form for form in self.facts.forms if form and not has_colours(form)}
        return {form for form in forms if all(label_of(encoding, v, form) == OUTSIDE for v in range(256))}

    @cached_property
    def reading(self) -> list[str]:
        """How each mask has to be read: "" as in the recipe, else one of

        "grey": three equal channels hold the id; "rgb", "bgr": colours of the table, in that order;
        "wide": ids of more than 8 bits; "colours": none of these.
        """
        encoding, order = self.facts.listing.encoding, self._colour_order
        colours = [*self.table, *self.table_reversed, *(v * 0x010101 for v in range(256))]
        by_form = dict.fromkeys(self._wide_forms, "wide")
        for form in filter(has_colours, {*self.facts.forms}):
            fits = any(label_of(encoding, value, form) != OUTSIDE for value in colours)
            by_form[form] = "" if fits else "colours"
        readings = []
        for i, form in enumerate(self.facts.forms):
            reading = by_form.get(form, "")
            if has_colours(form) and (reading or order[i] == "bgr"):
                reading = "grey" if order[i] == "colours" and self._is_grey[i] else order[i]
            readings.append(reading)
        return readings

    @cached_property
    def scheme(self) -> str:
        """The ids of all masks together: "from one", "binary" (0/255), or "" for those of the recipe."""
        values, labels = self._sure_ids()
        num_classes, ignore = len(self.facts.listing.class_names), self.facts.listing.ignore_index
        seen = dict(zip(values.tolist(), labels.tolist(), strict=True))
        if set(seen) == {0, 255} and seen[255] in (OUTSIDE, ignore):
            return "binary"
        classes = [value for value, label in seen.items() if label != ignore]
        if classes and min(classes) == 1 and max(classes) == num_classes and seen[num_classes] == OUTSIDE:
            return "from one"
        return ""

    @cached_property
    def is_permuted(self) -> NDArray[np.bool_]:
        """(n,) palette images whose colours are those of the classes, but at other ids."""
        facts, permuted = self.facts, np.zeros(self.num_masks, bool)
        if not facts.listing.has_known_colours:
            return permuted
        for number, used in self._used_of_palette.items():
            meant = [self.table.get(colour_of(facts.palettes[number], value)) for value in used]
            read = [label_of(facts.listing.encoding, value, "uint8") for value in used]
            if None not in meant and meant != read:
                permuted |= facts.palette_of == number
        return permuted

    @cached_property
    def disagreeing(self) -> dict[int, list[int]]:
        """Palette number -> its ids whose colours have other ids in other palettes."""
        ids_of_colour: dict[int, set[int]] = {}
        colours_of_id: dict[int, set[int]] = {}
        for number, used in self._used_of_palette.items():
            for value in used:
                colour = colour_of(self.facts.palettes[number], value)
                ids_of_colour.setdefault(colour, set()).add(value)
                colours_of_id.setdefault(value, set()).add(colour)
        found = {}
        for number, used in self._used_of_palette.items():
            colours = {value: colour_of(self.facts.palettes[number], value) for value in used}
            bad = [v for v, c in colours.items() if len(ids_of_colour[c]) > 1 and len(colours_of_id[v]) > 1]
            if bad:
                found[number] = bad
        return found

    @cached_property
    def _used_of_palette(self) -> dict[int, list[int]]:
        """Palette number -> the ids that its masks use, without void and interpolated values.

        Gray ramps, and palettes with the same colour for two of these ids, are left out: they do not
        identify classes.
        """
        e, ignore = self.facts.entries, self.facts.listing.ignore_index
        number = self.facts.palette_of[e["file"]]
        sure = (number >= 0) & ~self.is_blend & ~((e["value"] == ignore) & (self.labels == ignore))
        used = {}
        for n in np.unique(number[sure]):
            palette = self.facts.palettes[n]
            there = np.unique(e["value"][sure & (number == n)])
            values = [int(v) for v in there if 3 * v + 3 <= len(palette)]
            colours = [colour_of(palette, v) for v in values]
            is_ramp = all(c == v * 0x010101 for c, v in zip(colours, values, strict=True))
            if not is_ramp and len(set(colours)) == len(colours):  # else it is not a palette of classes
                used[int(n)] = values
        return used

    @cached_property
    def table(self) -> dict[int, int]:
        """Packed colour -> label id; void has VOC's colour for its id unless a class has that colour."""
        listing = self.facts.listing
        void = {pack(np.array(voc_palette()[listing.ignore_index])).item(): listing.ignore_index}
        classes = [pack(np.array(colour)).item() for colour in listing.palette]
        return void | {colour: id for id, colour in reversed([*enumerate(classes)])}

    @cached_property
    def table_reversed(self) -> dict[int, int]:
        return {swap_channels(colour): id for colour, id in self.table.items()}

    @cached_property
    def _is_grey(self) -> NDArray[np.bool_]:
        """(n,) masks in which red, green and blue are equal everywhere."""
        e = self.facts.entries
        grey = e["value"] % 0x010101 == 0
        return np.asarray(np.bincount(e["file"], ~grey, self.num_masks) == 0)

    @cached_property
    def _colour_order(self) -> list[str]:
        """(n,) for masks in colours: "rgb" or "bgr", whichever fits more of them; else "colours"."""
        e = self.facts.entries
        sure = ~self.is_blend & (e["value"] != BLACK)  # black is the same in each order, and gray
        total = np.bincount(e["file"], e["count"] * sure, self.num_masks)
        shares = {}
        for order, table in (("rgb", self.table), ("bgr", self.table_reversed)):
            hits = np.bincount(
                e["file"], e["count"] * (sure & np.isin(e["value"], list(table))), self.num_masks
            )
            shares[order] = np.where(total > 0, hits / np.maximum(total, 1), 1.0)
        colours = np.array([has_colours(form) for form in self.facts.forms], bool)
        best = max(shares, key=lambda order: shares[order][colours].sum()) if colours.any() else "rgb"
        return [best if share >= MATCHED else "colours" for share in shares[best]]

    def _sure_ids(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The values in all masks of ids that the recipe can read, except interpolated ones; their labels."""
        e = self.facts.entries
        pairs = zip(self.facts.forms, self.reading, strict=True)
        of_ids = np.array(
            [not has_colours(form) and reading in ("", "wide") for form, reading in pairs], bool
        )
        sure = of_ids[e["file"]] & ~self.is_blend
        values, first = np.unique(e["value"][sure], return_index=True)
        return values, self.labels[sure][first]


def colour_of(palette: bytes, value: int) -> int:
    """The packed colour of an id in a palette; white beyond its end."""
    return int.from_bytes(palette[3 * value : 3 * value + 3].ljust(3, b"\xff"), "big")


def swap_channels(colour: int) -> int:
    """0xRRGGBB -> 0xBBGGRR"""
    return int.from_bytes(colour.to_bytes(3, "big"), "little")
