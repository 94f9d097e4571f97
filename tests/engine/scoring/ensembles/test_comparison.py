"""All methods on tiny members and drawn scenes, against `evaluate` and the bootstrap."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from engine.data.batches import scoring_batches
from engine.data.sample import Dataset, Sample, Skipped, UnreadableSample
from engine.data.synthetic import SyntheticScenes
from engine.recipe import Recipe, load_recipe
from engine.scoring import statistics
from engine.scoring.combining import Combination
from engine.scoring.ensembles import early_exit
from engine.scoring.ensembles.comparison import MethodComparison, compare_methods
from engine.scoring.ensembles.early_exit import Seen
from engine.scoring.ensembles.members import Members
from engine.scoring.ensembles.methods import METHODS
from engine.scoring.ensembles.weight_averaging import average_weights
from engine.scoring.ensembling import distinct_names, group_candidates, load_member, open_val
from engine.scoring.evaluation import evaluate
from engine.scoring.metrics import overlaps
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.statistics import draws, gain_interval
from models import build_model

CPU = torch.device("cpu")
PREDICTOR = Predictor(EvaluationProtocol(), nullcontext)


@pytest.fixture(autouse=True)
def _few_images_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are compared here, not relied on."""
    monkeypatch.setattr(statistics, "FEW_IMAGES", 2)


@pytest.fixture
def members_and_val(make_run: Callable) -> tuple[Members, Dataset]:
    """Two members of random weights, and five scenes."""
    [group] = group_candidates([make_run("a", {1: 0.3, 2: 0.4})])
    _, val = open_val(group.candidates[0], ())
    models = [load_member(candidate, CPU) for candidate in group.candidates]
    recipes = [load_recipe(group.candidates[0].run.recipe)] * 4
    by_name = dict(zip(distinct_names(group.candidates), models, strict=True))
    starts = ["same"] * 4
    state = partial(load_member, group.candidates[0], CPU)  # that of the first one, kept once more
    show = lambda task: lambda done, total: None  # noqa: E731
    states = {"latest": state, "average": state}
    return Members(
        by_name, recipes, starts, PREDICTOR, CPU, 0, show, states=states, tails=[(2, 1)], widths=(3,)
    ), val


def counted(members: Members, dataset: Dataset, combination: Combination) -> dict[str, np.ndarray]:
    rows: dict[str, list[torch.Tensor]] = {}

    def on_batch(ids, counts) -> None:
        for name, of_batch in counts.items():
            rows.setdefault(name, []).append(of_batch.confusion)

    batches = scoring_batches(dataset, CPU, workers=0)
    evaluate(members.models, batches, PREDICTOR, 6, 255, CPU, on_batch, {"it": combination})
    return {name: torch.cat(parts).numpy() for name, parts in rows.items()}


