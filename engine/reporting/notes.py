"""A piece of advice, and whether a recipe follows it already. Knows nothing of when it is due."""

from dataclasses import dataclass

from engine.recipe import Recipe, explain


@dataclass(frozen=True)
class Note:
    """One piece of advice; `remedies` are overrides as they are typed behind a recipe, or commands."""

    topic: str
    text: str
    remedies: tuple[str, ...]


class Followed:
    """What a recipe says, to tell which remedies it has."""

    def __init__(self, recipe: Recipe):
        self._values = {key: str(value) for key, value, _ in explain(recipe)}

    def lacks(self, remedy: str) -> bool:
        """Whether a remedy is a command, or says something that the recipe does not say yet."""
        if remedy.startswith("trident "):
            return True
        pairs = (override.split("=", 1) for override in remedy.split())
        return any(not _equal(self._value(key), value) for key, value in pairs)

    def _value(self, key: str) -> str:
        """Of a key as text; null where nothing is set, "set" for a section."""
        is_section = any(name.startswith(f"{key}.") for name in self._values)
        return self._values.get(key, "set" if is_section else "null")


def _equal(there: str, wanted: str) -> bool:
    try:
        return float(there) == float(wanted)
    except ValueError:
        return there == wanted
