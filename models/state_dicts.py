"""The state dict in a checkpoint, whichever tool wrote it.

A checkpoint holds the state dict of the model under a key of its own, next to the optimiser's state and
sometimes a moving average (EMA) of the weights, and wrappers such as DataParallel put a prefix before every
key.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.wording import quantity
from models.errors import ModelError

USUAL_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")
DEPTH = 3  # of dicts in dicts
SHARED = 0.25  # a prefix counts if this share of the keys has it
# What torch puts into names of modules that it compiles, shards, or computes again in the backward pass.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
NUMBERED = re.compile(r"(?:denselayer)?\d+")  # names of repeated blocks

Translation = tuple[str | None, dict[str, Tensor], list[str]]  # layout, tensors by our names, unknown keys


class StateDict(NamedTuple):
    """
    tensors: by their keys in the file.
    others: the keys of further state dicts in the file.
    """

    tensors: dict[str, Tensor]
    others: list[str]


def state_dict_in(content: Any, key: str, file: str) -> StateDict:
    """The state dict in what was read from `file`.

    Args:
        key: which one, by the end of its path in nested dicts or by a prefix of the tensors' names; `ema`
            also means any key that contains this. Empty: the only one, or that under one of `USUAL_KEYS`, and
            a moving average only where there is nothing else.

    Raises:
        ModelError: there is none, several of which none is usual, or none of that key.
    """
    found = dict(_state_dicts(content))
    if not found and isinstance(content, dict):  # vectors alone
        found = {"": {name: value for name, value in content.items() if isinstance(value, Tensor)}}
    if not any(found.values()):
        raise ModelError(f"{file} holds no dict of tensors, up to {DEPTH} levels deep.")
    if key:
        chosen = _called(key, found)
        if not chosen and len(found) == 1:  # a flat dict, in which two models have a prefix each
            found = _by_prefix(next(iter(found.values())))
            chosen = _called(key, found)
    else:
        last = {path: path.rpartition(".")[2] for path in found}
        chosen = [path for path in found if "ema" not in path.lower()] or [*found]
        chosen = [path for usual in USUAL_KEYS for path in chosen if last[path] == usual][:1] or chosen
    if len(chosen) == 1:
        tensors = {_unwrapped(name): tensor for name, tensor in found[chosen[0]].items()}
        return StateDict(tensors, [path for path in found if path != chosen[0]])
    names = ", ".join(f"{path} ({quantity(len(tensors), 'tensor')})" for path, tensors in found.items())
    wanted = f"nothing called {key}" if key else "several dicts of tensors"
    leave = f", or leave #{key} out" if key else ""
    raise ModelError(
        f"{file} holds {wanted}. Choose one of {names}: model.weights={file}#{next(iter(found))}{leave}."
    )


def blocks_beyond(used: Sequence[str], others: Sequence[str]) -> list[str]:
    """The names of `others` that are in further blocks of a stage of which `used` has the first blocks.

    If there are any, the weights are of a deeper network. In a family, such as ResNet-18 and ResNet-34, its
    stages begin with the blocks of the shallower one, which its weights would fill completely. The last stage
    is not compared: timm leaves out blocks at the end that give no feature maps.

    Args:
        used: in the order of the network.
    """
    blocks = {place for key in used for place in _blocks(key)}
    last = {place[:-1] for place in next(filter(None, map(_blocks, reversed(used))), ())}
    series = {place[:-1] for place in blocks} - last
    return [
        key for key in others if any(place[:-1] in series and place not in blocks for place in _blocks(key))
    ]


def translate_without_prefix(
    state: Mapping[str, Tensor], translate: Callable[[Mapping[str, Tensor]], Translation]
) -> Translation:
    """`translate(state)` without the common prefix of keys whose removal gives most tensors a name."""
    best: Translation = (None, {}, [*state])
    for prefix in ("", *_common_prefixes(state)):
        inner = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        layout, tensors, unknown = translate(inner)
        if len(tensors) > len(best[1]):
            outside = [key for key in state if not key.startswith(prefix)]
            best = layout, tensors, [*outside, *(prefix + key for key in unknown)]
    return best


def _state_dicts(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(path, tensors) of each dict that looks like a model's: names as keys, some of its tensors matrices."""
    if not isinstance(content, dict) or depth > DEPTH or not all(isinstance(key, str) for key in content):
        return
    tensors = {key: _tensor(value) for key, value in content.items() if _is_tensor(value)}
    if any(value.is_floating_point() and value.ndim > 1 for value in tensors.values()):
        yield path, tensors
        return
    for key, value in content.items():
        yield from _state_dicts(value, f"{path}.{key}" if path else key, depth + 1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")


def _tensor(value: Tensor | NDArray[Any]) -> Tensor:
    """A tensor as it is; of an array in this machine's byte order, of at most 64 bits a value."""
    if isinstance(value, Tensor):
        return value
    dtype = value.dtype.newbyteorder("=") if value.dtype.itemsize <= 8 else np.float64
    return torch.as_tensor(value.astype(dtype))


def _called(key: str, paths: Iterable[str]) -> list[str]:
    exact = [path for path in paths if path == key or path.endswith(f".{key}")]
    return exact or [path for path in paths if key == "ema" and key in path.lower()]


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _blocks(key: str) -> list[tuple[str, ...]]:
    """The paths of the numbered modules that a tensor is in."""
    parts = tuple(key.split(".")[:-1])
    return [parts[: end + 1] for end, part in enumerate(parts) if NUMBERED.fullmatch(part)]


def _by_prefix(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        prefix, _, name = key.partition(".")
        if name:
            found.setdefault(prefix, {})[name] = tensor
    return found


def _common_prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """Shortest first, such as `model.`; not of numbered modules."""
    counts: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for end in range(1, len(parts)):
            if parts[end - 1].isdigit():
                break
            counts[".".join(parts[:end]) + "."] += 1
    common = [prefix for prefix, count in counts.items() if count >= SHARED * len(state)]
    return sorted(common, key=len)
