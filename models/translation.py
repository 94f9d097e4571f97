"""State dicts from one key layout to another, by the tables of `models.layouts`.

Both directions work alike: a state dict is split into the parts that the tables name, and joined again.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models import layouts
from models.architectures import VARIANTS
from models.layouts import TRIDENT, Layout

NUM_STAGES = 4


def translate(state: Mapping[str, Tensor]) -> tuple[str | None, dict[str, Tensor], list[str]]:
    """Renames a state dict to our names, by the layout that matches most of its keys.

    Returns:
        The layout's name (None: no key fits any), the tensors under our names, the keys that have none.
    """
    found = [(layout.name, *split(state, layout)) for layout in layouts.LAYOUTS]
    name, parts, unknown = max(found, key=lambda entry: len(state) - len(entry[2]))
    return (name if parts else None), join(parts, TRIDENT)[0], unknown


def export(state: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict of ours under the names of `layout`.

    Where the head has a part without a place there, only the encoder is given, without its prefix, as
    backbones are published.

    Returns:
        The tensors, and our keys that were left out.
    """
    renamed, left = join(split(state, TRIDENT)[0], layout)
    if not left:
        return renamed, []
    renamed, _ = join(split(state, TRIDENT)[0], layout._replace(prefix="", head={}))
    return renamed, [key for key in state if key.startswith("head.")]


def split(state: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """Takes a state dict apart into `<part>.<leaf>` -> tensor, and the keys that `layout` has no row for."""
    parts_of: dict[str, list[str]] = {}  # module there -> its parts, in the order of the table
    for part, module in layout.encoder.items():
        parts_of.setdefault(module, []).append(part)
    encoder = [(_pattern(module, layout.prefix), parts) for module, parts in parts_of.items()]
    patterns = encoder + [(_pattern(module), [part]) for part, module in layout.head.items()]
    parts, unknown = {}, []
    for key, tensor in state.items():
        match, names = _first(patterns, key)
        if match is None:
            unknown.append(key)
            continue
        pieces = tensor.chunk(len(names)) if len(names) > 1 else [tensor]
        for name, piece in zip(names, pieces, strict=False):  # a shape that fits no part gives fewer pieces
            part, leaf = _place(name, match), match["leaf"]
            is_pointwise = leaf == "weight" and part.endswith(layout.pointwise)
            parts[f"{part}.{leaf}"] = piece.flatten(1) if is_pointwise else piece
    return parts, unknown


def join(parts: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """The inverse of `split`, and the parts that have no place in `layout`."""
    table = {part: layout.prefix + module for part, module in layout.encoder.items()} | layout.head
    patterns = [(_pattern(part), (row, module)) for row, (part, module) in enumerate(table.items())]
    stacks: dict[str, dict[int, Tensor]] = {}  # key there -> row of the table -> piece
    left = []
    for key, tensor in parts.items():
        match, found = _first(patterns, key)
        if match is None:
            left.append(key)
            continue
        row, module = found
        leaf = match["leaf"]
        if leaf == "weight" and key.removesuffix(".weight").endswith(layout.pointwise):
            tensor = tensor[..., None, None]
        stacks.setdefault(_place(module, match) + _separator(module) + leaf, {})[row] = tensor
    pieces = {key: [stack[row] for row in sorted(stack)] for key, stack in stacks.items()}
    return {key: torch.cat(p) if len(p) > 1 else p[0] for key, p in pieces.items()}, left


def _first(patterns: list[tuple[re.Pattern[str], Any]], key: str) -> tuple[re.Match[str] | None, Any]:
    return next(((m, content) for p, content in patterns if (m := p.fullmatch(key))), (None, None))


def _pattern(name: str, prefix: str = "") -> re.Pattern[str]:
    """`name` followed by a parameter's name; the prefix may be absent."""
    numbered = re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(name))
    return re.compile(rf"(?:{re.escape(prefix)})?{numbered}{re.escape(_separator(name))}(?P<leaf>\w+)")


def _separator(module: str) -> str:
    return "" if module.endswith("_") else "."


def _place(name: str, match: re.Match[str]) -> str:
    """`name` with its numbers, from a match that has the stage in any of its three counts, or has none."""
    numbers = {letter: int(text) for letter, text in match.groupdict().items() if letter != "leaf"}
    counts = {"s": lambda n: n, "S": lambda n: n - 1, "r": lambda n: NUM_STAGES - 1 - n}
    stage = next((counts[letter](n) for letter, n in numbers.items() if letter in counts), 0)
    return name.format(s=stage, S=stage + 1, r=NUM_STAGES - 1 - stage, b=numbers.get("b"))


class EncoderShape(NamedTuple):
    """Channels and depths of the encoder that a state dict in our layout belongs to."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]

    @property
    def name(self) -> str | None:
        """b0 to b5, or None if the paper has no such encoder."""
        return next((name for name, v in VARIANTS.items() if (v.channels, v.depths) == tuple(self)), None)

    def __str__(self) -> str:
        channels, depths = ("-".join(map(str, numbers)) for numbers in self)
        return f"{channels} channels, {depths} blocks"


def encoder_shape(state: Mapping[str, Tensor]) -> EncoderShape | None:
    """Channels and depths of a SegFormer encoder in our layout; None when a stage is absent."""
    keys = [f"encoder.stages.{s}.embed.proj.weight" for s in range(NUM_STAGES)]
    if not all(key in state for key in keys):
        return None
    matches = (re.match(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.", key) for key in state)
    blocks = {match.groups() for match in matches if match}
    depths = tuple(sum(stage == str(s) for stage, _ in blocks) for s in range(NUM_STAGES))
    return EncoderShape(tuple(len(state[key]) for key in keys), depths)
