"""The doctor on a recipe with several sets: each is examined alone, and then what they share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from engine.data import DataError, open_split
from engine.data.doctor import DataReport, Listing, list_samples_of
from engine.data.doctor.division import share_key
from engine.data.doctor.findings import HURTS, NOTE, SEVERITIES, DataFinding, finding
from engine.data.overlap import shared_images
from engine.data.sample import Dataset
from engine.data.sets import in_set, scored_further, sets_of
from engine.wording import some_of

Value = TypeVar("Value")


def list_sets(section: Any) -> dict[str, Listing]:
    """The samples of each set of a recipe, by the name of the set; no image is opened.

    Raises:
        DataError: a set cannot be opened, or its classes have no place among those of the model.
    """
    listings = {name: list_samples_of(one) for name, one in sets_of(section).items()}
    refused = [
        in_set(why, name, place)
        for place, (name, listing) in _with_places(listings)
        for why in listing.refused.values()
    ]
    if refused:
        raise DataError("\n".join(dict.fromkeys(refused)))
    if section.also:
        for split in (section.train, *scored_further(section).values()):
            open_split(section, split)
    return listings


def report_on_sets(section: Any, reports: Mapping[str, DataReport]) -> DataReport:
    """One report on all sets: findings, values of masks and splits are named by their set.

    Args:
        section: a recipe's `data`.
        reports: by set, each of which could be opened.
    """
    findings = naming_sets({name: report.findings for name, report in reports.items()})
    findings += _shared_between(section)
    findings.sort(key=lambda found: SEVERITIES.index(found.severity))
    num_samples = {
        f"{name}/{split}": number
        for name, report in reports.items()
        for split, number in report.num_samples.items()
    }
    values = [
        {
            **row,
            "value": f"{name}: {row['value']}",
            "share": dict.fromkeys(num_samples, 0.0)
            | {f"{name}/{split}": share for split, share in row["share"].items()},
        }
        for name, report in reports.items()
        for row in report.values
    ]
    return DataReport(
        findings,
        values,
        [f"set {name}: {what}" for name, report in reports.items() for what in report.skipped],
        num_samples,
        {f"{name}/{split}": d for name, report in reports.items() for split, d in report.divergence.items()},
        all(report.readable for report in reports.values()),
        sum(report.num_unlabelled for report in reports.values()),
    )


def naming_sets(findings: Mapping[str, Sequence[DataFinding]]) -> list[DataFinding]:
    """Those of all sets of a recipe, by set; where there are several, they name theirs, and its keys."""
    if len(findings) == 1:
        return [found for of_set in findings.values() for found in of_set]
    return [
        replace(found, what=f"set {name}: {found.what}", remedy=in_set(found.remedy, name, place))
        for place, (name, of_set) in _with_places(findings)
        for found in of_set
    ]


def _shared_between(section: Any) -> Iterator[DataFinding]:
    """Equal image files in different sets: from train to a scored split, and in two training splits."""
    sets = sets_of(section)
    trained = {name: open_split(one, one.train) for name, one in sets.items() if one.train}
    scored = [(name, split) for name, one in sets.items() for split in (one.val, one.select) if split]
    for name, split in dict.fromkeys(scored):
        dataset = open_split(sets[name], split)
        for other, train in trained.items():
            if other != name and (ids := shared_images(dataset, train)):
                yield finding(
                    "leak",
                    HURTS,
                    _also_in(dataset, ids, f"{name}/{split}", f"{other}/{sets[other].train}"),
                    "The model has seen these pixels with their labels: "
                    f"the score on {name}/{split} is too high.",
                    f"Take them out of {_holder(sets[other], sets[other].train)}, or out of "
                    f"{_holder(sets[name], split)}.",
                    sorted(ids),
                )
    names = [*trained]
    for place, name in enumerate(names):
        for earlier in names[:place]:
            if ids := shared_images(trained[name], trained[earlier]):
                yield finding(
                    "repeats",
                    NOTE,
                    _also_in(trained[name], ids, f"{name}/{sets[name].train}", earlier),
                    "An image that is in two sets is drawn from both, with the labels of each.",
                    f"Keep them in one of the sets {earlier} and {name}.",
                    sorted(ids),
                )


def _holder(one: Any, split: str) -> str:
    """What images are taken out of so that they are no longer in a split of a set."""
    if share_key(one):
        return f"the folder of set {one.name}, with their masks"
    return f"the list of {one.name}/{split}"


def _with_places(of_sets: Mapping[str, Value]) -> Iterator[tuple[int | None, tuple[str, Value]]]:
    """The place in data.also of each set, None for the first, with its name and value."""
    return zip([None, *range(len(of_sets) - 1)], of_sets.items(), strict=True)


def _also_in(dataset: Dataset, ids: set[str], split: str, other: str) -> str:
    return f"{some_of(len(ids), len(dataset), 'image', f'of {split} is', f'of {split} are')} also in {other}"
