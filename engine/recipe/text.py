"""YAML text to values, each with the place it came from, and values back to YAML text.

Scalars follow the core schema of YAML 1.2, not PyYAML's 1.1: `1e-3` is a number, `no`, `on`, `1:30` and
`2024-01-01` are text. A key that is given twice is a mistake.

Written on top of PyYAML: ruamel.yaml has lines and YAML 1.2 too, but stops at the first duplicate key, and
its values would have to be converted for strict validation.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

Path = tuple[str | int, ...]  # ("loss", 0, "weight")
Sources = dict[Path, str]  # where each value came from: "recipes/demo.yaml:12" or "override seed=1"

NUMBER = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
MOST_VALUES = 100_000  # of one recipe
MOST_BRACKETS = 100  # open at once
TAG = "tag:yaml.org,2002:"
SCALARS = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?[0-9]+$", list("-+0123456789")),
    "float": (rf"^(?:{NUMBER}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.0123456789")),
}
COMPOSED: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": int,
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    "str": str,
}


class RecipeError(ValueError):
    """The recipe cannot be used; the text says what is wrong, where, and what to write instead."""

    exit_code = 2


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own way to start from no rule)

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        """Refuse deep nesting at once: the time that PyYAML takes is quadratic in its depth.

        Raises:
            RecursionError: more than `MOST_BRACKETS` are open.
        """
        if self.flow_level >= MOST_BRACKETS:
            raise RecursionError
        super().fetch_flow_collection_start(token)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as something else."""


for _name, (_pattern, _first) in SCALARS.items():
    _Loader.add_implicit_resolver(TAG + _name, re.compile(_pattern), _first)
    _Dumper.add_implicit_resolver(TAG + _name, re.compile(_pattern), _first)


def _represent_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    flat = not any(isinstance(value, dict | list) for value in values)  # plain values stay on one line
    return dumper.represent_sequence(TAG + "seq", values, flow_style=True if flat else None)


_Dumper.add_representer(list, _represent_list)


def dump_yaml(values: dict[str, Any]) -> str:
    """Block style, keys in the order given; `parse_yaml` reads the same values back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def dump_value(value: Any) -> str:
    """On one line, as it is typed in `key.path=value`: null and true, not None and True."""
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n").rstrip()


@dataclass
class Parsed:
    """One YAML text: its values, where each came from, and the mistakes that do not stop the reading."""

    values: Any
    sources: Sources = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@lru_cache(maxsize=32)  # a command reads the same recipe several times
def _composed(text: str) -> yaml.Node | None:
    node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return node


def parse_yaml(text: str, origin: str, with_lines: bool = True) -> Parsed:
    """Read one YAML document.

    Args:
        text: of the file or of an override's value.
        origin: what sources and messages call it.
        with_lines: whether sources read `origin:line`.

    Raises:
        RecipeError: not YAML, with line and column.
    """
    try:
        node = _composed(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark and with_lines else origin
        context = f" {error.context}" if error.context else ""
        raise RecipeError(f"{place}: not valid YAML{context}: {error.problem}") from None
    except RecursionError:
        raise RecipeError(f"{origin}: brackets or lists are nested too deeply for a recipe") from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise RecipeError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from None
    builder = _Builder(origin, with_lines)
    parsed = builder.parsed
    if node:
        try:
            parsed.values = builder.build(node, ())
        except RecursionError:
            raise RecipeError(f"{origin}: brackets or lists are nested too deeply for a recipe") from None
    else:
        parsed.sources[()] = origin
    return parsed


class _Builder:
    """Walks the node tree of one document."""

    def __init__(self, origin: str, with_lines: bool):
        self.origin, self.with_lines = origin, with_lines
        self.parsed = Parsed(None)
        self.num_built = 0
        self.open: set[int] = set()  # nodes around the current one: an alias to one of them would never end

    def place(self, node: yaml.Node) -> str:
        return f"{self.origin}:{node.start_mark.line + 1}" if self.with_lines else self.origin

    def problem(self, node: yaml.Node, text: str) -> None:
        self.parsed.problems.append(f"{self.place(node)}: {text}")

    def build(self, node: yaml.Node, path: Path, place: str | None = None) -> Any:
        self.num_built += 1
        if self.num_built > MOST_VALUES:  # aliases of aliases: a few lines become billions of values
            raise RecipeError(
                f"{self.place(node)}: more than {MOST_VALUES:,} values, as aliases (*) multiply them"
            )
        self.parsed.sources[path] = place or self.place(node)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if id(node) in self.open:
            self.problem(node, "an alias (*) is inside its own anchor (&)")
            return None
        self.open.add(id(node))
        value = self.mapping(node, path) if isinstance(node, yaml.MappingNode) else self.sequence(node, path)
        self.open.remove(id(node))
        return value

    def scalar(self, node: yaml.ScalarNode) -> Any:
        compose = COMPOSED.get(node.tag.removeprefix(TAG))
        try:
            if compose:
                return compose(node.value)
        except ValueError:  # `!!int abc`, or more digits than Python turns into a number
            pass
        self.problem(node, f"cannot read this value as {node.tag.replace(TAG, '!!')}")
        return None

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        places: dict[str, str] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(key_node, "a key must be a plain word")
                continue
            key = key_node.value
            if key in places:
                name = ".".join(map(str, (*path, key)))
                self.problem(key_node, f"duplicate key `{name}`, which is already at {places[key]}; keep one")
                continue
            places[key] = self.place(key_node)
            values[key] = self.build(value_node, (*path, key), places[key])
        return values

    def sequence(self, node: yaml.Node, path: Path) -> list[Any]:
        return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