def mIoU_of_images(confusion: np.ndarray) -> np.ndarray:
    """(N,) of each image over its classes, from (N, C, C)."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    either = confusion.sum(axis=1) + confusion.sum(axis=2) - right
    return np.array([(r[e > 0] / e[e > 0]).mean() for r, e in zip(right, either, strict=True)])


def test_on_the_same_images_all_methods_are_chosen_scored_and_compared(members_and_val) -> None:
    members, val = members_and_val
    comparison = compare_methods(members, list(METHODS), val)
    assert list(comparison.results) == list(METHODS)
    by_hand = counted(members, val, Combination.mean(2))
    best = max(comparison.members, key=lambda name: comparison.members[name].mIoU)
    assert comparison.best == best
    mean = comparison.results["mean"]
    assert mean.honest is None
    assert mean.ranking_mIoU == mean.scores.mIoU == mean.flattering.mIoU
    assert mean.flattering.gain == pytest.approx(mean.scores.mIoU - comparison.members[best].mIoU)
    assert mean.flattering[2:4] == gain_interval(overlaps(by_hand[best]), overlaps(by_hand["it"]), draws(5))
    gains = mIoU_of_images(by_hand["it"]) - mIoU_of_images(by_hand[best])
    assert (mean.flattering.lowest, mean.flattering.highest) == pytest.approx((gains.min(), gains.max()))
    fitted = comparison.results["class_weighted"]
    again = counted(members, val, fitted.ensemble.combination)["it"].sum(axis=0)
    assert fitted.scores.metrics["aAcc"] == pytest.approx(np.trace(again) / again.sum())
    assert all(outcome.images_per_second > 0 for outcome in comparison.results.values())
    winner = comparison.results[comparison.winner].scores.mIoU
    assert comparison.to_winner.keys() == comparison.results.keys() - {comparison.winner}
    for method, behind in comparison.to_winner.items():
        assert behind.gain == pytest.approx(comparison.results[method].scores.mIoU - winner)
    assert comparison.optimism is not None
    for outcome in comparison.results.values():  # a rejected soup is the best member, whose gain is none
        assert outcome.ensemble.accepted or outcome.flattering.gain == 0


@pytest.mark.parametrize("elsewhere", [True, False])
def test_an_exit_of_some_images_scores_as_counted_image_by_image(
    members_and_val, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, val = members_and_val
    select = SyntheticScenes("val", 4, 32, 9) if elsewhere else None
    seen_by_choice = []

    def for_half(seen: Seen, tolerance: float) -> float:
        seen_by_choice.append(seen)
        return float(np.median(seen.certainty))

    monkeypatch.setattr(early_exit, "least_certainty", for_half)
    comparison = compare_methods(members, ["mean"], val, select)
    exiting = early_exit.choose_early_exit(members, comparison, val, select, 0.1)
    assert exiting is not None and exiting.early_exit is not None
    [chosen_on] = seen_by_choice
    assert len(chosen_on.certainty) == (4 if elsewhere else 5) and exiting.same_images != elsewhere
    # by hand, on val: (N, h', w') of the most likely class, at the resolution of the logits
    model = members.models[exiting.member]
    sure = []
    for sample in map(val.__getitem__, range(len(val))):
        with torch.no_grad():
            sure.append(model(sample.image[None]).softmax(dim=1).amax(dim=1).mean().item())
    exits = np.array(sure) >= np.median(chosen_on.certainty)
    assert elsewhere or exits.sum() == 3
    by_hand = counted(members, val, Combination.mean(2))
    confusion = np.where(exits[:, None, None], by_hand[exiting.member], by_hand["it"]).sum(axis=0)
    expected = mIoU_of_images(confusion[None])[0]
    assert exiting.scores.mIoU == pytest.approx(expected) == exiting.chosen.mIoU
    assert (exiting.chosen.share, exiting.chosen.cost) == pytest.approx((exits.mean(), 2 - exits.mean()))


def test_a_choice_on_other_images_gives_an_honest_and_a_flattering_score(members_and_val) -> None:
    members, val = members_and_val
    select = SyntheticScenes("val", 4, 32, 9)
    comparison = compare_methods(members, ["greedy", "weighted"], val, select)
    elsewhere = compare_methods(members, ["greedy", "weighted"], select)
    here = compare_methods(members, ["greedy", "weighted"], val)
    assert comparison.best == elsewhere.best
    assert comparison.optimism is None  # the best method was chosen on other images
    for method, outcome in comparison.results.items():
        assert outcome.ensemble == elsewhere.results[method].ensemble
        assert outcome.honest.mIoU == outcome.scores.mIoU
        assert outcome.flattering == here.results[method].flattering
        assert outcome.ranking_mIoU == elsewhere.results[method].scores.mIoU


def test_halves_keep_the_choice_and_add_an_honest_score(members_and_val) -> None:
    members, val = members_and_val
    whole = compare_methods(members, ["mean", "soup_uniform", "temperature"], val)
    halved = compare_methods(members, ["mean", "soup_uniform", "temperature"], val, repeats=2)
    for method, outcome in halved.results.items():
        assert outcome.ensemble == whole.results[method].ensemble
        assert outcome.flattering == whole.results[method].flattering
        assert outcome.ranking_mIoU == outcome.honest.mIoU
    mean = halved.results["mean"]
    assert mean.honest.mIoU == pytest.approx(mean.flattering.mIoU)  # nothing about it is chosen


def test_an_unreadable_image_is_left_out_everywhere(members_and_val) -> None:
    class Broken(SyntheticScenes):
        def __getitem__(self, index: int) -> Sample:
            if index == 0:
                raise UnreadableSample("broken")
            return super().__getitem__(index)

    members, _ = members_and_val
    broken = Broken("val", 4, 32, 0)
    broken.skipped = Skipped()
    comparison = compare_methods(members, ["weighted", "greedy"], broken, repeats=2)
    labelled = sum(int((broken[index].labels != 255).sum()) for index in (1, 2, 3))
    assert all(outcome.scores.num_pixels == labelled for outcome in comparison.results.values())


def test_the_best_method_is_not_a_rejected_soup() -> None:
    from types import SimpleNamespace as Some

    def outcome(accepted: bool, judged: float, cost: int = 2) -> Some:
        return Some(ensemble=Some(accepted=accepted, cost=cost), ranking_mIoU=judged)

    outcomes = {"mean": outcome(True, 0.5), "weighted": outcome(True, 0.6), "soup": outcome(False, 0.7)}
    assert MethodComparison({}, "", 1.0, outcomes).winner == "weighted"
    assert MethodComparison({}, "", 1.0, {"soup": outcomes["soup"]}).winner == "soup"
    outcomes["greedy"] = outcome(True, 0.6, cost=1)
    assert MethodComparison({}, "", 1.0, outcomes).winner == "greedy"  # of equals the cheapest


def test_a_soup_is_the_same_each_time(members_and_val) -> None:
    members, _ = members_and_val
    first, second = (members.average_weights((0, 1)).state_dict() for _ in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert set(first) == set(build_model(members.recipes[0].model, ["c"] * 6).state_dict())


def test_moving_averages_of_one_run_keep_the_mean_of_their_statistics(
    members_and_val, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, _ = members_and_val
    read: list[Recipe] = []

    def images(recipe: Recipe, device: torch.device) -> Iterator[torch.Tensor]:
        read.append(recipe)
        yield torch.zeros(2, 3, 32, 32)

    monkeypatch.setattr("engine.scoring.ensembles.members.training_images", images)
    recipe = members.recipes[0]
    train = recipe.train.model_copy(update={"ema": 0.9})
    averaged = recipe.model_copy(update={"train": train})
    other = averaged.model_copy(update={"seed": 5})
    for number, model in enumerate(members.models.values()):
        for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.running_mean.fill_(1.0 + number)
    expected = average_weights(list(members.models.values())).state_dict()
    for recipes, anew in (([averaged] * 4, False), ([averaged, other] * 2, True), ([recipe] * 4, True)):
        read.clear()
        found = replace(members, recipes=recipes).average_weights((0, 1)).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in found.items()) is not anew
        assert len(read) == anew


def test_a_soup_may_have_states_that_are_no_members(members_and_val) -> None:
    """The state is the first member's own, so the mean is that of both members, except for BatchNorm's."""
    members, _ = members_and_val
    of_state, of_members = (members.average_weights(soup).state_dict() for soup in ((2, 1), (0, 1)))
    assert all(torch.equal(value, of_members[key]) for key, value in of_state.items())
    assert members.average_weights((1,)) is members.models[members.names[1]]
