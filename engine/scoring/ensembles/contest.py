"""Every method on the same members: chosen on one set of images, reported on another or, said so, on it.

Knows nothing of runs, files or tables.

Shapes: N images, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.data.sample import Dataset
from engine.scoring.combining import Combination
from engine.scoring.confusion import Scores
from engine.scoring.ensembles.field import Counted, Field
from engine.scoring.ensembles.halves import BEST_MEMBER, count_across_halves
from engine.scoring.ensembles.methods import CHOOSING, Choice, Evidence, Soup, choose
from engine.scoring.metrics import mean_iou_of_overlaps
from engine.scoring.statistics import Overlaps, draws, gain_interval


class Figure(NamedTuple):
    """mIoU, its gain over the best member, and the ends of that gain's interval."""

    mIoU: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcome:
    """What a method is worth on the split that is reported.

    choice, scores: what is used, and saved.
    flattering: of what was chosen on those very images. honest: of what never saw the image that it is scored
    on; None where that was not asked for.
    judged: the mIoU that methods are ranked by.
    """

    choice: Choice
    scores: Scores
    flattering: Figure
    honest: Figure | None
    judged: float
    images_per_second: float


@dataclass(frozen=True)
class Contest:
    """Scores and speed of the members, the name of the best one, and an outcome by method."""

    members: dict[str, Scores]
    best: str
    images_per_second: float
    outcomes: dict[str, Outcome]

    @property
    def winner(self) -> str:
        """The method to keep: the first of the accepted ones that are ranked highest."""

        def rank(method: str) -> tuple[bool, float]:
            outcome = self.outcomes[method]
            return outcome.choice.accepted, outcome.judged

        return max(self.outcomes, key=rank)


def hold(
    field: Field, methods: Sequence[str], report: Dataset, select: Dataset | None = None, repeats: int = 0
) -> Contest:
    """Choose by each method, score it, and say what it gains and costs.

    Args:
        methods: names of METHODS.
        report: the split whose scores are given.
        select: the split that is chosen on; None takes `report`.
        repeats: how often `report` is halved at random for an honest figure; only without `select`.
    """
    assert not (select and repeats), "one way to be honest"
    has_to_look = repeats or any(method in CHOOSING for method in methods)
    on_report = field.look(methods, report, "looking at the members") if has_to_look else field.unseen()
    flattering = {method: choose(method, on_report) for method in methods}
    chosen, on_select = flattering, None
    if select:
        on_select = field.look(methods, select, "looking at the selection split")
        chosen = {method: choose(method, on_select) for method in methods}
    counted = field.count(report, [*chosen.values(), *flattering.values()], "scoring")
    members = [counted[field.alone(number)] for number in range(len(field.models))]
    best = max(range(len(members)), key=lambda number: members[number].scores.mIoU)

    on_same = _figures(counted, flattering, members[best])
    honest: dict[str, Figure] = {}
    judged = on_same
    if on_select and select:
        best = on_select.best_member
        honest = _figures(counted, chosen, members[best])
        there = field.count(select, list(chosen.values()), "scoring the selection split")
        judged = _figures(there, chosen, there[field.alone(best)])
    if repeats:
        honest = judged = _across_halves(field, methods, report, on_report, repeats)
    speeds = field.images_per_second(report, {**chosen, BEST_MEMBER: Choice(field.alone(best))}, "timing")
    return Contest(
        members={name: of_member.scores for name, of_member in zip(field.names, members, strict=True)},
        best=field.names[best],
        images_per_second=speeds[BEST_MEMBER],
        outcomes={
            method: Outcome(
                choice=choice,
                scores=counted[choice.what].scores,
                flattering=on_same[method],
                honest=honest.get(method),
                judged=judged[method].mIoU,
                images_per_second=speeds[method],
            )
            for method, choice in chosen.items()
        },
    )


def _across_halves(
    field: Field, methods: Sequence[str], dataset: Dataset, seen: Evidence, repeats: int
) -> dict[str, Figure]:
    totals = count_across_halves(
        methods,
        seen,
        repeats,
        lambda wanted, on_row: field.count_rows(dataset, seen.ids, wanted, on_row, "scoring other halves"),
        field.show("choosing by halves"),
    )
    return {method: _figure(totals[BEST_MEMBER], totals[method]) for method in methods}


def _figures(
    counted: Mapping[Combination | Soup, Counted], choices: Mapping[str, Choice], best: Counted
) -> dict[str, Figure]:
    return {
        method: _figure(best.overlaps, counted[choice.what].overlaps) for method, choice in choices.items()
    }


def _figure(before: Overlaps, after: Overlaps) -> Figure:
    mIoU, of_best = (mean_iou_of_overlaps(found.sum(axis=0)) for found in (after, before))
    interval = gain_interval(before, after, draws(len(after)))
    return Figure(mIoU, mIoU - of_best, interval.low, interval.high)
