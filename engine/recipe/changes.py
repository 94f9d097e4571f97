"""Which values of two recipes make two trainings of them. Knows nothing of runs."""

from typing import Any, NamedTuple

from engine.recipe import Recipe, explain

MAY_CHANGE = (
    "data.format",  # the fingerprint says that the images are the same
    "data.root",
    "data.resident",
    "data.workers",
    "data.doctor",
    "data.on_error",
    "log.",
    "output.",
    "train.compile",
    "model.checkpointing",
)


class Change(NamedTuple):
    """A value of one recipe and of another; "absent" where one has no such key."""

    key: str
    before: Any
    now: Any


def changes(before: Recipe, now: Recipe) -> list[Change]:
    """What differs between two recipes and changes the training, its name and its seed included."""
    old, new = ({key: value for key, value, _ in explain(recipe)} for recipe in (before, now))
    return [
        Change(key, old.get(key, "absent"), new.get(key, "absent"))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and not key.startswith(MAY_CHANGE)
    ]
