"""Compares methods on the same members: selected on one split, scored on another or on the same one.

Shapes: N images, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from engine.data.sample import Dataset
from engine.scoring.agreement import Agreement
from engine.scoring.combining import Combination
from engine.scoring.confusion import Scores
from engine.scoring.ensembles.cross_validation import BEST_MEMBER, cross_validate
from engine.scoring.ensembles.members import Counted, Members
from engine.scoring.ensembles.methods import CHOOSING, choose_ensemble
from engine.scoring.ensembles.selection import Ensemble, SelectionData, Soup
from engine.scoring.ensembling import scores_to_json
from engine.scoring.metrics import mean_iou_of_overlaps
from engine.scoring.numerics import full_float32
from engine.scoring.statistics import (
    Overlaps,
    draws,
    gain_interval,
    image_mean_iou,
    optimism_of_the_best,
    range_of,
)


class Estimate(NamedTuple):
    """mIoU, its gain over the best member, and the ends of that gain's interval.

    lowest, highest: gain in mIoU of a single image; NaN if no image has a labelled class.
    """

    mIoU: float
    gain: float
    low: float
    high: float
    lowest: float
    highest: float

    def to_dict(self) -> dict[str, object]:
        return {"mIoU": self.mIoU, "gain": {"value": self.gain, "low": self.low, "high": self.high}}


@dataclass(frozen=True)
class MethodResult:
    """How one method does on the reported split.

    ensemble, scores: the ensemble that is used and saved, and its scores.
    flattering: of an ensemble that was selected on the images on which it is scored. honest: of one that was
    selected on other images; None if that was not asked for.
    ranking_mIoU: the mIoU by which methods are ranked.
    """

    ensemble: Ensemble
    scores: Scores
    flattering: Estimate
    honest: Estimate | None
    ranking_mIoU: float
    images_per_second: float


@dataclass(frozen=True)
class MethodComparison:
    """Scores of the members, the name and speed of the best one, and a result by method.

    overlaps, overlaps_chosen_on: (N, 2, C) by `Ensemble.key`, also of single members, on the reported split
    and on the split on which ensembles were selected.
    to_winner: the mIoU of each other method minus the mIoU of the winner, on the same images.
    optimism: the bias of the winner's mIoU because it was selected on the reported images; None with one
    method, or if it was selected on another split.
    """

    members: dict[str, Scores]
    best: str
    images_per_second: float
    results: dict[str, MethodResult]
    overlaps: Mapping[Combination | Soup, Overlaps] = field(default_factory=dict)
    overlaps_chosen_on: Mapping[Combination | Soup, Overlaps] = field(default_factory=dict)
    to_winner: dict[str, Estimate] = field(default_factory=dict)
    optimism: float | None = None

    @property
    def winner(self) -> str:
        """The method to keep: accepted before rejected, of the highest mIoU, of equals the cheapest."""
        return _winner(self.results)

    @property
    def shown(self) -> dict[str, Scores]:
        """The scores of all members, and of the winner."""
        return self.members | {self.winner: self.results[self.winner].scores}


@dataclass(frozen=True)
class Selection:
    """The images on which ensembles were selected.

    split, num_images: the split. same_images: whether the scores are of the same images. repeats: of the
    cross-validation for honest estimates; 0: none.
    """

    split: str
    num_images: int
    same_images: bool
    repeats: int


@full_float32()
def compare_methods(
    members: Members,
    methods: Sequence[str],
    report: Dataset,
    select: Dataset | None = None,
    repeats: int = 0,
    agreement: Agreement | None = None,
) -> MethodComparison:
    """Select an ensemble by each method, score it, and measure its gain and speed.

    Args:
        methods: names of METHODS.
        report: the split whose scores are given.
        select: the split on which ensembles are selected; None: `report`.
        repeats: of the cross-validation on `report` for an honest estimate; only without `select`.
        agreement: counts where the members agree on `report`.
    """
    assert not (select and repeats), "two ways to an honest estimate"
    if repeats or any(method in CHOOSING for method in methods):
        on_report = members.observe(methods, report, "predicting with the members")
    else:
        on_report = members.without_images()
    chosen_on_report = _choose(methods, on_report)
    on_select = members.observe(methods, select, "predicting the selection split") if select else None
    chosen = _choose(methods, on_select) if on_select else chosen_on_report
    counted = members.count(report, [*chosen.values(), *chosen_on_report.values()], "scoring", agreement)
    single = [counted[members.one_hot(number)] for number in range(len(members.models))]
    best = max(range(len(single)), key=lambda number: single[number].scores.mIoU)

    flattering = _estimates(_overlaps(counted, chosen_on_report), single[best].overlaps)
    honest: dict[str, Estimate] = {}
    ranking, there = flattering, counted
    reported = _overlaps(counted, chosen)
    if select and on_select:
        best = on_select.best_member
        honest = _estimates(reported, single[best].overlaps)
        there = members.count(select, list(chosen.values()), "scoring the selection split")
        ranking = _estimates(_overlaps(there, chosen), there[members.one_hot(best)].overlaps)
    elif repeats:
        reported = _cross_validated(members, methods, report, on_report, repeats)
        best_members = reported.pop(BEST_MEMBER)
        honest = ranking = _estimates(reported, best_members)
    timed = {**chosen, BEST_MEMBER: Ensemble(members.one_hot(best))}
    speeds = members.images_per_second(report, timed, "timing")
    results = {
        method: MethodResult(
            ensemble=ensemble,
            scores=counted[ensemble.key].scores,
            flattering=flattering[method],
            honest=honest.get(method),
            ranking_mIoU=ranking[method].mIoU,
            images_per_second=speeds[method],
        )
        for method, ensemble in chosen.items()
    }
    winner = _winner(results)
    others = {method: found for method, found in reported.items() if method != winner}
    optimism = None
    if others and not select:
        optimism = optimism_of_the_best(list(reported.values()), draws(len(reported[winner])))
    return MethodComparison(
        members={name: counts.scores for name, counts in zip(members.names, single, strict=True)},
        best=members.names[best],
        images_per_second=speeds[BEST_MEMBER],
        results=results,
        overlaps={key: counts.overlaps for key, counts in counted.items()},
        overlaps_chosen_on={key: counts.overlaps for key, counts in there.items()},
        to_winner=_estimates(others, reported[winner]),
        optimism=optimism,
    )


def comparison_report(comparison: MethodComparison, selection: Selection) -> dict[str, object]:
    """The keys "best_member", "ensembles" and "selection" of ensemble.json.

    "soup" has the numbers of the averaged members, counted from 0, then of "latest_states" and "averages".

    The gain of an ensemble is optimistic if `same_images` is True, like its scores. "honest" is None if no
    honest estimate was asked for.
    """
    results = comparison.results
    honest = {method: result.honest.to_dict() for method, result in results.items() if result.honest}
    flattering = {method: result.flattering.to_dict() for method, result in results.items()}
    to_winner = {method: found.to_dict()["gain"] for method, found in comparison.to_winner.items()}
    return {
        "best_member": {"name": comparison.best, "images_per_second": comparison.images_per_second},
        "ensembles": {method: _entry(result, selection.same_images) for method, result in results.items()},
        "selection": asdict(selection)
        | {"honest": honest or None, "flattering": flattering, "winner": comparison.winner}
        | {"optimism_of_the_winner": comparison.optimism, "to_winner": to_winner},
    }


def _entry(result: MethodResult, same_images: bool) -> dict[str, object]:
    estimate = result.flattering if same_images else result.honest
    assert estimate is not None
    ensemble = result.ensemble
    return scores_to_json(result.scores) | {
        "gain": estimate.to_dict()["gain"],
        "images_per_second": result.images_per_second,
        "cost": ensemble.cost,
        "note": ensemble.note,
        "combination": None if ensemble.soup else ensemble.combination.to_dict(),
        "soup": list(ensemble.soup),
        "accepted": ensemble.accepted,
    }


def _winner(results: Mapping[str, MethodResult]) -> str:
    def rank(method: str) -> tuple[bool, float, int]:
        result = results[method]
        return result.ensemble.accepted, result.ranking_mIoU, -result.ensemble.cost

    return max(results, key=rank)


def _choose(methods: Sequence[str], data: SelectionData) -> dict[str, Ensemble]:
    return {method: choose_ensemble(method, data) for method in methods}


def _overlaps(
    counted: Mapping[Combination | Soup, Counted], chosen: Mapping[str, Ensemble]
) -> dict[str, Overlaps]:
    return {method: counted[ensemble.key].overlaps for method, ensemble in chosen.items()}


def _cross_validated(
    members: Members, methods: Sequence[str], dataset: Dataset, data: SelectionData, repeats: int
) -> dict[str, Overlaps]:
    return cross_validate(
        methods,
        data,
        repeats,
        lambda wanted, on_row: members.count_rows(dataset, data.ids, wanted, on_row, "scoring other halves"),
        members.show("choosing by halves"),
    )


def _estimates(found: Mapping[str, Overlaps], before: Overlaps) -> dict[str, Estimate]:
    """The gain of each method over `before`, on the same images."""
    return {method: estimate(before, after) for method, after in found.items()}


def estimate(before: Overlaps, after: Overlaps) -> Estimate:
    """The gain of one predictor over another, from the (N, 2, C) overlaps of the same images."""
    mIoU, of_best = (mean_iou_of_overlaps(found.sum(axis=0)) for found in (after, before))
    interval = gain_interval(before, after, draws(len(after)))
    of_images = image_mean_iou(after) - image_mean_iou(before)
    return Estimate(mIoU, mIoU - of_best, interval.low, interval.high, *range_of(of_images))
