"""The states of optimisers as tensors and JSON, and back."""

from typing import Any

import torch
from torch import Tensor

from engine.training.fit import RunError
from engine.training.sharding import sharded_like

MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")  # of the shape of their parameter
# Of a parameter group, as a recipe has them; others, such as a count of updates, belong to the state.
SETTINGS = ("lr", "initial_lr", "weight_decay", "betas", "eps", "momentum")


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state dict; of the groups, only numbers and tensors, as some optimisers keep counters there.

    The other values of a group are options, which come from the recipe.
    """
    state = optimizer.state_dict()
    groups = [
        {key: value for key, value in group.items() if isinstance(value, bool | int | float | Tensor)}
        for group in state["param_groups"]
    ]
    return state | {"param_groups": groups}


def to_json(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """A state dict as JSON holds it; its tensors are put into `tensors` under their paths.

    Raises:
        RunError: an optimiser holds something other than numbers, tensors, and lists and dicts of them.
    """
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, dict):
        pairs = [[key, to_json(inner, f"{path}/{key}", tensors)] for key, inner in value.items()]
        return {"dict": pairs}  # as JSON would make text of keys that are numbers
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [to_json(inner, f"{path}/{i}", tensors) for i, inner in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise RunError(
        f"The state of the optimiser cannot be saved: {path} is a {type(value).__name__}. The values in its "
        "state_dict() returns may hold tensors, numbers, None, and lists, tuples and dicts of them."
    )


def from_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The state dict of which `to_json` made a value."""
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: from_json(inner, tensors) for key, inner in content}
    return (list if kind == "list" else tuple)(from_json(inner, tensors) for inner in content)


def load_optimizer(
    optimizer: torch.optim.Optimizer, saved: dict[str, Any], keep_settings: bool = False
) -> None:
    """Put a saved state into an optimiser; `keep_settings`: with its own rate, decay and the like.

    Raises:
        ValueError: it is of other parameters.
    """
    groups = optimizer.state_dict()["param_groups"]
    kept = SETTINGS if keep_settings else ()
    merged = [
        group | own | {key: group[key] for key in kept if key in group}
        for group, own in zip(groups, saved["param_groups"], strict=True)
    ]
    parameters = dict(enumerate(_parameters(optimizer)))
    state: dict[Any, Any] = _of_parameters(parameters, saved["state"])
    for index, parameter in parameters.items():
        if index in state:
            state[index] = {slot: sharded_like(value, parameter) for slot, value in state[index].items()}
    optimizer.load_state_dict(saved | {"param_groups": merged, "state": state})
    for index, parameter in parameters.items():
        for slot, value in state.get(index, {}).items():
            loaded = optimizer.state[parameter].get(slot)
            if isinstance(loaded, Tensor) and loaded.dtype != value.dtype:  # torch casts to the parameter's
                optimizer.state[parameter][slot] = value.to(loaded.device)


def state_of_0_1_0(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """From a file of version 0.1.0, which held tensors by number of the parameter and name only."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, slot = key.split("/")
        state.setdefault(int(index), {})[slot] = value
    return optimizer.state_dict() | {"state": state}


def _of_parameters(parameters: dict[int, Tensor], state: dict[int, Any]) -> dict[int, Any]:
    """The state by the present numbers of the parameters.

    Earlier versions counted parameters that a model does not call, too; these never have a state.

    Raises:
        ValueError: a state without a parameter, or of another shape.
    """
    if len(state) == len(parameters):
        state = {number: state[index] for number, index in enumerate(sorted(state))}
    for number, slots in state.items():
        moments = [slots[name] for name in MOMENTS if isinstance(slots.get(name), Tensor)]
        if number not in parameters or any(each.shape != parameters[number].shape for each in moments):
            raise ValueError(f"The state of the optimiser is of other parameters (number {number}).")
    return dict(state)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
