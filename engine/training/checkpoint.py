"""What a run leaves on disk while it trains: the best checkpoints, and the state for an exact resume.

Tensors go to safetensors and the rest to its JSON header; nothing is pickled. Knows nothing of batches or
losses.
"""

import errno
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.run_folder import Manifest, Member, RunFolder, RunFolderError, sha256_of, written_in_place
from engine.training.guards import RunError
from engine.training.step import SupervisedStep


class TopKeeper:
    """Keeps the `top` best checkpoints by one score; earlier ones win ties, NaN never enters.

    Args:
        run: where they lie.
        manifest: its members, also those of before a resume; written at each change.
        top: how many.
    """

    def __init__(self, run: RunFolder, manifest: Manifest, top: int):
        self.run = run
        self.manifest = manifest
        self.top = top

    def offer(self, step: int, scores: dict[str, float], weights: dict[str, Tensor]) -> bool:
        """Keep the checkpoint if it is among the best; True if it is."""
        metric = self.manifest.metric
        others = [member for member in self.manifest.members if member.step != step]
        better = [m for m in others if m.scores[metric] >= scores[metric]]
        if math.isnan(scores[metric]) or len(better) >= self.top:
            return False
        path = self.run.top / f"step-{step:07d}.safetensors"
        _save(path, weights, {"step": step, "scores": scores})
        member = Member(
            file=str(path.relative_to(self.run.path)), step=step, scores=scores, sha256=sha256_of(path)
        )
        ranked = sorted([*others, member], key=lambda m: (-m.scores[metric], m.step))
        self.manifest.members, dropped = ranked[: self.top], ranked[self.top :]
        with _room_on_disk(self.run.path):
            self.run.write_manifest(self.manifest)
        for old in dropped:  # after the manifest, which must never name a file that is gone
            (self.run.path / old.file).unlink(missing_ok=True)
        return True


def save_state(run: RunFolder, step: SupervisedStep) -> None:
    """All that the next update depends on: weights, moving average, optimisers, loss scale, step number."""
    tensors = {
        f"{name}/{key}": t for name, module in step.modules.items() for key, t in module.state_dict().items()
    }
    for name, optimizer in step.optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.state/{index}/{slot}": value for slot, value in slots.items()}
    _save(run.last_state, tensors, {"step": step.count, "scalers": _scaler_states(step)})


def _scaler_states(step: SupervisedStep) -> dict[str, dict]:
    return {name: scaler.state_dict() for name, scaler in step.scalers.items()}


def load_state(run: RunFolder, step: SupervisedStep) -> None:
    """The inverse of save_state, into a step that was built from the same recipe.

    Raises:
        RunFolderError: the file is damaged or belongs to another model.
    """
    try:
        with safe_open(run.last_state, framework="pt") as file:
            header = json.loads(file.metadata()["trident"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no iterator there
    except (SafetensorError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{run.last_state} is damaged: {error}. Start beside it with name=<another name>."
        ) from None
    try:
        for name, module in step.modules.items():
            module.load_state_dict(_below(f"{name}/", tensors))
        for name, optimizer in step.optimizers.items():
            optimizer.load_state_dict(
                optimizer.state_dict() | {"state": _slots(_below(f"{name}.state/", tensors))}
            )
        for name, scaler in step.scalers.items():
            scaler.load_state_dict(header["scalers"][name])
    except (RuntimeError, ValueError) as error:
        raise RunFolderError(
            f"{run.last_state} does not fit the model of this recipe: {str(error).splitlines()[0]} "
            "--resume wants the recipe that the run was started with."
        ) from error
    step.count = header["step"]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _slots(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, slot = key.split("/")
        state.setdefault(int(index), {})[slot] = value
    return state


def _save(path: Path, tensors: dict[str, Tensor], header: dict) -> None:
    contiguous = {key: value.detach().contiguous() for key, value in tensors.items()}
    with _room_on_disk(path.parent), written_in_place(path) as temporary:
        save_file(contiguous, temporary, metadata={"trident": json.dumps(header)})


@contextmanager
def _room_on_disk(folder: Path) -> Iterator[None]:
    """A full disk becomes one clear message; what was there before is whole, as files are replaced whole."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
            raise
        raise RunError(
            f"No space left on the disk of {folder}. What was saved before is whole: free some space, then "
            "go on with the same command and --resume."
        ) from error


def disk_bytes(step: SupervisedStep, top: int) -> int:
    """What the run needs at the most: `top` checkpoints, the state, and one of each while it is replaced."""

    def num_bytes(tensors: dict[str, Tensor]) -> int:
        return sum(t.numel() * t.element_size() for t in tensors.values())

    weights = num_bytes(step.evaluated.state_dict())
    modules = sum(num_bytes(module.state_dict()) for module in step.modules.values())
    moments = sum(2 * p.numel() * p.element_size() for o in step.optimizers.values() for g in o.param_groups
                  for p in g["params"])  # fmt: skip
    return (top + 1) * weights + 2 * (modules + moments)


def require_room(run: RunFolder, step: SupervisedStep, top: int) -> None:
    """Raises RunFolderError where the disk cannot hold the run, before any time is spent on it."""
    parent = next(path for path in run.path.absolute().parents if path.exists())
    needed, free = disk_bytes(step, top), shutil.disk_usage(parent).free
    if free < needed:
        raise RunFolderError(
            f"{parent} has {free / 1e6:,.0f} MB free; the run needs up to {needed / 1e6:,.0f} MB for "
            f"its best {top} checkpoints and its state. Free some space, put the run elsewhere with "
            "output.dir=<folder>, or keep fewer with keep.top=1."
        )


def final_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state dict as it is kept in top/: on the CPU, cut loose from the training."""
    return {key: value.detach().cpu() for key, value in model.state_dict().items()}
