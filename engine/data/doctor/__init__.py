"""The doctor: what is wrong with a data set, found in one pass over its files, before a training is wasted.

`list_samples_of` finds the samples, `examine` reads and checks them. Knows nothing of consoles, run folders
or training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.data import class_table, open_split
from engine.data.doctor.class_checks import ClassCounts, check_classes, jensen_shannon
from engine.data.doctor.copies import check_copies
from engine.data.doctor.file_checks import check_files
from engine.data.doctor.findings import SEVERITIES, SPOILS, Finding
from engine.data.doctor.listing import Listing, list_samples
from engine.data.doctor.mask_checks import check_masks
from engine.data.doctor.meaning import Meaning
from engine.data.doctor.scan import Facts, scan
from engine.data.doctor.values import value_rows

__all__ = ["Diagnosis", "Examination", "Finding", "Listing", "examine", "list_samples_of"]


@dataclass(frozen=True)
class Diagnosis:
    """findings: the worst first. values: a row for each mask value. skipped: checks left out, and why.

    num_samples: of each split. divergence: of each scored split's class shares from those of train, in bits.
    """

    findings: list[Finding]
    values: list[dict[str, Any]]
    skipped: list[str]
    num_samples: dict[str, int]
    divergence: dict[str, float]

    @property
    def spoils(self) -> bool:
        """Whether training would be wasted."""
        return any(finding.severity == SPOILS for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As doctor.json has it; `from_dict` reads it back."""
        return {**vars(self), "findings": [finding.to_dict() for finding in self.findings]}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Diagnosis":
        findings = [Finding(**{**f, "where": tuple(f["where"])}) for f in content["findings"]]
        return cls(**{**content, "findings": findings})


@dataclass(frozen=True)
class Examination:
    """A diagnosis and what it rests on."""

    facts: Facts
    meaning: Meaning
    diagnosis: Diagnosis


def list_samples_of(section) -> Listing:
    """The samples of a recipe's `data` section; no picture is opened."""
    return list_samples(section, lambda split: open_split(section, split), class_table(section))


def examine(listing: Listing, progress: Callable[[int, int], None]) -> Examination:
    """Read every file once and check what was read; `progress` gets (samples done, samples in all)."""
    facts = scan(listing, progress)
    meaning = Meaning(facts)
    return Examination(facts, meaning, _diagnose(facts, meaning))


def _diagnose(facts: Facts, meaning: Meaning) -> Diagnosis:
    listing = facts.listing
    of_masks = list(check_masks(facts, meaning))
    findings = [*check_files(facts, meaning), *of_masks, *check_copies(facts, meaning)]
    skipped, divergence = [], {}
    counts = ClassCounts(facts, meaning)
    if of_masks:
        skipped.append("classes and their shares: the values of the masks have to be mended first")
    else:
        findings += check_classes(facts, meaning)
        if listing.train in listing.splits:
            train = counts.share(listing.train)
            scored = [split for split in listing.scored if split in listing.splits and split != listing.train]
            divergence = {split: jensen_shannon(train, counts.share(split)) for split in scored}
    if listing.samples and not listing.has_files:
        skipped.append("image files and copies: this format keeps no files of images, its labels were read")
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    num_samples = {split: len(indices) for split, indices in listing.splits.items()}
    return Diagnosis(findings, value_rows(facts, meaning), skipped, num_samples, divergence)
