"""`train.epochs` is short for `train.steps` in epochs, wherever it is written."""

from pathlib import Path

import pytest

from engine.recipe import RecipeError, load_recipe, load_stages
from engine.recipe.differences import explain


@pytest.mark.parametrize(
    ("text", "overrides", "length"),
    [
        ("train: {epochs: 5}", [], "5 epochs"),
        ("train: {batch: 4, epochs: 2.5}", [], "2.5 epochs"),
        ("base: steps.yaml\ntrain: {epochs: 5}", [], "5 epochs"),
        ("base: epochs.yaml\ntrain: {steps: 7}", [], 7),
        ("base: epochs.yaml", ["train.steps=7"], 7),
        ("train: {steps: 7}", ["train.epochs=5"], "5 epochs"),
        ("train: {steps: 7}", ["train={epochs: 5}"], "5 epochs"),
        ("", ["train.epochs=5", "train.steps=7"], 7),
    ],
)
def test_the_last_length_counts_however_it_is_written(text, overrides, length, tmp_path: Path) -> None:
    (tmp_path / "steps.yaml").write_text("train: {steps: 100}\n")
    (tmp_path / "epochs.yaml").write_text("train: {epochs: 3}\n")
    (tmp_path / "r.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "r.yaml", overrides)
    assert recipe.train.steps == length and "epochs" not in recipe.to_dict()["train"]


def test_an_epoch_is_the_train_split_once_and_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("train:\n  batch: 16\n  epochs: 5\n")
    recipe = load_recipe(tmp_path / "r.yaml")
    assert recipe.in_steps(100).train.steps == 5 * 7  # 100 / 16, rounded up
    assert ("train.steps", "5 epochs", f"{tmp_path / 'r.yaml'}:3") in explain(recipe)


@pytest.mark.parametrize("overrides", [[], ["train={epochs: 5, steps: 100}"]])
def test_both_at_one_place_are_refused(overrides: list[str], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("" if overrides else "train: {epochs: 5, steps: 100}\n")
    with pytest.raises(RecipeError, match=r"train\.epochs \(.*train\.steps is given here as well; keep one"):
        load_recipe(tmp_path / "r.yaml", overrides)


def test_each_stage_has_its_length(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "train: {steps: 7}\nmodel: {from_scratch: true}\n"
        "stages:\n- {name: a, train: {epochs: 2}}\n- {name: b, train.epochs: 3}\n- {name: c}\n"
    )
    assert [stage.train.steps for stage in load_stages(tmp_path / "r.yaml")] == ["2 epochs", "3 epochs", 7]
    of_all = (tmp_path / "r.yaml").read_text().replace("- {name: c}\n", "")
    (tmp_path / "r.yaml").write_text(of_all)
    for override in ("train.epochs=4", "train.steps=4"):
        with pytest.raises(RecipeError, match=r"every stage sets train\.\w+ itself; type stages\.a\."):
            load_stages(tmp_path / "r.yaml", [override])


def test_a_stage_with_both_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "model: {from_scratch: true}\nstages:\n- {name: a, train.steps: 7, train.epochs: 3}\n"
    )
    with pytest.raises(RecipeError, match=r"stages\.0\.train\.epochs .*train\.steps is given .* keep one"):
        load_stages(tmp_path / "r.yaml")
