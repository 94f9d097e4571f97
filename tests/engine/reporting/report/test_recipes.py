"""Recipes side by side."""

from engine.recipe import Recipe
from engine.reporting.report.views import differences, not_default


def test_only_differing_keys_are_shown_without_the_folder_of_the_run() -> None:
    one = Recipe(name="one")
    other = Recipe(name="other", seed=3, loss=[{"name": "cross_entropy", "weight": 2.0}])
    assert differences([one, one.model_copy(update={"name": "two"})]) == []
    rows = dict(differences([one, other]))
    assert rows["seed"] == [0, 3]
    assert rows["loss.0.weight"] == [1.0, 2.0]
    assert rows["loss.1.name"] == ["dice", "absent"]
    assert "name" not in rows and "train.steps" not in rows


def test_values_that_differ_from_the_default() -> None:
    assert not_default(Recipe(name="one")) == []
    assert not_default(Recipe(name="one", seed=3)) == [("seed", 3, 0)]
