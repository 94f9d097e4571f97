"""The doctor: finds what is wrong with a data set in one pass over its files, before a training is wasted.

`list_samples_of` finds the samples, `examine` reads and checks them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.data import class_names_of, open_split
from engine.data.doctor.border_checks import void_borders
from engine.data.doctor.class_checks import CountsBySplit, check_classes, jensen_shannon
from engine.data.doctor.class_masks import masks_report
from engine.data.doctor.copies import check_copies
from engine.data.doctor.file_checks import check_files
from engine.data.doctor.findings import SEVERITIES, SPOILS, DataFinding
from engine.data.doctor.listing import Listing, list_samples
from engine.data.doctor.mask_checks import check_masks
from engine.data.doctor.mask_facts import shown
from engine.data.doctor.meaning import OUTSIDE, Meaning
from engine.data.doctor.page_checks import check_pages
from engine.data.doctor.range_checks import check_ranges
from engine.data.doctor.scan import Facts, scan
from engine.data.doctor.sequence_checks import check_sequences
from engine.data.doctor.unlabelled import check_unlabelled

__all__ = ["DataFinding", "DataReport", "Examination", "Listing", "examine", "list_samples_of", "report_on"]

BLENDS = np.finfo(np.float64).max  # stands for the values of interpolated borders; no mask holds it
MAX_ROWS = 256  # the most frequent; photos used as masks have millions


@dataclass(frozen=True)
class DataReport:
    """findings: the worst first. values: one row per mask value. skipped: checks that were not made, and why.

    readable: whether a training would read and score all of it, right or wrong, without stopping at a file.
    num_samples: of each split. num_unlabelled: images of data.unlabelled. divergence: between the class
    shares of each scored split and train, in bits.
    """

    findings: list[DataFinding]
    values: list[dict[str, Any]]
    skipped: list[str]
    num_samples: dict[str, int]
    divergence: dict[str, float]
    readable: bool = True
    num_unlabelled: int = 0

    @property
    def spoils(self) -> bool:
        """Whether training would be wasted."""
        return any(finding.severity == SPOILS for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The content of doctor.json; `from_dict` reads it back."""
        return {**vars(self), "findings": [finding.to_dict() for finding in self.findings]}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "DataReport":
        findings = [_finding_of(f) for f in content["findings"]]
        return cls(**{**content, "findings": findings})


def _finding_of(content: dict[str, Any]) -> DataFinding:
    lists = {key: tuple(content.get(key, ())) for key in ("where", "classes")}
    return DataFinding(**{**content, **lists})


@dataclass(frozen=True)
class Examination:
    """A report and the facts that it is based on."""

    facts: Facts
    meaning: Meaning
    report: DataReport


def list_samples_of(section: Any) -> Listing:
    """The samples of a recipe's `data` section; no image is opened."""
    return list_samples(section, lambda split: open_split(section, split), class_names_of(section))


def report_on(listing: Listing, progress: Callable[[int, int], None]) -> DataReport:
    """What `examine` finds; or what is wrong with masks of classes that may overlap."""
    if listing.section.labels == "multi":
        return DataReport(**masks_report(listing, progress))
    return examine(listing, progress).report


def examine(listing: Listing, progress: Callable[[int, int], None]) -> Examination:
    """Read every file once and check it; `progress` is called with (samples done, total)."""
    facts = scan(listing, progress)
    meaning = Meaning(facts)
    return Examination(facts, meaning, _report_on(facts, meaning))


def _report_on(facts: Facts, meaning: Meaning) -> DataReport:
    listing = facts.listing
    of_masks = list(check_masks(facts, meaning))
    findings = [*check_files(facts, meaning), *check_ranges(facts), *of_masks, *check_copies(facts)]
    findings += [*check_pages(facts), *check_sequences(facts), *check_unlabelled(listing)]
    skipped, divergence = [], {}
    counts = CountsBySplit(facts, meaning)
    if any(found.severity == SPOILS for found in of_masks):
        skipped.append("classes and their shares: the values of the masks have to be corrected first")
    else:
        findings += [*check_classes(facts, meaning), *void_borders(facts, meaning)]
        if listing.train in listing.splits:
            train = counts.share(listing.train)
            scored = [split for split in listing.scored if split in listing.splits and split != listing.train]
            divergence = {split: jensen_shannon(train, counts.share(split)) for split in scored}
    if listing.samples and not listing.has_files:
        skipped.append(
            "image files and duplicates: this format has no image files, only its labels were read"
        )
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    num_samples = {split: len(indices) for split, indices in listing.splits.items()}
    readable = _is_readable(facts, meaning) and all(
        counts.pixels[split].any() for split in listing.scored if split in counts.pixels
    )
    num_unlabelled = len(listing.unlabelled) if listing.unlabelled else 0
    rows = _value_rows(facts, meaning)
    return DataReport(findings, rows, skipped, num_samples, divergence, readable, num_unlabelled)


def _is_readable(facts: Facts, meaning: Meaning) -> bool:
    stops = facts.is_broken.copy()  # (n,)
    if facts.listing.may_skip:
        skipped = {*facts.image_problems, *facts.mask_problems} - facts.image_stops - facts.mask_stops
        stops[[*skipped]] = False
    return not (stops.any() or (meaning.labels == OUTSIDE).any())


def _value_rows(facts: Facts, meaning: Meaning) -> list[dict[str, Any]]:
    """Rows of value, name ("void", "unknown" or a class), masks, and share: split -> share of its pixels.

    A colour is written (r, g, b). The values of interpolated borders share one row, "blends".
    """
    listing, entries = facts.listing, facts.entries
    keys = np.where(meaning.is_blend, BLENDS, entries["value"])  # (k,)
    keys_there, first, place = np.unique(keys, return_index=True, return_inverse=True)
    n = len(keys_there)
    masks = np.bincount(np.unique(np.stack([place, entries["file"]]), axis=1)[0], minlength=n)
    pixels = {}
    for split, indices in listing.splits.items():
        own = np.isin(entries["file"], indices)
        pixels[split] = np.bincount(place[own], entries["count"][own], n)
    total = sum(pixels.values(), np.zeros(n))
    kept = np.sort(np.argsort(-total, kind="stable")[:MAX_ROWS])
    return [
        {
            "value": _shown_value(keys_there[row], facts.forms[entries["file"][first[row]]]),
            "name": "blends" if keys_there[row] == BLENDS else _name(facts, int(meaning.labels[first[row]])),
            "masks": int(masks[row]),
            "share": {split: float(p[row] / max(1.0, p.sum())) for split, p in pixels.items()},
        }
        for row in kept
    ]


def _shown_value(key: float, form: str) -> int | str:
    if key == BLENDS:
        return "blends"
    text = shown(key, form)
    return int(text) if text.isdigit() else text


def _name(facts: Facts, label: int) -> str:
    if label == facts.listing.ignore_index:
        return "void"
    return "unknown" if label == OUTSIDE else facts.listing.class_names[label]
