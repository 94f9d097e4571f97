"""The names of the classes as a user types them."""

from collections.abc import Sequence
from typing import Any

from engine.data.formats.drawn import VOID_NAMES
from engine.data.sample import DataError


def with_names(section: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A `data` section with these names, one for each of its classes; what is called void becomes void.

    Raises:
        DataError: fewer than two names besides void.
    """
    kept = [id for id, name in enumerate(names) if name.lower() not in VOID_NAMES]
    has_no_void = section.get("labels") == "multi" or section.get("folder", {}).get("values") == "binary"
    if len(kept) == len(names) or has_no_void:
        return {**section, "classes": _renamed(section["classes"], names, range(len(names)))}
    if len(kept) < 2:
        raise DataError("--classes: name two classes at least, besides void.")
    named = {**section, "classes": _renamed(section["classes"], names, kept)}
    if not isinstance(section["classes"][0], str):
        folder = section.get("folder", {})
        colours = [item["colour"] for id, item in enumerate(section["classes"]) if id not in kept]
        return {**named, "folder": {**folder, "void_colours": [*folder.get("void_colours", []), *colours]}}
    ids = section.get("ids") or {**{str(id): id for id in range(len(names))}, "255": "void"}
    return {**named, "ids": {value: kept.index(id) if id in kept else "void" for value, id in ids.items()}}


def _renamed(classes: Sequence[Any], names: Sequence[str], kept: Sequence[int]) -> list[Any]:
    return [names[id] if isinstance(classes[id], str) else {**classes[id], "name": names[id]} for id in kept]
