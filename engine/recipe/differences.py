"""The values of a recipe with where they came from, and what differs between two recipes."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.recipe.source import dotted
from engine.recipe.text import Path

if TYPE_CHECKING:
    from engine.recipe import Recipe

Values = dict[str, Any]  # by key path
MAY_CHANGE = (
    "name",  # of a folder that was renamed or copied
    "data.format",  # the fingerprint says that the images are the same
    "data.root",
    "data.unlabelled.root",
    "data.fold",
    "data.resident",
    "data.workers",
    "data.doctor",
    "data.on_error",
    "eval.every",
    "keep.",
    "log.",
    "output.",
    "train.compile",
    "train.max_skipped",
    "train.on_nan",
    "train.patience",
    "train.save_every",
    "train.shard",
    "train.timeout",
    "model.checkpointing",
)
# What a training makes from its images where the recipe says auto, or the name of a scheme.
MADE_FROM_IMAGES = re.compile(
    r"\.class_weights$|^augment\.crop_on$|^data\.(also\.\d+\.)?(range|normalisation|sampler)\b"
)
OF_A_FURTHER_SET = re.compile(r"^data\.also\.\d+\.")


def explain(recipe: "Recipe") -> list[tuple[str, Any, str]]:
    """(key path, value, where it came from) of every value; a list of plain values counts as one."""
    return [
        (dotted(path), value, recipe._sources.get(path, "default"))
        for path, value in _leaves(recipe.to_dict(), ())
    ]


def values_of(recipe: "Recipe") -> Values:
    """Every value by its key path, as JSON holds it."""
    return {key: value for key, value, _ in explain(recipe)}


class Change(NamedTuple):
    """A value of one recipe and of another; "absent" where one has no such key."""

    key: str
    before: Any
    now: Any


def changes(before: "Recipe | Values", now: "Recipe | Values", *, all_keys: bool = False) -> list[Change]:
    """What differs between two recipes and changes the training, its seed included.

    Args:
        all_keys: also what never changes an update, such as the name and where the run is written.
    """
    old, new = (recipe if isinstance(recipe, dict) else values_of(recipe) for recipe in (before, now))
    return [
        Change(key, old.get(key, "absent"), new.get(key, "absent"))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
        and (all_keys or not OF_A_FURTHER_SET.sub("data.", key).startswith(MAY_CHANGE))
    ]


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _leaves(child, (*path, name))
    elif isinstance(value, list) and any(isinstance(child, dict) for child in value):
        for index, child in enumerate(value):
            yield from _leaves(child, (*path, index))
    else:
        yield path, value
