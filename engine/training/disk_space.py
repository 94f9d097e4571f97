"""The disk space that a run needs, checked before the training starts."""

import shutil
from collections import Counter, defaultdict
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.recipe import RecipeError
from engine.run_folder import RunFolder, RunFolderError
from engine.training.step import SupervisedStep


def disk_bytes(step: SupervisedStep, top: int, tail: int = 0) -> int:
    """The most bytes that the run needs: its checkpoints, two states, and one more of each during writing.

    Args:
        top: number of best checkpoints.
        tail: number of latest states, each with the averages of the step.
    """
    of_state = 1 + len(step.averages)
    kept = top + tail * of_state + (of_state if tail else 1)
    weights = _num_bytes(step.model.state_dict())
    modules = sum(_num_bytes(module.state_dict()) for module in step.modules.values())
    optimizers = sum(_state_bytes(optimizer) for optimizer in step.optimizers.values())
    return kept * weights + 3 * (modules + optimizers)


def _num_bytes(value: Any) -> int:
    """Of all tensors in a nested value."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_num_bytes, value.values()))
    return sum(map(_num_bytes, value)) if isinstance(value, list | tuple) else 0


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """The bytes of the optimiser's state, also before its first update.

    They are measured on a copy, which updates one parameter of each shape in each group.

    Raises:
        RecipeError: the update fails.
    """
    if optimizer.state:
        return _num_bytes(list(optimizer.state.values()))
    trial = object.__new__(type(optimizer))
    own = {key: value for key, value in vars(optimizer).items() if key not in ("state", "param_groups")}
    vars(trial).update(deepcopy(own), state=defaultdict(dict), param_groups=[])
    counts: dict[Tensor, int] = {}
    for group in optimizer.param_groups:
        shapes = Counter((p.shape, p.dtype, p.device) for p in group["params"])
        alike = [torch.ones(s, dtype=dtype, device=device) for s, dtype, device in shapes]
        trial.param_groups.append(group | {"params": alike})
        counts |= zip(alike, shapes.values(), strict=True)
    for parameter in counts:
        parameter.requires_grad_().grad = torch.ones_like(parameter)
    try:
        trial.step()
    except Exception as error:  # an optimiser from outside, or one that needs another device
        raise RecipeError(
            f"optimizer.name: {type(optimizer).__name__} cannot train here, as its first update fails with "
            f"{type(error).__name__}: {error}. --debug shows where. Change its options, or type another one, "
            "such as optimizer.name=adamw."
        ) from error
    return sum(count * _num_bytes(trial.state[parameter]) for parameter, count in counts.items())


def nearest_folder(path: Path) -> Path:
    """The nearest existing folder above a path; the path will be on its disk."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def require_room(run: RunFolder, step: SupervisedStep, top: int, tail: int = 0) -> None:
    """Raises RunFolderError if the disk cannot hold the run."""
    parent = nearest_folder(run.path)
    needed, free = disk_bytes(step, top, tail), shutil.disk_usage(parent).free
    if free < needed:
        raise RunFolderError(
            f"{parent} has {free / 1e6:,.0f} MB free; the run needs up to {needed / 1e6:,.0f} MB for "
            f"its best {top} checkpoints, {f'the latest {tail}, ' * (tail > 0)}and its state. Free some "
            "space, put the run elsewhere with output.dir=<folder>, or keep fewer with keep.top=1"
            f"{' keep.tail=0' * (tail > 0)}."
        )
