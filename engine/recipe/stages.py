"""Recipes of several stages: each is the common part with values of its own, and starts from the one before.

`read_recipe` chooses one stage by the override `stage=<name>`, so every command can take a single stage.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.recipe.epochs import EPOCHS, STEPS, as_steps
from engine.recipe.text import Parsed, RecipeError, Sources

SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
    "description": "trained one after the other, each from the best checkpoint of the one before: a name, "
    "and what differs from the rest of this file, as `key.path: value` or in sections",
}
CHOICE = "stage="


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe.

    values: by key path. before: the name of the stage before it, empty for the first.
    """

    name: str
    values: dict[str, Parsed]
    place: str
    before: str

    @property
    def keys(self) -> set[str]:
        """The key paths of its values, and of the sections and lists around them."""
        return {
            ".".join(map(str, (key, *path))) for key, parsed in self.values.items() for path in parsed.sources
        }


def stages_in(values: dict[str, Any], sources: Sources) -> list[Stage]:
    """Take `stages` out of the values of a recipe.

    Raises:
        RecipeError: it is not a list of sections, each with a name of its own.
    """
    listed = values.pop("stages", None)
    inside = {path[1:]: sources.pop(path) for path in list(sources) if path[:1] == ("stages",)}
    if listed is None:
        return []
    place = inside[()]
    if not isinstance(listed, list) or not listed:
        raise RecipeError(f"stages ({place}): expected a list of sections, such as [{{name: first}}]")
    stages: list[Stage] = []
    for number, values_of in enumerate(listed):
        place = inside.get((number,), place)
        name = values_of.get("name") if isinstance(values_of, dict) else None
        if isinstance(name, int | float):
            raise RecipeError(
                f"stages.{number}.name ({place}): expected text, got {name}; write it in quotes: "
                f"name: '{name}'"
            )
        if not isinstance(name, str):
            raise RecipeError(
                f"stages.{number} ({place}): expected a section with a name, such as name: first"
            )
        if name.lower() in [stage.name.lower() for stage in stages]:  # one folder on some disks
            raise RecipeError(
                f"stages.{number}.name ({place}): {name} is the name of another stage; change one"
            )
        if unusable := [key for key in values_of if key in ("base", "stages", "output.dir", "output")]:
            raise RecipeError(
                f"stages.{number}.{unusable[0]} ({place}): a stage cannot change this; remove it"
            )
        parts: dict[str, Parsed] = {}
        for key, value in values_of.items():
            at = {path[2:]: at for path, at in inside.items() if path[:2] == (number, key)}
            keys, parsed = as_steps(tuple(key.split(".")), Parsed(value, at))
            dotted = ".".join(map(str, keys))
            if dotted in parts:
                raise RecipeError(
                    f"stages.{number}.{key} ({place}): {dotted} is given in this stage as well; keep one of "
                    "the two"
                )
            if key != "name":
                parts[dotted] = parsed
        stages.append(Stage(name, parts, place, stages[-1].name if stages else ""))
    return stages


def chosen_stage(stages: list[Stage], overrides: Iterable[str], recipe: str) -> Stage | None:
    """The stage that the override `stage=<name>` names; None for a recipe without stages.

    Raises:
        RecipeError: there is no such stage, or none was named.
    """
    named = [text.removeprefix(CHOICE) for text in overrides if text.startswith(CHOICE)]
    if not stages and not named:
        return None
    if not stages:
        raise RecipeError(f"{CHOICE}{named[-1]}: {recipe} has no stages; leave this out")
    names = [stage.name for stage in stages]
    if not named:
        raise RecipeError(
            f"{recipe} has the stages {', '.join(names)}. For one of them add {CHOICE}{names[0]}; all are "
            f"trained in turn by: {shlex.join(['trident', 'run', recipe])}"
        )
    for stage in stages:
        if stage.name == named[-1]:
            return stage
    raise RecipeError(f"{CHOICE}{named[-1]}: {recipe} has no such stage. Its stages: {', '.join(names)}")


def by_place(override: str, listed: Any) -> str:
    """`stages.<name>.key=value` with the place of the stage in the list instead of its name."""
    names = (
        [item.get("name") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    )
    start, _, rest = override.removeprefix("stages.").partition(".")
    return f"stages.{names.index(start)}.{rest}" if start in names and rest else override


def unused(overrides: Iterable[str], stages: list[Stage]) -> list[str]:
    """What is wrong with overrides of keys that every stage sets itself: no stage would use them."""
    lengths = {".".join(EPOCHS): ".".join(STEPS)}  # which replace each other
    return [
        f"override {text}: every stage sets {key} itself; type stages.{stages[0].name}.{text}"
        for text in overrides
        if "." in (key := text.partition("=")[0])
        and all(lengths.get(key, key) in stage.keys for stage in stages)
    ]


def folder_of_stages(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The folder around those of the stages, <output.dir>/<name of the recipe>."""
    output = values.get("output")
    directory = output.get("dir") if isinstance(output, dict) else None
    return f"{directory or defaults['output']['dir']}/{values['name']}"
