"""What a run writes while it trains: the best checkpoints, and the state for an exact resume.

Tensors go to safetensors and the rest to its JSON header; nothing is pickled.
"""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.run_folder import (
    Manifest,
    Member,
    RunFolder,
    RunFolderError,
    save_tensors,
    sha256_of,
    written_in_place,
)
from engine.training.fit import diverged
from engine.training.optimizer_state import from_json, load_optimizer, state_of, state_of_0_1_0, to_json
from engine.training.sharding import full, sharded_like
from engine.training.step import SupervisedStep
from models.finite import broken_tensor

HASHED_AT_ONCE = 2**20  # bytes, in about a millisecond


class TopKeeper:
    """Keeps the `top` best checkpoints by one score; the earlier one on a tie, and none with the score NaN.

    Args:
        run: the folder where they are written.
        manifest: of the run; it lists the kept checkpoints, those from before a resume included.
        top: how many are kept.
        spacing: in updates; only the best checkpoint of each interval of this length is kept. 0: no limit.
    """

    def __init__(self, run: RunFolder, manifest: Manifest, top: int, spacing: int = 0):
        self.run = run
        self.manifest = manifest
        self.top = top
        self.spacing = spacing

    def offer(
        self,
        step: int,
        scores: dict[str, float],
        state_dict: Callable[[], dict[str, Tensor]],
        thresholds: tuple[float, ...] | None = None,
    ) -> Member | None:
        """Keep the checkpoint if it is among the best; None if it is not.

        Args:
            step: updates done.
            scores: with the metric of the manifest.
            state_dict: gives the weights; called only for a checkpoint that is kept.
            thresholds: of the classes, with data.labels: multi.
        """
        metric = self.manifest.metric
        others = [member for member in self.manifest.members if member.step != step]
        better = [m for m in others if m.scores[metric] >= scores[metric]]
        rivals = [m for m in others if self._span(m.step) == self._span(step)]
        if math.isnan(scores[metric]) or len(better) >= self.top or any(m in better for m in rivals):
            return None
        path = self.run.top / f"step-{step:07d}.safetensors"
        about = {"thresholds": thresholds} if thresholds else {}
        save_weights(path, state_dict(), {"step": step, "scores": scores, **about})
        file = str(path.relative_to(self.run.path))
        member = Member(file=file, step=step, scores=scores, sha256=sha256_of(path), thresholds=thresholds)
        candidates = [member, *(m for m in others if m not in rivals)]
        ranked = sorted(candidates, key=lambda m: (-m.scores[metric], m.step))
        self.manifest.members, dropped = ranked[: self.top], [*ranked[self.top :], *rivals]
        self.run.write_manifest(self.manifest)
        for old in dropped:  # after the manifest, which must never name a deleted file
            (self.run.path / old.file).unlink(missing_ok=True)
        return member

    def _span(self, step: int) -> int:
        """The number of the span that holds a step; without a spacing, of the step itself."""
        return (step - 1) // max(1, self.spacing)


