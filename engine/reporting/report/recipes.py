"""Recipes beside each other: the keys that differ between runs, and those that are not the default."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.recipe import Recipe, explain

ABSENT = "absent"
PLACE_KEYS = ("name", "output.")  # they say where a run lies, not what it is
Values = Mapping[str, Any]  # by dotted key path


def values_of(recipe: Recipe) -> Values:
    """Every value of a recipe by its key path."""
    return {key: value for key, value, _ in explain(recipe)}


def differences(recipes: Sequence[Recipe]) -> list[tuple[str, list[Any]]]:
    """(key, its value in each recipe) of the keys whose values differ."""
    each = [values_of(recipe) for recipe in recipes]
    rows = [(key, [values.get(key, ABSENT) for values in each]) for key in _keys(each)]
    return [(key, values) for key, values in rows if any(value != values[0] for value in values)]


def not_default(recipe: Recipe) -> list[tuple[str, Any, Any]]:
    """(key, value, default) where they differ; a key that only this recipe has has no default."""
    values, defaults = values_of(recipe), values_of(Recipe(name=recipe.name))
    keys = _keys([values])
    return [
        (key, values[key], defaults.get(key, ABSENT))
        for key in keys
        if values[key] != defaults.get(key, ABSENT)
    ]


def _keys(each: Sequence[Values]) -> list[str]:
    """The keys of all, in the order of the recipe."""
    keys = dict.fromkeys(key for values in each for key in values)
    return [key for key in keys if not key.startswith(PLACE_KEYS)]
