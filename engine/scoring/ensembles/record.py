"""What ensemble.json says of every method, beside what it says of members, protocol and data."""

from dataclasses import asdict, dataclass

from engine.scoring.ensembles.contest import Contest, Figure, Outcome
from engine.scoring.ensembling import scores_to_json


@dataclass(frozen=True)
class Selection:
    """What the methods were chosen on.

    split, num_images: the split. same_images: whether the scores are of those very images. repeats: how often
    these were halved for an honest figure; 0: never.
    """

    split: str
    num_images: int
    same_images: bool
    repeats: int


def contest_record(contest: Contest, selection: Selection) -> dict[str, object]:
    """The keys "best_member", "ensembles" and "selection" of ensemble.json.

    The gain of an ensemble belongs to its scores: it is flattering where `same_images` is true. "honest" is
    None where no honest figure was asked for.
    """
    outcomes = contest.outcomes
    honest = {method: _figure(o.honest) for method, o in outcomes.items() if o.honest}
    return {
        "best_member": {"name": contest.best, "images_per_second": contest.images_per_second},
        "ensembles": {method: _entry(outcome, selection.same_images) for method, outcome in outcomes.items()},
        "selection": asdict(selection)
        | {
            "honest": honest or None,
            "flattering": {method: _figure(outcome.flattering) for method, outcome in outcomes.items()},
        },
    }


def _entry(outcome: Outcome, same_images: bool) -> dict[str, object]:
    figure = outcome.flattering if same_images else outcome.honest
    assert figure is not None
    choice = outcome.choice
    return scores_to_json(outcome.scores) | {
        "gain": _figure(figure)["gain"],
        "images_per_second": outcome.images_per_second,
        "cost": choice.cost,
        "note": choice.note,
        "combination": None if choice.soup else choice.combination.to_dict(),
        "soup": list(choice.soup),
        "accepted": choice.accepted,
    }


def _figure(figure: Figure) -> dict[str, object]:
    return {
        "mIoU": figure.mIoU,
        "gain": {"value": figure.gain, "low": figure.low, "high": figure.high},
    }
