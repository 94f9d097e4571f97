"""The key layouts that published SegFormer weights come in, and their translation to our own.

A layout is one table: the name of a module here -> its name there. `{s}` is the stage counted from 0, `{S}`
from 1, `{b}` the block. Two names on the right are two layers there that are stacked, in that order, in one
here. The tables hold names only; knows nothing of files, and of models no more than their state dicts.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from models.segformer import VARIANTS


class Layout(NamedTuple):
    name: str
    prefix: str  # that its keys may start with
    table: dict[str, str | tuple[str, ...]]


BLOCK = "encoder.stages.{s}.blocks.{b}"

# Hugging Face transformers before version 5: SegformerModel and everything built on it.
HUGGING_FACE = Layout(
    "hugging_face",
    "segformer.",
    {
        "encoder.stages.{s}.embed.proj": "encoder.patch_embeddings.{s}.proj",
        "encoder.stages.{s}.embed.norm": "encoder.patch_embeddings.{s}.layer_norm",
        f"{BLOCK}.norm1": "encoder.block.{s}.{b}.layer_norm_1",
        f"{BLOCK}.attn.q": "encoder.block.{s}.{b}.attention.self.query",
        f"{BLOCK}.attn.kv": (
            "encoder.block.{s}.{b}.attention.self.key",
            "encoder.block.{s}.{b}.attention.self.value",
        ),
        f"{BLOCK}.attn.reduce": "encoder.block.{s}.{b}.attention.self.sr",
        f"{BLOCK}.attn.reduce_norm": "encoder.block.{s}.{b}.attention.self.layer_norm",
        f"{BLOCK}.attn.proj": "encoder.block.{s}.{b}.attention.output.dense",
        f"{BLOCK}.norm2": "encoder.block.{s}.{b}.layer_norm_2",
        f"{BLOCK}.mlp.fc1": "encoder.block.{s}.{b}.mlp.dense1",
        f"{BLOCK}.mlp.dwconv": "encoder.block.{s}.{b}.mlp.dwconv.dwconv",
        f"{BLOCK}.mlp.fc2": "encoder.block.{s}.{b}.mlp.dense2",
        "encoder.stages.{s}.norm": "encoder.layer_norm.{s}",
        "head.mlps.{s}": "decode_head.linear_c.{s}.proj",
        "head.fuse": "decode_head.linear_fuse",
        "head.norm": "decode_head.batch_norm",
        "head.classifier": "decode_head.classifier",
    },
)

# The authors' repository, NVlabs/SegFormer: mit_b*.pth has the bare names, full models prefix `backbone.`.
NVLABS = Layout(
    "nvlabs",
    "backbone.",
    {
        "encoder.stages.{s}.embed.proj": "patch_embed{S}.proj",
        "encoder.stages.{s}.embed.norm": "patch_embed{S}.norm",
        f"{BLOCK}.norm1": "block{S}.{b}.norm1",
        f"{BLOCK}.attn.q": "block{S}.{b}.attn.q",
        f"{BLOCK}.attn.kv": "block{S}.{b}.attn.kv",
        f"{BLOCK}.attn.reduce": "block{S}.{b}.attn.sr",
        f"{BLOCK}.attn.reduce_norm": "block{S}.{b}.attn.norm",
        f"{BLOCK}.attn.proj": "block{S}.{b}.attn.proj",
        f"{BLOCK}.norm2": "block{S}.{b}.norm2",
        f"{BLOCK}.mlp.fc1": "block{S}.{b}.mlp.fc1",
        f"{BLOCK}.mlp.dwconv": "block{S}.{b}.mlp.dwconv.dwconv",
        f"{BLOCK}.mlp.fc2": "block{S}.{b}.mlp.fc2",
        "encoder.stages.{s}.norm": "norm{S}",
        "head.mlps.{s}": "decode_head.linear_c{S}.proj",
        "head.fuse": "decode_head.linear_fuse.conv",
        "head.norm": "decode_head.linear_fuse.bn",
        "head.classifier": "decode_head.linear_pred",
    },
)

MMSEG_HEAD = ("head.convs.{s}.0", "head.convs.{s}.1")  # the layers of our second head
TRIDENT = Layout("trident", "", {name: name for name in (*NVLABS.table, *MMSEG_HEAD)})

LAYOUTS = (TRIDENT, HUGGING_FACE, NVLABS)


def translate(state: Mapping[str, Tensor]) -> tuple[str | None, dict[str, Tensor], list[str]]:
    """Renames a state dict to our names, by the layout that explains most of its keys.

    Returns:
        The layout's name (None: no key fits any), the tensors under our names, the keys that have none.
    """
    found = [(layout.name, *_apply(layout, state)) for layout in LAYOUTS]
    name, renamed, unknown = max(found, key=lambda entry: len(state) - len(entry[2]))
    return (name if renamed else None), renamed, unknown


def _apply(layout: Layout, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    patterns = [
        (_pattern(layout.prefix, name), ours, position)
        for ours, theirs in layout.table.items()
        for position, name in enumerate((theirs,) if isinstance(theirs, str) else theirs)
    ]
    pieces: dict[str, dict[int, str]] = {}  # our key -> position in the stack -> their key
    unknown = []
    for key in state:
        for pattern, ours, position in patterns:
            if match := pattern.fullmatch(key):
                index = match.groupdict()
                stage = int(index["S"]) - 1 if "S" in index else index.get("s")
                module = ours.format(s=stage, b=index.get("b"))
                pieces.setdefault(f"{module}.{index['leaf']}", {})[position] = key
                break
        else:
            unknown.append(key)
    renamed = {}
    for ours, parts in pieces.items():
        stack = [state[parts[position]] for position in sorted(parts)]
        renamed[ours] = stack[0] if len(stack) == 1 else torch.cat(stack)
    return renamed, unknown


def _pattern(prefix: str, name: str) -> re.Pattern[str]:
    """`name` with a parameter's name behind it; the prefix may be absent."""
    numbered = re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(name))
    return re.compile(rf"(?:{re.escape(prefix)})?{numbered}\.(?P<leaf>\w+)")


class Architecture(NamedTuple):
    """What a state dict in our layout tells about its encoder."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]

    @property
    def name(self) -> str | None:
        """b0 to b5, or None if the paper has no such encoder."""
        return next((name for name, v in VARIANTS.items() if (v.channels, v.depths) == tuple(self)), None)

    def __str__(self) -> str:
        channels, depths = ("-".join(map(str, numbers)) for numbers in self)
        return f"{channels} channels, {depths} blocks"


def architecture(state: Mapping[str, Tensor]) -> Architecture | None:
    """Channels and depths of a SegFormer encoder in our layout; None when a stage is absent."""
    projections = [state.get(f"encoder.stages.{s}.embed.proj.weight") for s in range(4)]
    if any(weight is None for weight in projections):
        return None
    matches = (re.match(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.", key) for key in state)
    blocks = {match.groups() for match in matches if match}
    depths = tuple(sum(stage == str(s) for stage, _ in blocks) for s in range(4))
    return Architecture(tuple(len(weight) for weight in projections), depths)
