"""What is recommended, in which order, and that none of it is in the recipe already."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from engine.diagnosis import diagnose, study
from engine.diagnosis.classes import Correlation
from engine.diagnosis.curve import Outlook, shape_of
from engine.diagnosis.growth import longer
from engine.diagnosis.recommendations import RULES, recommend
from engine.diagnosis.remedies import changing
from engine.diagnosis.training import Losses
from engine.recipe import load_recipe
from engine.run_folder import RunFolder
from engine.scoring.run import Run
from tests.engine.diagnosis.written_runs import (
    RECIPE,
    STEPS,
    MakeRun,
    evaluations,
    every_line_loads,
    titles,
    train_rows,
)

LOOK_ALIKE = np.array([[[100, 0, 0], [0, 60, 40], [0, 0, 100]]] * 4)


@pytest.mark.parametrize(
    ("curve", "falling_rate", "expected"),
    [
        (10 + 0.02 * STEPS, False, ["Train longer."]),
        (10 + 0.02 * STEPS, True, ["Train longer."]),
        (60 - 50 * np.exp(-STEPS / 150), True, ["Train longer, before", "Try a larger encoder"]),
        (60 - 50 * np.exp(-STEPS / 150), False, ["Try a larger encoder"]),
        ([20, 30, 40], False, ["Train longer."]),
        ([20, 40, 40.5], False, []),  # too few to know
        ([20, 40], False, []),
        ([], False, []),
    ],
    ids=[
        "rising",
        "rising, rate fell",
        "saturated, rate fell",
        "saturated",
        "three",
        "three, flat",
        "two",
        "none",
    ],
)
def test_a_larger_encoder_never_comes_before_longer_training(
    make_run: MakeRun, curve, falling_rate: bool, expected: list[str]
) -> None:
    steps = STEPS[: len(curve)] if len(curve) > 3 else 1000 * np.arange(1, len(curve) + 1)
    rates = np.linspace(1e-4, 1e-6, 40) if falling_rate else np.full(40, 1e-4)
    rows = [row | {"lr": float(lr)} for row, lr in zip(train_rows([0.5] * 40), rates, strict=True)]
    last = max([*steps, rows[-1]["step"]])
    recipe = RECIPE + f"train: {{steps: {last}}}\nmodel: {{variant: b0, weights: 'hf:nvidia/mit-b0'}}\n"
    names = ["background", "chair", "sofa"]
    run = make_run(evaluations(steps, curve), rows, {"confusion": LOOK_ALIKE}, names, recipe=recipe)
    found = titles(diagnose(Run(run)))
    assert len(found) == len(expected) and all(map(str.startswith, found, expected))


def test_longer_training_comes_before_weights_where_the_curve_rises(make_run: MakeRun) -> None:
    recipe = RECIPE + "train: {steps: 2000}\nmodel: {from_scratch: true}\n"
    run = make_run(evaluations(STEPS, 10 + 0.02 * STEPS), weights=None, recipe=recipe)
    first, second = titles(diagnose(Run(run)))
    assert first == "Train longer." and second.startswith("Start from pretrained weights")


def test_a_saturated_run_is_not_told_to_train_longer_first(make_run: MakeRun) -> None:
    """A longer schedule comes after what gains more, and its evidence is the schedule."""
    recipe = RECIPE + "train: {steps: 2000}\nmodel: {variant: b0, from_scratch: true}\n"
    rates = [
        row | {"lr": lr} for row, lr in zip(train_rows([0.5] * 40), np.linspace(1e-4, 1e-6, 40), strict=True)
    ]
    curve = evaluations(STEPS, 60 - 50 * np.exp(-STEPS / 150))
    names = ["background", "chair", "sofa"]
    run = make_run(curve, rates, {"confusion": LOOK_ALIKE}, names, weights=None, recipe=recipe)
    found = diagnose(Run(run)).recommendations
    schedule = next(one for one in found if one.title.startswith("Train longer"))
    assert found[0].title.startswith("Start from pretrained weights")
    assert "learning rate" in schedule.evidence and "at most" not in schedule.evidence


def all_wrong(make_run: MakeRun, recipe: str) -> RunFolder:
    """Everything at once: weights, imbalance, look-alikes, outlines, sizes, confidence, noise."""
    rng = np.random.default_rng(0)
    num_images, num_classes = 60, 8
    confusion = np.zeros((num_images, num_classes, num_classes), np.int64)
    for image in range(num_images):
        c = 1 + image % 7
        size = 100 * c * c * (1 + image // 7)
        share = 0.1 + 0.1 * c + 0.02 * (image // 7)
        confusion[image, 0, 0] = 50_000
        confusion[image, c, c] = size * share
        confusion[image, c, 1 + c % 7] = size * (1 - share)
    edges = np.tile([[900, 10], [50, 90]], (num_images, 1, 1))
    reliability = np.zeros((num_images, 3, 15))
    reliability[:, :, 14] = [100, 98, 80]
    counts = {"confusion": confusion, "edges": edges, "reliability": reliability}
    val = [row | {"loss": 0.5} for row in evaluations(STEPS, 40 + rng.normal(0, 3, 20))]
    return make_run(
        val, train_rows([1.0] * 20, data_time=0.5), counts, ["background", *"abcdefg"], None, recipe
    )


@pytest.mark.parametrize(
    ("likely", "most", "says"),
    [
        (3.0, 5.0, "Not saturated"),
        (0.3, 5.0, "Nearly saturated"),
        (0.3, 1.0, "Saturated"),
        (3.0, 99.0, "still rising"),
        (0.3, 99.0, "cannot be bounded"),
    ],
)
def test_what_is_said_of_longer_training_and_what_is_recommended_agree(
    make_run: MakeRun, likely: float, most: float, says: str
) -> None:
    run = Run(make_run(evaluations(STEPS, 10 + 0.02 * STEPS), recipe=RECIPE + "train: {steps: 2000}\n"))
    assert run.recipe
    growth = replace(SHAPES["rising"], outlook=Outlook(likely, most))
    is_recommended = bool(recommend(replace(study(run), growth=growth), run.recipe))
    assert says in longer(growth)
    assert is_recommended == (likely == 3.0) != ("too little" in longer(growth) or says == "Saturated")


@pytest.mark.parametrize(
    ("scales", "enlarged"), [([1.0], "[1, 1.5]"), ([0.5], "[0.5, 0.75]"), ([0.75, 1.0], "[1.125, 1.5]")]
)
def test_images_are_enlarged_in_training_and_in_scoring(make_run: MakeRun, scales, enlarged) -> None:
    recipe = f"{RECIPE}train: {{steps: 2000}}\neval: {{scales: {scales}}}\n"
    run = Run(all_wrong(make_run, recipe))
    assert run.recipe
    found = [rule(study(run), run.recipe) for rule in RULES]
    [lines] = [one.recipe_lines for one in found if one and one.title.startswith("Enlarge")]
    assert lines == ["augment.scale=[0.5, 3]", f"eval.scales={enlarged}"]


SHAPES = {
    "rising": shape_of(STEPS, 10 + 0.02 * STEPS),
    "saturated": shape_of(STEPS, 60 - 50 * np.exp(-STEPS / 150)),
    "noisy": shape_of(STEPS, 40 + np.random.default_rng(0).normal(0, 3, 20)),
}
OVERFITTING = Losses(800.0, (0.6, 0.9), "loss", (1.0, 0.1), (50.0, 44.0), True)


@pytest.mark.parametrize(
    "already",
    [
        [],
        ["data.resident=disk", "augment.classmix=0.2", "train.ema=0.99", "optimizer.weight_decay=0.1"],
        ["data.sampler=rare", "augment.crop_on=rare", "loss.0.label_smoothing=0.1"],
        ["model.weights=hf:nvidia/mit-b2", "model.variant=b2", "model.from_scratch=false"],
        ["augment.elastic=2", "augment.copy_paste=0.1", "eval.scales=[1, 1.5]", "augment.scale=[0.5, 3]"],
        ["data.format=packed", "optimizer.lr=6e-5", "optimizer.head_lr_mult=10", "schedule.min_lr=0"],
    ],
)
@pytest.mark.parametrize("images", ["in memory", "on disk"])
def test_no_recommendation_is_so_already(make_run: MakeRun, already: list[str], images: str) -> None:
    """Of each rule: its lines change the recipe, and are not given once the recipe has them."""
    run = all_wrong(make_run, RECIPE + "model: {from_scratch: true}\n")
    recipe = load_recipe(run.recipe, already)
    shown = study(Run(run))
    given: set[str] = set()
    for growth, losses, ended in itertools.product(SHAPES.values(), (None, OVERFITTING), ("", "It fell.")):
        studies = replace(
            shown,
            growth=growth,
            losses=losses,
            schedule_ended=ended,
            last_step=recipe.train.steps,
            sizes=replace(shown.sizes, iou=np.array([10.0, 40, 50, 60]), trend=Correlation(0.9, 0.001)),
            speed=replace(shown.speed, images=images),
        )
        for rule in RULES:
            advice = rule(studies, recipe)
            lines = changing(recipe, advice.recipe_lines) if advice else []
            given |= {rule.__name__} if lines else set()
            if not lines:
                continue
            followed = load_recipe(run.recipe, [*already, *lines])
            assert followed.to_dict() != recipe.to_dict()
            again = [line for advice in recommend(studies, followed) for line in advice.recipe_lines]
            assert not set(again) & set(lines)
    if not already and images == "on disk":
        assert given == {rule.__name__ for rule in RULES}


def test_there_are_at_most_five_recommendations_and_each_loads(make_run: MakeRun) -> None:
    recipe = RECIPE + "model: {from_scratch: true}\noptimizer: {lr: 1.0e-3}\n"
    run = all_wrong(make_run, recipe)
    diagnosis = diagnose(Run(run))
    assert len(diagnosis.recommendations) == 5
    assert every_line_loads(run, diagnosis)
    studies = study(Run(run))
    assert studies.edges.are_most_errors and studies.confidence.is_overconfident
    assert studies.classes.is_imbalanced and studies.speed.is_data_bound
