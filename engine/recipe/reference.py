"""The reference page of the recipe: every key with its values, default and meaning, from the JSON schema."""

import json
from collections.abc import Iterator
from typing import Any

Node = dict[str, Any]

INTRODUCTION = """# The keys of a recipe

Every key with its possible values, its default, and its meaning. This page is generated from the declarations
in the code: `python -m engine.recipe reference > docs/recipe.md`.

A duration is a number of steps, `12 epochs`, or `10%` of the training. A loss, an architecture, an optimiser,
a data format or a logger of your own is named by its import path, such as `my_package:MyLoss`, and its
options are keys next to the name ([extending.md](extending.md)).
"""
NAMES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}


def reference_page(schema: Node) -> str:
    """Markdown: a heading and a table per section, in the order of the recipe.

    Args:
        schema: of a recipe, from `engine.recipe.recipe_schema`.
    """
    top = {name: node for name, node in schema["properties"].items() if not list(_sections(node, schema))}
    parts = [INTRODUCTION, "## At the top\n", _table(top)]
    for name, node in schema["properties"].items():
        for number, (title, section) in enumerate(_sections(node, schema)):
            if number == 0:
                parts.append(f"## {name}\n\n{_sentence(node.get('description', ''))}\n")
            several = len(list(_sections(node, schema))) > 1
            parts += [f"### {title}\n"] * several + [_table(section["properties"])]
            for key, inner in section["properties"].items():
                for _, below in _sections(inner, schema):
                    parts += [f"`{key}` of {title}:\n" if several else f"`{name}.{key}`:\n"]
                    parts += [_table(below["properties"])]
    return "\n".join(parts).rstrip() + "\n"


def _sections(node: Node, schema: Node) -> Iterator[tuple[str, Node]]:
    """The sections that a key may hold, directly, in a list or as one of several: (name, node)."""
    if "$ref" in node:
        title = node["$ref"].rpartition("/")[2]
        section = schema["$defs"][title]
        yield section["properties"].get("name", {}).get("const", title), section
    inside = [node[key] for key in ("items", "additionalProperties") if isinstance(node.get(key), dict)]
    for form in (*node.get("anyOf", ()), *node.get("oneOf", ()), *inside):
        yield from _sections(form, schema)


def _table(properties: dict[str, Node]) -> str:
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, node in properties.items():
        default = f"`{json.dumps(node['default'])}`" if _is_plain(node.get("default", {})) else ""
        cells = (f"`{name}`", _values(node), default.replace('"', ""), node.get("description", ""))
        rows.append("| " + " | ".join(map(_escaped, cells)) + " |")
    return "\n".join(rows) + "\n"


def _escaped(cell: str) -> str:
    """A cell with Markdown's markup characters escaped."""
    return cell.replace("|", "\\|").replace("<", "&lt;")


def _is_plain(value: Any) -> bool:
    """Sections have a table of their own."""
    return not isinstance(value, dict) and not (
        isinstance(value, list) and any(isinstance(v, dict) for v in value)
    )


def _values(node: Node) -> str:
    """The possible values of a key, in words."""
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{choice}`" for choice in node["enum"])
    forms = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    if forms:
        return " or ".join(dict.fromkeys(map(_values, forms)))
    if "$ref" in node:
        return "a section"
    kind = node.get("type")
    if kind == "array":
        return f"list of {_values(node['items'])}" if node.get("items") else "list"
    if kind == "object":
        return "sections by name"
    if isinstance(kind, list):
        return "duration"
    words = "null" if kind == "null" else NAMES.get(str(kind), "any value")
    return f"{words}{_range(node)}"


def _range(node: Node) -> str:
    """The range of a number, in words, with a space in front; empty where any number is valid."""
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if high is None and below is None:
        return f" >= {low}" if low is not None else f" > {above}" if above is not None else ""
    least = f"{low}" if low is not None else f"above {above}"
    return f" from {least} to {high}" if high is not None else f" from {least} to below {below}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
