"""Early exit: if one member is certain of an image, the others do not see it.

Its certainty of an image is `Pieces.certainty`. The threshold above which it predicts alone is selected on
one split: the lowest one, which is the cheapest, with an mIoU at most a tolerance below the mIoU of the whole
ensemble.

Shapes: N images, C classes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.data.sample import Dataset
from engine.scoring.combining import Combination, EarlyExit
from engine.scoring.confusion import Scores
from engine.scoring.ensembles.comparison import Estimate, MethodComparison, estimate
from engine.scoring.ensembles.members import Members
from engine.scoring.ensembles.selection import Ensemble, Soup
from engine.scoring.metrics import mean_iou_of_overlaps
from engine.scoring.numerics import full_float32
from engine.scoring.statistics import Overlaps

SHARES = tuple(tenth / 10 for tenth in range(11))  # of the images that exit, for the curve


@dataclass(frozen=True)
class ExitPoint:
    """An ensemble with an early exit at this threshold, on the reported split.

    certainty: the threshold; None: no image exits. share: of the images that exit. cost: mean forward passes
    per image and view.
    """

    certainty: float | None
    share: float
    cost: float
    mIoU: float


@dataclass(frozen=True)
class Seen:
    """Counts of each image of a split.

    certainty (N,): of the member that runs first. alone, together (N, 2, C): overlaps of that member, and of
    the whole ensemble.
    """

    certainty: NDArray[np.float64]
    alone: Overlaps
    together: Overlaps

    def mixed(self, least: float | None) -> Overlaps:
        """(N, 2, C): of the member alone if its certainty is `least` or more, else of the ensemble."""
        return np.where(self._exits(least)[:, None, None], self.alone, self.together)

    def at(self, least: float | None, num_members: int) -> ExitPoint:
        """The mIoU and the cost with this threshold."""
        share = float(self._exits(least).mean())
        mIoU = mean_iou_of_overlaps(self.mixed(least).sum(axis=0))
        return ExitPoint(least, share, 1 + (1 - share) * (num_members - 1), mIoU)

    def _exits(self, least: float | None) -> NDArray[np.bool_]:
        """(N,)"""
        return self.certainty >= (np.inf if least is None else least)


@dataclass(frozen=True)
class Exiting:
    """The selected early exit, its cost and its gain.

    member: the name of the member that runs first. early_exit: None if no threshold is within the tolerance.
    ensemble, scores: with the early exit, on the reported split. to_whole: the gain over the whole ensemble.
    curve: from no image exiting to all images exiting, on the reported split.
    """

    member: str
    tolerance: float
    same_images: bool
    early_exit: EarlyExit | None
    ensemble: Ensemble
    scores: Scores
    chosen: ExitPoint
    to_whole: Estimate
    curve: list[ExitPoint]

    def to_dict(self) -> dict[str, object]:
        """For ensemble.json."""
        return {
            "member": self.member,
            "tolerance": self.tolerance,
            "same_images": self.same_images,
            "certainty": self.early_exit and self.early_exit.certainty,
            "chosen": asdict(self.chosen),
            "to_whole": self.to_whole.to_dict()["gain"],
            "curve": [asdict(point) for point in self.curve],
        }


def least_certainty(seen: Seen, tolerance: float) -> float | None:
    """The lowest threshold with an mIoU at most `tolerance` below the ensemble's; None if there is none.

    It is halfway to the next less certain image, so that rounding does not move an image across it.
    """
    order = np.argsort(-seen.certainty, kind="stable")
    alone, together = seen.alone[order].cumsum(axis=0), seen.together[order].cumsum(axis=0)
    mixed = alone + together[-1] - together  # (N, 2, C): after the first, the first two, ... exit
    mIoU = np.array([mean_iou_of_overlaps(counts) for counts in mixed])
    ranked = np.append(seen.certainty[order], 0.0)
    ends = ranked[:-1] > ranked[1:]  # of equally certain images, all exit or none
    possible = np.flatnonzero(ends & (mIoU >= mean_iou_of_overlaps(together[-1]) - tolerance))
    if not len(possible):
        return None
    last = int(possible[-1])
    return float((ranked[last] + ranked[last + 1]) / 2)


@full_float32()
def choose_early_exit(
    members: Members, comparison: MethodComparison, report: Dataset, select: Dataset | None, tolerance: float
) -> Exiting | None:
    """Select the early exit of the best method; None if that method runs one model.

    Args:
        comparison: of the methods, scored on `report`, selected on `select`; None: on `report` too.
        tolerance: how much mIoU may be lost on the split of the selection.
    """
    result = comparison.results[comparison.winner]
    combination = result.ensemble.combination
    if result.ensemble.cost < 2:
        return None
    here, there = comparison.overlaps, comparison.overlaps_chosen_on
    first = max(
        combination.used,
        key=lambda number: mean_iou_of_overlaps(there[members.one_hot(number)].sum(axis=0)),
    )

    def seen(dataset: Dataset, overlaps: Mapping[Combination | Soup, Overlaps]) -> Seen:
        certainty = members.certainties(first, dataset, f"certainty of {members.names[first]}")
        return Seen(certainty, overlaps[members.one_hot(first)], overlaps[combination])

    reported = seen(report, here)
    chosen_on = seen(select, there) if select else reported
    least = least_certainty(chosen_on, tolerance)
    num_members = len(combination.used)
    early_exit = None if least is None else EarlyExit(first, least)
    ensemble = replace(result.ensemble, combination=replace(combination, early_exit=early_exit))
    scores = result.scores
    if early_exit:
        scores = members.count(report, [ensemble], "scoring with the early exit")[ensemble.key].scores
    chosen = reported.at(least, num_members)
    levels = np.quantile(reported.certainty, [1 - share for share in SHARES[1:]], method="higher")
    fewer = dict.fromkeys(levels.tolist())  # of few images several shares are the same ones
    return Exiting(
        member=members.names[first],
        tolerance=tolerance,
        same_images=select is None,
        early_exit=early_exit,
        ensemble=ensemble,
        scores=scores,
        chosen=chosen,
        to_whole=estimate(reported.together, reported.mixed(least)),
        curve=[reported.at(level, num_members) for level in (None, *fewer)],
    )
