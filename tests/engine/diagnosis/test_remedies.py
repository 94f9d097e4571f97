"""Remedies: recipe lines that load, and that are not suggested to a recipe that has them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.diagnosis.remedies import (
    AVERAGE_WEIGHTS,
    CHECK_DATA,
    average_weights,
    changing,
    cheaper_augmentation,
    help_rare_classes,
    keep_images_in_memory,
    lower_lr,
    not_followed,
    pretrained_weights,
)
from engine.recipe import Recipe, load_recipe

WITH = Callable[..., Recipe]


@pytest.fixture
def recipe_with(tmp_path: Path) -> WITH:
    path = tmp_path / "plain.yaml"
    path.write_text("{}")
    return lambda *overrides: load_recipe(path, overrides)


def test_commands_and_new_values_are_kept(recipe_with: WITH) -> None:
    remedies = (CHECK_DATA, AVERAGE_WEIGHTS, "train.batch=4 train.accumulate=2")
    assert not_followed(recipe_with(), remedies) == remedies
    follows = recipe_with(AVERAGE_WEIGHTS, "train.batch=4")
    assert not_followed(follows, remedies) == (CHECK_DATA, remedies[2])
    assert not_followed(recipe_with("train.batch=4", "train.accumulate=2"), remedies[2:]) == ()


def test_null_equals_a_missing_section_only(recipe_with: WITH) -> None:
    assert not_followed(recipe_with(), ["adversarial=null"]) == ()
    assert not_followed(recipe_with("adversarial.start=0"), ["adversarial=null"]) == ("adversarial=null",)


def test_true_and_false_are_compared_as_they_are_typed(recipe_with: WITH) -> None:
    line = "model.checkpointing=true"
    assert not_followed(recipe_with(), [line]) == (line,)
    assert not_followed(recipe_with(line), [line]) == ()


def test_numbers_are_compared_by_value(recipe_with: WITH) -> None:
    assert not_followed(recipe_with("optimizer.lr=1e-4"), ["optimizer.lr=0.0001"]) == ()


def test_a_lower_rate_lowers_the_floor_of_the_schedule_too(recipe_with: WITH) -> None:
    recipe = recipe_with("optimizer.lr=1e-3", "schedule.min_lr=2e-4")
    assert lower_lr(recipe, 2) == "optimizer.lr=5.0e-04"
    lowered = recipe_with("schedule.min_lr=2e-4", *lower_lr(recipe, 10).split())
    assert (lowered.optimizer.lr, lowered.schedule.min_lr) == (1e-4, 0)


def test_each_remedy_loads_and_is_then_no_longer_suggested(recipe_with: WITH) -> None:
    given = ["augment.elastic=2", "augment.mosaic=0.1", "data.resident=disk"]
    for remedy in (help_rare_classes, keep_images_in_memory, average_weights, cheaper_augmentation):
        lines = remedy(recipe_with(*given))
        assert lines and remedy(recipe_with(*given, *lines)) == ()
    weights = pretrained_weights(recipe_with(), "b1")
    assert recipe_with("model.from_scratch=false", weights).model.weights == "hf:nvidia/mit-b1"
    assert pretrained_weights(recipe_with("model.arch=unet", "model.encoder=resnet18"), "b0") == (
        "model.weights=smp:imagenet"
    )


def test_what_auto_does_already_is_not_suggested(recipe_with: WITH) -> None:
    assert keep_images_in_memory(recipe_with()) == ()
    assert average_weights(recipe_with("train.ema=0.9999")) == ()


def test_lists_are_compared_by_value(recipe_with: WITH) -> None:
    lines = ["augment.scale=[0.5, 2]", "eval.scales=[1, 1.5]"]
    assert not_followed(recipe_with(), lines) == (lines[1],)
    assert changing(recipe_with(), lines) == [lines[1]]


def test_lines_that_could_not_be_trained_are_not_suggested(recipe_with: WITH) -> None:
    lower = ["optimizer.lr=1e-5", "schedule.min_lr=0"]
    recipe = recipe_with("optimizer.lr=1e-3", "schedule.min_lr=2e-4")
    assert changing(recipe, lower[:1]) == [] and changing(recipe, lower) == lower
    assert changing(recipe, ["adversarial.weight=0.1"]) == [
        "adversarial.weight=0.1"
    ]  # a section that is null
