"""Pydantic's errors in plain words: key, file and line, what was expected, what was found, what was meant.

The keys and choices come from the JSON schema.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic_core import ErrorDetails

from engine.components import IMPORT_PATH
from engine.elsewhere import NOTES_ON_KEYS, plain, recipe_line
from engine.recipe.source import Document, dotted
from engine.recipe.text import Path, RecipeError, dump_value, parse_yaml

SECTION = "a section of `key: value` lines"
EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "list_type": "a list",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "dict_type": SECTION,
    "model_type": SECTION,
    "model_attributes_type": SECTION,
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "one of {choices}",
    "union_tag_invalid": "one of {choices}",
    "union_tag_not_found": "a section with a `name`, such as {{name: dice}}",
    "duration": "{text}",
    "string_pattern_mismatch": "text that matches {pattern}",
}
OTHER_IN_EACH_SECTION = ("name", "every")  # keys whose meaning depends on the section, unlike that of lr
Schema = dict[str, Any]


def describe(errors: Iterable[ErrorDetails], document: Document, schema: Schema) -> list[str]:
    """One line per mistaken key, in the order of the sections.

    Args:
        errors: of one ValidationError.
        document: what was validated.
        schema: the JSON schema of the recipe.
    """
    found: dict[Path, list[ErrorDetails]] = {}
    keys_around: dict[Path, list[str]] = {}
    explained: dict[Path, str] = {}
    for error in errors:
        path, keys, explained[path] = _locate(error, document, schema)
        found.setdefault(path, []).append(error)
        keys_around[path] = keys
    lines = []
    for path, own in found.items():
        if any(other[: len(path)] == path and other != path for other in found):
            continue  # of a choice between types, report the one that fits further
        if own[0]["type"] == "extra_forbidden":
            text = _unknown_key(path, document.value(path), keys_around[path], schema)
        elif own[0]["type"] == "missing":
            about = f": {explained[path]}" if explained[path] else ""
            text = f"expected a value, since this key has no default{about}"
        else:
            text = _wrong_value(own, document.value(path), path[-1])
        lines.append(f"{dotted(path)} ({document.place(path)}): {text}")
    return lines


def paths_of(errors: Iterable[ErrorDetails], document: Document, schema: Schema) -> set[Path]:
    """The keys that `describe` reports."""
    return {_locate(error, document, schema)[0] for error in errors}


def _locate(error: ErrorDetails, document: Document, schema: Schema) -> tuple[Path, list[str], str]:
    """The key path of an error, without pydantic's labels of union members; the keys of its section, and what
    the schema says of the key."""
    path: Path = ()
    node, keys = schema, list(schema["properties"])
    for part in error["loc"]:
        node = _resolve(node, document.value(path), schema)
        known = node.get("properties", {})
        if part in known:
            node, keys = known[part], list(known)
        elif isinstance(part, int):
            node = node.get("items", {})
        elif isinstance(here := document.value(path), dict) and part in here:
            node, keys = node.get("additionalProperties") or {}, list(known)
        else:
            continue
        path = (*path, part)
    path = (*path, "name") if error["type"] == "union_tag_invalid" else path
    return path, keys, node.get("description", "")


def _resolve(node: Schema, value: Any, schema: Schema) -> Schema:
    """Follow references; of several forms take the section or list, of several sections that of `name`."""
    while True:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        elif "discriminator" in node:
            name = value.get("name") if isinstance(value, dict) else None
            node = next(
                ({"$ref": ref} for tag, ref in node["discriminator"]["mapping"].items() if tag == name), {}
            )
        elif "anyOf" in node:
            node = next((form for form in node["anyOf"] if form.keys() & {"$ref", "items", "oneOf"}), {})
        else:
            return node


def _unknown_key(path: Path, value: Any, keys: list[str], schema: Schema) -> str:
    *sections, key = map(str, path)
    parts = key.split(".")
    is_path = len(parts) > 1 and parts[0] in schema["properties"] and not any(map(str.isdecimal, parts))
    if is_path and not sections:
        return f"unknown key; dots are for the command line. Write its section: {_in_section(parts, value)}"
    words = _words(sections, key)
    note = next((f" {NOTES_ON_KEYS[plain(word)]}" for word in words if plain(word) in NOTES_ON_KEYS), "")
    close = [] if note else _meant(sections, key, value, keys, schema)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    return f"unknown key{hint}{note} Keys here: {', '.join(keys)}"


def _words(sections: list[str], key: str) -> list[str]:
    """A key as other programs may call it: optimizer.type is optimizer_type, or else type."""
    return ["_".join([*sections[-1:], key]), key]


def _meant(sections: list[str], key: str, value: Any, keys: list[str], schema: Schema) -> list[str]:
    """Keys, or recipe lines, that an unknown key may stand for."""
    places: dict[str, list[str]] = {}
    for section, node in schema["properties"].items():
        for name in _resolve(node, None, schema).get("properties", {}):
            places.setdefault(name, []).append(f"{section}.{name}")
    if line := _known_line(sections, key, value, keys):
        return [line]
    if key in places:
        return places[key]
    if key in schema["properties"]:
        return [key]
    if close := difflib.get_close_matches(key, keys, n=1):
        return close
    close = difflib.get_close_matches(key, places, n=1, cutoff=0.8)
    return [place for name in close for place in places[name]]


def _in_section(names: list[str], value: Any) -> str:
    """train, batch and 4 as `train: {batch: 4}`."""
    text = dump_value(value)
    for name in reversed(names[1:]):
        text = f"{{{name}: {text}}}"
    return f"{names[0]}: {text}"


def _known_line(sections: list[str], key: str, value: Any, keys: list[str]) -> str | None:
    """The recipe line for a key of another program, such as train.batch=8; of this section if it has it."""
    if value is None or value is False or isinstance(value, dict):
        return None
    text = (
        None if value is True else str(value) if isinstance(value, int | float | str) else dump_value(value)
    )
    line = next((line for word in _words(sections, key) if (line := recipe_line(word, text))), None)
    if line is None:
        return None
    place, _, typed = line.partition("=")
    own = place.rpartition(".")[2]
    is_here = sections and own in keys and own not in OTHER_IN_EACH_SECTION
    return f"{'.'.join([*sections, own])}={typed}" if is_here else line


def _wrong_value(errors: list[ErrorDetails], value: Any, key: str | int) -> str:
    expectations, all_choices = [], []
    for error in errors:
        context = error.get("ctx", {})
        if error["type"] == "mistake":
            is_shown = value is not None and not isinstance(value, dict)
            return f"{context['text']}, got {_shown(value)}" if is_shown else context["text"]
        choices = re.findall(r"'([^']*)'", context.get("expected_tags") or context.get("expected") or "")
        all_choices += choices
        form = EXPECTED.get(error["type"])
        text = error["msg"].removeprefix("Input should be ")
        text = form.format(choices=", ".join(choices), **context) if form else text
        if IMPORT_PATH in context.get("pattern", ""):
            text = "an import path such as my_package:MyClass"
        expectations.append(choices[0] if error["type"] == "literal_error" and len(choices) == 1 else text)
    lower = {choice.lower(): choice for choice in all_choices}
    close = difflib.get_close_matches(value.lower(), lower, n=1) if isinstance(value, str) else []
    hint = f"; did you mean {lower[close[0]]}?" if close else ""
    if not close and isinstance(value, str) and _is_number_or_switch(value):
        hint = " (text; write it without quotes)"
    takes_text = any(error["type"] == "string_type" for error in errors)
    if value is None and takes_text and (isinstance(key, int) or key == "name"):
        hint = '; write "null" in quotes where it is a name'
    elif value is None:
        hint = "; leave the key out for its default"
    elif takes_text and not isinstance(value, dict | list):
        hint = " (put it in quotes)"
    elif SECTION in expectations and isinstance(value, str) and (line := recipe_line(str(key), value)):
        hint = f"; did you mean {line}?"
    return f"expected {' or '.join(dict.fromkeys(expectations))}, got {_shown(value)}{hint}"


def _is_number_or_switch(text: str) -> bool:
    try:
        return isinstance(parse_yaml(text, "").values, int | float)
    except RecipeError:
        return False


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return repr(value) if len(repr(value)) < 40 else f"a list of {len(value)}"
    if value is None:
        return "nothing (null)"
    return repr(value).lower() if isinstance(value, bool) else repr(value)
