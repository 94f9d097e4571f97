"""The texts in the code that tell users what to type, and the commands, flags and recipe lines in them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("engine", "models", "losses", "trident")
HELP = ("add_argument", "add_overrides", "key", "Field", "new_parser")  # calls whose texts are help alone
GAP = "\N{HORIZONTAL ELLIPSIS}"  # what an f-string fills in

# A whole key path such as data.root, or one of the keys without a section; then the value.
VALUE = r"""(?:'[^']*'|"[^"]*"|\[[^\]]*\]|\{[^}]*\}|<[^>]*>|[^\s,;)'"]+)"""
OVERRIDE = re.compile(rf"(?<![\w.{GAP}/-])((?:[a-z]+(?:\.\w+)+|name|seed|adversarial)={VALUE}?)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
FILLED_IN = re.compile(
    rf"\b(?:[Tt]ype|Next:|Train on it:|a training:) {GAP}"
)  # all of it comes from the code
COMMAND = re.compile(r"\b(?:trident [a-z_]+|python -m \w+|pip install|torchrun) ?[^\n]*")


def texts_of(file: Path) -> list[str]:
    """Every text in a module, f-strings with GAP for what they fill in; docstrings are left out."""
    return list(dict.fromkeys(_texts(ast.parse(file.read_text(encoding="utf-8")))))


@cache  # reading all modules takes a second, and each case asks
def messages() -> dict[str, list[str]]:
    """By module, the texts that name a command, a recipe line or a flag within a sentence."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    files.remove(ROOT / "engine/elsewhere.py")  # has a test of its own
    found = {file: [text for text in texts_of(file) if _tells_what_to_type(text)] for file in files}
    return {str(file.relative_to(ROOT)): texts for file, texts in found.items() if texts}


def overrides_in(text: str) -> list[str]:
    """`key.path=value` in a text, without the punctuation of its sentence."""
    return [found.rstrip(".:?") for found in OVERRIDE.findall(text) if not found.startswith("key.path")]


def _tells_what_to_type(text: str) -> bool:
    is_flag_alone = re.fullmatch(r"--[a-z-]+", text)
    return not is_flag_alone and bool(
        overrides_in(text) or any(kind.search(text) for kind in (FLAG, COMMAND, FILLED_IN))
    )


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and _name(node.func) in HELP:
        return
    text = _text(node)
    if text is None:
        for child in ast.iter_child_nodes(node):
            if not _is_docstring(node, child):
                yield from _texts(child)
        return
    yield text
    for part in ast.walk(node):
        if isinstance(part, ast.FormattedValue):
            yield from _texts(part.value)


def _text(node: ast.AST) -> str | None:
    """The text of a string, an f-string, or a sum of them; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(
            GAP if isinstance(part, ast.FormattedValue) else _text(part) or "" for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [_text(node.left), _text(node.right)]
        return None if parts == [None, None] else "".join(GAP if part is None else part for part in parts)
    return None


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_docstring(node: ast.AST, child: ast.AST) -> bool:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return isinstance(node, kinds) and child is node.body[0] and ast.get_docstring(node) is not None
