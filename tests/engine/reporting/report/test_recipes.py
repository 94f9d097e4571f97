"""Recipes beside each other."""

from engine.recipe import Recipe
from engine.reporting.report.views import differences, not_default


def test_only_what_differs_is_shown_and_where_a_run_lies_is_not() -> None:
    one = Recipe(name="one")
    other = Recipe(name="other", seed=3, loss=[{"name": "cross_entropy", "weight": 2.0}])
    assert differences([one, one.model_copy(update={"name": "two"})]) == []
    rows = dict(differences([one, other]))
    assert rows["seed"] == [0, 3]
    assert rows["loss.0.weight"] == [1.0, 2.0]
    assert rows["loss.1.name"] == ["dice", "absent"]
    assert "name" not in rows and "train.steps" not in rows


def test_what_is_not_the_default() -> None:
    assert not_default(Recipe(name="one")) == []
    assert not_default(Recipe(name="one", seed=3)) == [("seed", 3, 0)]
