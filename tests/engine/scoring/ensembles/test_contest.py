"""All methods on tiny members and drawn scenes, against what evaluate and the bootstrap say."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from engine.data.batches import scoring_batches
from engine.data.sample import Dataset, Sample, Skipped, UnreadableSample
from engine.data.synthetic import SyntheticScenes
from engine.recipe import load_recipe
from engine.scoring.combining import Combination
from engine.scoring.ensembles.contest import Contest, hold
from engine.scoring.ensembles.field import Field
from engine.scoring.ensembles.kitchen import Kitchen
from engine.scoring.ensembles.methods import METHODS
from engine.scoring.ensembling import distinct_names, group_candidates, load_member, open_val
from engine.scoring.evaluation import evaluate
from engine.scoring.metrics import overlaps
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.statistics import draws, gain_interval
from models import build_model

CPU = torch.device("cpu")
PREDICTOR = Predictor(EvaluationProtocol(), nullcontext)


@pytest.fixture
def arena(make_run: Callable) -> tuple[Field, Dataset]:
    """Two members of random weights, and five scenes."""
    [group] = group_candidates([make_run("a", {1: 0.3, 2: 0.4})])
    _, val = open_val(group.candidates[0], ())
    models = [load_member(candidate, CPU) for candidate in group.candidates]
    recipes = [load_recipe(candidate.run.recipe) for candidate in group.candidates]
    by_name = dict(zip(distinct_names(group.candidates), models, strict=True))
    field = Field(
        by_name, Kitchen(recipes, models, CPU), PREDICTOR, CPU, 0, lambda task: lambda done, total: None
    )
    return field, val


def counted(field: Field, dataset: Dataset, combination: Combination) -> dict[str, np.ndarray]:
    rows: dict[str, list[torch.Tensor]] = {}

    def on_batch(ids, counts) -> None:
        for name, of_batch in counts.items():
            rows.setdefault(name, []).append(of_batch.confusion)

    batches = scoring_batches(dataset, CPU, workers=0)
    evaluate(field.models, batches, PREDICTOR, 6, 255, CPU, on_batch, {"it": combination})
    return {name: torch.cat(parts).numpy() for name, parts in rows.items()}


def test_on_the_same_images_all_methods_are_chosen_scored_and_compared(arena) -> None:
    field, val = arena
    contest = hold(field, list(METHODS), val)
    assert list(contest.outcomes) == list(METHODS)
    by_hand = counted(field, val, Combination.mean(2))
    best = max(contest.members, key=lambda name: contest.members[name].mIoU)
    assert contest.best == best
    mean = contest.outcomes["mean"]
    assert mean.honest is None
    assert mean.judged == mean.scores.mIoU == mean.flattering.mIoU
    assert mean.flattering.gain == pytest.approx(mean.scores.mIoU - contest.members[best].mIoU)
    assert mean.flattering[2:] == gain_interval(overlaps(by_hand[best]), overlaps(by_hand["it"]), draws(5))
    fitted = contest.outcomes["class_weighted"]
    again = counted(field, val, fitted.choice.combination)["it"].sum(axis=0)
    assert fitted.scores.metrics["aAcc"] == pytest.approx(np.trace(again) / again.sum())
    assert all(outcome.images_per_second > 0 for outcome in contest.outcomes.values())
    for outcome in contest.outcomes.values():  # a rejected soup is the best member, whose gain is none
        assert outcome.choice.accepted or outcome.flattering.gain == 0


def test_what_is_chosen_elsewhere_is_honest_and_both_figures_are_told(arena) -> None:
    field, val = arena
    select = SyntheticScenes("val", 4, 32, 9)
    contest = hold(field, ["greedy", "weighted"], val, select)
    elsewhere = hold(field, ["greedy", "weighted"], select)
    here = hold(field, ["greedy", "weighted"], val)
    assert contest.best == elsewhere.best
    for method, outcome in contest.outcomes.items():
        assert outcome.choice == elsewhere.outcomes[method].choice
        assert outcome.honest.mIoU == outcome.scores.mIoU
        assert outcome.flattering == here.outcomes[method].flattering
        assert outcome.judged == elsewhere.outcomes[method].scores.mIoU


def test_halves_leave_the_choice_and_add_an_honest_figure(arena) -> None:
    field, val = arena
    whole = hold(field, ["mean", "soup_uniform", "temperature"], val)
    halved = hold(field, ["mean", "soup_uniform", "temperature"], val, repeats=2)
    for method, outcome in halved.outcomes.items():
        assert outcome.choice == whole.outcomes[method].choice
        assert outcome.flattering == whole.outcomes[method].flattering
        assert outcome.judged == outcome.honest.mIoU
    mean = halved.outcomes["mean"]
    assert mean.honest.mIoU == pytest.approx(mean.flattering.mIoU)  # nothing about it is chosen


def test_an_image_that_cannot_be_read_is_left_out_everywhere(arena) -> None:
    class Broken(SyntheticScenes):
        def __getitem__(self, index: int) -> Sample:
            if index == 0:
                raise UnreadableSample("broken")
            return super().__getitem__(index)

    field, _ = arena
    broken = Broken("val", 4, 32, 0)
    broken.skipped = Skipped()
    contest = hold(field, ["weighted", "greedy"], broken, repeats=2)
    labelled = sum(int((broken[index].labels != 255).sum()) for index in (1, 2, 3))
    assert all(outcome.scores.num_pixels == labelled for outcome in contest.outcomes.values())


def test_the_winner_is_no_rejected_soup() -> None:
    from types import SimpleNamespace as Some

    def outcome(accepted: bool, judged: float) -> Some:
        return Some(choice=Some(accepted=accepted), judged=judged)

    outcomes = {"mean": outcome(True, 0.5), "weighted": outcome(True, 0.6), "soup": outcome(False, 0.7)}
    assert Contest({}, "", 1.0, outcomes).winner == "weighted"
    assert Contest({}, "", 1.0, {"soup": outcomes["soup"]}).winner == "soup"


def test_only_members_of_one_architecture_are_ingredients(tmp_path) -> None:
    def recipe(model: str):
        path = tmp_path / "recipe.yaml"
        path.write_text(f"name: a\ndata: {{format: synthetic}}\nmodel: {{from_scratch: true, {model}}}\n")
        return load_recipe(path)

    b0, unet = recipe("variant: b0"), recipe("arch: unet, encoder: resnet18")
    assert Kitchen([unet, b0, b0], [], CPU).ingredients() == (1, 2)
    assert Kitchen([unet, b0], [], CPU).ingredients() == (0,)


def test_a_soup_is_the_same_each_time(arena) -> None:
    field, _ = arena
    first, second = (field.kitchen.cook((0, 1)).state_dict() for _ in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert set(first) == set(build_model(field.kitchen.recipes[0].model, ["c"] * 6).state_dict())
