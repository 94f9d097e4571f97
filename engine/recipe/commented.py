"""The text of a complete recipe, each section below what it is for."""

from collections.abc import Sequence

from engine.recipe import Recipe
from engine.recipe.text import dump_yaml


def commented(recipe: Recipe, head: Sequence[str]) -> str:
    """Every value, defaults included; `load_recipe` reads an equal recipe back.

    Args:
        head: lines of a comment above it.
    """
    sections = [
        f"# {Recipe.model_fields[key].description}\n{dump_yaml({key: value})}"
        for key, value in recipe.to_dict().items()
    ]
    return "\n".join(["\n".join(f"# {line}" for line in head) + "\n", *sections])
