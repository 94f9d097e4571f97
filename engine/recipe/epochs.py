"""`train.epochs: 5`, short for `train.steps: 5 epochs`: a recipe is read with the one key `train.steps`.

So a file, its base, a stage and an override replace each other's length, whichever of the two they write.
"""

from typing import Any

from engine.recipe.text import Parsed, Path

EPOCHS, STEPS = ("train", "epochs"), ("train", "steps")


def as_steps(path: Path, parsed: Parsed) -> tuple[Path, Parsed]:
    """The path and the value of a key, with a length in epochs as one in steps.

    What is no length, or stands beside `steps`, stays as it is, and is reported when it is checked.

    Args:
        path: of the key; () is the whole recipe.
        parsed: its value.
    """
    if path == EPOCHS:
        if (length := _length(parsed.values)) is None:
            return path, parsed
        return STEPS, Parsed(length, parsed.sources, parsed.problems)
    section = parsed.values
    if path == () and isinstance(section, dict):
        section = section.get("train")
    elif path != ("train",):
        return path, parsed
    if not isinstance(section, dict) or "steps" in section:
        return path, parsed
    if (length := _length(section.get("epochs"))) is not None:
        del section["epochs"]
        section["steps"] = length
        parsed.sources[STEPS[len(path) :]] = parsed.sources.pop(EPOCHS[len(path) :])
    return path, parsed


def _length(epochs: Any) -> str | None:
    is_number = isinstance(epochs, int | float) and not isinstance(epochs, bool)
    return f"{epochs} epochs" if is_number and 0 < epochs < float("inf") else None
