"""A configuration file of MMSegmentation as values, each with its file and line. None of it is executed.

Understood are literals, `dict(...)`, variables, arithmetic on literals, `_base_` files with `_delete_`, and
references to them (`_base_.x`, `{{_base_.x}}`). Anything else is kept as `NotRead`.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterable
from os.path import normpath
from pathlib import Path
from typing import Any, NamedTuple

from engine.recipe.mmseg.settings import NotRead, Settings, merged
from engine.recipe.text import RecipeError
from engine.wording import near_path

MAX_BYTES = 1_000_000
MAX_ITEMS = 10_000  # values in a setting, characters of a text that an expression makes
MAX_NUMBER = 1e15
REFERENCE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")
OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


class Config(NamedTuple):
    """A file and its bases.

    values: the merged settings.
    variables: the names at the top that other settings use.
    not_read: the statements that were not read.
    """

    values: Settings
    variables: set[str]
    not_read: list[NotRead]


def read_config(path: Path, wanted_by: str = "", above: tuple[Path, ...] = ()) -> Config:
    """Read a file and the files that its `_base_` names.

    Raises:
        RecipeError: a file is missing or is no such configuration, or `_base_` goes in a circle.
    """
    if path.resolve() in [file.resolve() for file in above]:
        raise RecipeError(f"{wanted_by}_base_ goes in a circle: {' -> '.join(map(str, (*above, path)))}")
    if not path.is_file():
        what = f"{path} is a folder, not a file." if path.is_dir() else f"no file {path}.{near_path(path)}"
        raise RecipeError(f"{wanted_by}{what}")
    if path.suffix != ".py" or path.stat().st_size > MAX_BYTES:
        raise RecipeError(
            f"{wanted_by}{path} is no configuration of MMSegmentation, which is a short .py file."
        )
    try:
        statements = ast.parse(path.read_text(encoding="utf-8-sig")).body
        reader = _Reader(path, (*above, path))
        for statement in sorted(statements, key=lambda statement: not _names_bases(statement)):
            reader.statement(statement)
        return reader.config()
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, RecipeError):
            raise
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise RecipeError(f"{wanted_by}{path}{line}: not Python, or nested too deeply: {error}") from None


def _names_bases(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "_base_"


class _Reader:
    """Reads the statements of one file in their order."""

    def __init__(self, path: Path, chain: tuple[Path, ...]):
        self.path, self.chain = path, chain
        self.base, self.values = Settings(), Settings()
        self.variables: set[str] = set()  # of the bases
        self.used: set[str] = set()
        self.not_read: list[NotRead] = []

    def config(self) -> Config:
        variables = (self.variables - {*self.values}) | self.used
        return Config(merged(self.base, self.values), variables, self.not_read)

    def place(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id == "_base_":
                self.read_bases(node)
                return
            if isinstance(target, ast.Name):
                self.values.put(target.id, self.value(node.value), self.place(node))
                return
            if isinstance(target, ast.Subscript | ast.Attribute) and self.put_inside(target, node.value):
                return
        self.not_read.append(NotRead(ast.unparse(node).splitlines()[0], self.place(node)))

    def read_bases(self, node: ast.Assign) -> None:
        names = self.value(node.value)
        for name in names if isinstance(names, list) else [names]:
            if not isinstance(name, str):
                raise RecipeError(
                    f"{self.place(node)}: _base_ is not the name of a file, or a list of names."
                )
            config = read_config(
                Path(normpath(self.path.parent / name)), f"{self.place(node)}: _base_: ", self.chain
            )
            self.base = merged(self.base, config.values)
            self.variables |= config.variables
            self.not_read += config.not_read

    def put_inside(self, target: ast.Subscript | ast.Attribute, value: ast.expr) -> bool:
        """`model['decode_head']['num_classes'] = 2`; False where that place is not there."""
        key: Any = target.attr if isinstance(target, ast.Attribute) else self.value(target.slice)
        container = self.value(target.value)
        if isinstance(container, Settings) and isinstance(key, str):
            container.put(key, self.value(value), self.place(target))
        elif isinstance(container, list) and isinstance(key, int) and -len(container) <= key < len(container):
            container[key] = self.value(value)
        else:
            return False
        _bounded([container])  # it may now be inside itself
        return True

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=str(text)):
                return self.referenced(text)
            case ast.Constant(value=value) if value is None or isinstance(value, bool | int | float):
                return value
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return _bounded([self.value(item) for item in items])
            case ast.Set(elts=[ast.Set(elts=[item])]):  # {{_base_.x}} without quotes
                return self.value(item)
            case ast.Dict(keys=keys, values=values):
                return self.settings(zip(keys, values, strict=True))
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                named = [(ast.Constant(word.arg) if word.arg else None, word.value) for word in keywords]
                return self.settings(named)
            case ast.Name(id="_base_"):
                return self.base
            case ast.Name(id=name) if name in self.values:
                self.used.add(name)
                return self.values[name]
            case ast.Attribute(value=inner, attr=name):
                found = self.item(self.value(inner), name)
            case ast.Subscript(value=inner, slice=index):
                found = self.item(self.value(inner), self.value(index))
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                number = self.value(inner)
                found = -number if isinstance(number, int | float) else None
            case ast.BinOp(left=left, op=op, right=right):
                found = _combined(OPERATORS.get(type(op)), self.value(left), self.value(right))
            case _:
                found = None
        return NotRead(ast.unparse(node), self.place(node)) if found is None else found

    def settings(self, items: Iterable[tuple[ast.expr | None, ast.expr]]) -> Settings:
        found = Settings()
        for key, node in items:
            value = self.value(node)
            if key is not None:
                found.put(str(self.value(key)), value, self.place(node))
            elif isinstance(value, Settings):  # **other
                for name, inner in value.items():
                    found.put(name, inner, value.places[name])
            else:
                self.not_read.append(NotRead(f"**{ast.unparse(node)}", self.place(node)))
        _bounded(list(found.values()))
        return found

    def item(self, container: Any, key: Any) -> Any:
        """The item of a list or dictionary; None where there is no such item."""
        try:
            return container[key] if isinstance(container, Settings | list) else None
        except (KeyError, IndexError, TypeError):
            return None

    def referenced(self, text: str) -> Any:
        """The text, or what `{{_base_.x}}` and `{{ fileDirname }}` in it stand for."""
        known = {
            "fileDirname": str(self.path.parent),
            "fileBasename": self.path.name,
            "fileBasenameNoExtension": self.path.stem,
            "fileExtname": self.path.suffix,
        }
        whole = REFERENCE.fullmatch(text.strip())
        if whole and whole[1].startswith("_base_."):
            return self.value(ast.parse(whole[1], mode="eval").body)
        return REFERENCE.sub(lambda match: known.get(match[1], match[0]), text)


def _combined(operation: Callable[[Any, Any], Any] | None, left: Any, right: Any) -> Any:
    """What an operator gives for two numbers, texts or lists; None where it gives nothing, or too much."""
    sequences = [value for value in (left, right) if isinstance(value, str) or type(value) is list]
    numbers = [abs(value) for value in (left, right) if isinstance(value, int | float)]
    if operation is None or len(sequences) + len(numbers) < 2 or max(numbers, default=0) > MAX_NUMBER:
        return None
    if sequences and sum(map(len, sequences)) * max(numbers, default=1) > MAX_ITEMS:
        return None
    try:
        result = operation(left, right)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return _bounded(result) if isinstance(result, list) else result


def _bounded(values: list[Any]) -> list[Any]:
    """The list; raises ValueError where variables that name variables make it too large."""
    waiting, num_seen = list(values), 0
    while waiting:
        value = waiting.pop()
        num_seen += 1
        if num_seen > MAX_ITEMS:
            raise ValueError(f"more than {MAX_ITEMS:,} values")
        if isinstance(value, Settings | list):
            waiting += value.values() if isinstance(value, Settings) else value
    return values