def _digest(tensors: dict[str, Tensor], header: str, rest: Callable[[], None] = lambda: None) -> str:
    """The SHA-256, as hex, of a header and of the names, types, shapes and bytes of tensors.

    Args:
        rest: called after each piece of the work.
    """
    sha256 = hashlib.sha256(header.encode())
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        sha256.update(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        data = tensor.reshape(-1).view(torch.uint8).numpy().data
        for start in range(0, len(data), HASHED_AT_ONCE):
            sha256.update(data[start : start + HASHED_AT_ONCE])
            rest()
    return sha256.hexdigest()


def save_state(run: RunFolder, step: SupervisedStep, run_id: str | None = None) -> None:
    """Save all that the next update depends on: weights, moving average, optimisers, loss scale, step number.

    Args:
        run_id: from the manifest.
    """
    tensors, header = copied_state(run, step, run_id)
    if step.settings.rank == 0:
        write_state(run, tensors, header)


def copied_state(run: RunFolder, step: SupervisedStep, run_id: str | None) -> tuple[dict[str, Tensor], str]:
    """The tensors of a state, copied to the CPU so that the training can go on, and the rest as JSON.

    The JSON also has the length and SHA-256 of log.jsonl, to which rows are only appended until a resume.

    Raises:
        RunError: weights are NaN or infinite.
    """
    tensors = {
        f"{name}/{key}": t for name, module in step.modules.items() for key, t in module.state_dict().items()
    }
    optimizers = {
        name: to_json(state_of(optimizer), f"optimizers/{name}", tensors)
        for name, optimizer in step.optimizers.items()
    }
    scalers = {name: scaler.state_dict() for name, scaler in step.scalers.items()}
    log = run.log.read_bytes() if run.log.is_file() else b""
    header = json.dumps(
        {
            "run": run_id,
            "step": step.count,
            "lr_scale": step.lr_scale,
            "evaluations": step.evaluations,
            "scalers": scalers,
            "optimizers": optimizers,
            "log": {"bytes": len(log), "sha256": hashlib.sha256(log).hexdigest()},
        }
    )
    copies = {}
    for key, value in tensors.items():
        whole = full(value.detach())  # one after the other, as a device may not hold them all
        if step.settings.rank == 0:
            copies[key] = whole.to("cpu", copy=True).contiguous()
    if _broken(step, copies):  # the last good state stays
        raise diverged(step.count)
    return copies, header


def _broken(step: SupervisedStep, tensors: dict[str, Tensor]) -> str | None:
    """The first weight of a state that is NaN or infinite."""
    for name, module in step.modules.items():
        if key := broken_tensor(module, _below(f"{name}/", tensors)):
            return f"{name}/{key}"
    return None


def write_state(
    run: RunFolder, tensors: dict[str, Tensor], header: str, rest: Callable[[], None] = lambda: None
) -> None:
    """Write what `copied_state` returned; the previous state is kept as last/previous.safetensors.

    Args:
        rest: called repeatedly while the tensors are hashed.
    """
    metadata = {"trident": header, "sha256": _digest(tensors, header, rest)}
    with written_in_place(run.last_state) as temporary:
        save_tensors(temporary, tensors, metadata)
        if run.last_state.exists():
            run.last_state.replace(run.previous_state)


def load_state(
    run: RunFolder,
    step: SupervisedStep,
    run_id: str | None = None,
    onto_another: bool = False,
    before: int | None = None,
) -> dict[Path, str]:
    """Load the newest intact state into a step that was built from the same recipe.

    Args:
        run_id: from the manifest; None in a run of version 0.1.0, whose states had no SHA-256.
        onto_another: the step is of another recipe. It keeps the settings of its optimisers, and a moving
            average or a discriminator that the state lacks starts anew.
        before: load only a state from before this update, counted from 1.

    Returns:
        The newer states that are damaged, each with the reason.

    Raises:
        RunFolderError: no state is intact, or it is of another model.
    """
    faults: dict[Path, str] = {}
    for path in run.states:
        try:
            header, tensors = _read_state(path, run_id)
            if before is not None and header["step"] >= before:
                raise ValueError(f"it is of update {header['step']}")
            if broken := _broken(step, tensors):
                raise ValueError(f"{broken} has NaN or infinite values")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            faults[path] = str(error)
            continue
        _put_into(step, header, tensors, path, onto_another)
        return faults
    found = "\n".join(f"  {path} is damaged: {fault}" for path, fault in faults.items())
    raise RunFolderError(
        f"No state of {run.path} is intact:\n{found}\nStart another run, from the best checkpoint if one was "
        f"kept: {run.command_of_another()}"
    )


def _read_state(path: Path, run_id: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise ValueError("it is a folder, a pipe or a device")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not iterable
    if "trident" not in metadata:
        raise ValueError("it is not a state of Trident")
    text, saved = metadata["trident"], metadata.get("sha256")
    if saved != _digest(tensors, text) and (saved or run_id):
        raise ValueError("its SHA-256 is not the stored one")
    header: dict[str, Any] = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    if header.get("run") != run_id:
        raise ValueError("it is the state of another run")
    return header, tensors


def _put_into(
    step: SupervisedStep,
    header: dict[str, Any],
    tensors: dict[str, Tensor],
    path: Path,
    onto_another: bool,
) -> None:
    try:
        for name, module in step.modules.items():
            state = _below(f"{name}/", tensors)
            if onto_another and not state:
                if not name.startswith("ema"):
                    continue
                state = _below("model/", tensors)
            own = module.state_dict()
            module.load_state_dict({key: sharded_like(value, own.get(key)) for key, value in state.items()})
        for name, optimizer in step.optimizers.items():
            if "optimizers" not in header:
                load_optimizer(optimizer, state_of_0_1_0(optimizer, _below(f"{name}.state/", tensors)))
            elif not onto_another or name in header["optimizers"]:
                saved = from_json(header["optimizers"][name], tensors)
                load_optimizer(optimizer, saved, keep_settings=onto_another)
        for name, scaler in step.scalers.items():
            if not onto_another or header["scalers"].get(name):
                scaler.load_state_dict(header["scalers"][name])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path} does not fit the model of this recipe: {str(error).splitlines()[0]} "
            + (
                "Leave --continue-from out, or undo what changes the model or its parameter groups."
                if onto_another
                else "--resume needs the recipe that the run was started with."
            )
        ) from error
    step.count, step.lr_scale = header["step"], header.get("lr_scale", 1.0)
    scored = [] if onto_another else header.get("evaluations", [])  # another recipe may score otherwise
    step.evaluations = [(count, metrics) for count, metrics in scored]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def save_weights(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write a checkpoint with `header` as JSON in its metadata. Raises DiskError."""
    with written_in_place(path) as temporary:
        save_tensors(temporary, _separate(tensors), {"trident": json.dumps(header)})


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors that share no memory, which safetensors would refuse."""
    separate, seen = {}, set()
    for key, value in tensors.items():
        value = value.detach().contiguous()
        memory = value.device, value.untyped_storage().data_ptr()
        separate[key] = value.clone() if memory in seen else value
        seen.add(memory)
    return separate
