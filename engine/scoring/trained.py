"""Opens a run, one of its checkpoints, or a saved ensemble."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from engine.data.bands import RGB, band_names, model_inputs, ranges_of
from engine.data.options import Data
from engine.data.sample import Dataset, Palette
from engine.options import listed
from engine.recipe import Recipe, load_recipe
from engine.run_folder import (
    DataIdentity,
    EnsembleFolder,
    Manifest,
    Member,
    RunFolder,
    RunFolderError,
    last_stage,
    near_runs,
    no_checkpoint,
    no_model,
    require_intact,
    require_trained_alike,
)
from engine.scoring.combining import Combination
from engine.scoring.label_kinds import SINGLE, LabelKind, label_kind
from engine.scoring.multi_label import mean_thresholds
from models import build_model
from models.finite import broken_tensor
from models.folding import for_predictions


@dataclass(frozen=True)
class Trained:
    """Models that predict as one.

    members: by name, in eval mode, each on its device; `combination` has a weight for each.
    recipe: of the run, or of the first member; it names the data and the evaluation protocol.
    kind: of the labels, with the thresholds of the classes if it has any.
    weights: the pretrained weights of each member, for the licence; None where it started at random.
    training_data: the `data` section of each member, as it was trained.
    """

    name: str
    members: dict[str, nn.Module]
    combination: Combination
    class_names: tuple[str, ...]
    palette: Palette
    recipe: Recipe
    data: DataIdentity
    weights: list[dict[str, object] | None]
    training_data: Sequence[Data] = ()
    kind: LabelKind = SINGLE

    @property
    def train_fingerprints(self) -> list[str | None]:
        """Of the training split of each member; None where it is not that of the first member."""
        first = self.training_data[0] if self.training_data else None
        return [self.data.train_fingerprint if one == first else None for one in self.training_data]

    @property
    def num_parameters(self) -> int:
        """Of all members together."""
        return sum(p.numel() for model in self.members.values() for p in model.parameters())

    def for_predictions(self) -> dict[str, nn.Module]:
        """The members, as they predict fastest."""
        return {name: for_predictions(model) for name, model in self.members.items()}


def open_trained(
    path: Path, device: torch.device, step: int | None = None, overrides: Sequence[str] = ()
) -> Trained:
    """A run folder (its best checkpoint, or that of `step`), a file of its top/ or tail/, or an ensemble's.

    Args:
        overrides: of the recipe's `data` and `eval` sections, `key.path=value` each.

    Raises:
        RunFolderError: none of these is there, its files are missing, altered or of other classes, or an
            override would change what was trained.
        RecipeError: an override is not valid.
    """
    overrides = listed(overrides)
    require_trained_alike(overrides)
    if EnsembleFolder(path).manifest.is_file():
        if step is not None:
            raise RunFolderError(f"{path} is an ensemble, which has no steps: leave the step {step} out.")
        return _open_ensemble(EnsembleFolder(path), device, overrides)
    if not path.is_file() and not os.path.lexists(last_stage(path) / "manifest.json"):
        raise RunFolderError(no_model(path))
    run, manifest, member = find_checkpoint(path, step)
    recipe = load_recipe(run.recipe, overrides, imports=False)
    model = load_model(run.path / member.file, member.sha256, recipe, manifest.class_names, device)
    return Trained(
        name=f"{manifest.name} step {member.step}",
        members={f"step {member.step}": model},
        combination=Combination.mean(1),
        class_names=tuple(manifest.class_names),
        palette=tuple(manifest.palette),
        recipe=recipe,
        data=manifest.data,
        weights=[manifest.weights],
        training_data=[load_recipe(run.recipe, imports=False).data],
        kind=label_kind(recipe.data, member.thresholds),
    )


def find_checkpoint(path: Path, step: int | None = None) -> tuple[RunFolder, Manifest, Member]:
    """A file in top/ or tail/, or the checkpoint of a run folder: that of `step`, or else the best one.

    Of the folder of a recipe with stages, the last stage counts that has kept a checkpoint.

    The one place that decides which checkpoint is the best: a manifest lists them best first, by its metric.

    Raises:
        RunFolderError: it is not a run, it has not kept such a checkpoint, or a file and a step were given.
    """
    if EnsembleFolder(path).manifest.is_file():
        raise RunFolderError(f"{path} is an ensemble. Name a run, or a file of its top/.")
    file = path if path.is_file() else None
    if file and file.suffix != ".safetensors":
        raise RunFolderError(f"{file} is not a checkpoint.{near_runs(file.parent)}")
    run = RunFolder(path.parent.parent if file else last_stage(path))
    manifest = run.read_manifest()
    kept = [*manifest.members, *manifest.tail]
    if file is not None and step is not None:
        raise RunFolderError(f"{file} is a single checkpoint: leave the step {step} out, or name the run.")
    if file is not None:
        found = [member for member in kept if (run.path / member.file).resolve() == file.resolve()]
        if not found:
            raise RunFolderError(f"{file} is not one of the checkpoints that {run.manifest} lists.")
    else:
        found = manifest.members if step is None else [member for member in kept if member.step == step]
    if not kept:
        raise RunFolderError(no_checkpoint(run.path))
    if not found:
        steps = ", ".join(dict.fromkeys(str(member.step) for member in kept))
        raise RunFolderError(f"{run.path} has not kept this checkpoint. Steps kept: {steps}.")
    return run, manifest, found[0]


def require_classes(dataset: Dataset, class_names: Sequence[str], path: Path) -> None:
    """Raises RunFolderError where the classes of the data differ from those that `path` was trained on."""
    if list(dataset.class_names) != list(class_names):
        raise RunFolderError(
            f"{path} was trained on {len(class_names)} classes ({', '.join(class_names)}), but the data has "
            f"{len(dataset.class_names)} ({', '.join(dataset.class_names)}). "
            "Score it with the classes of its run: leave data.classes out, and say with data.ids which of "
            "them each value of the masks is."
        )


def require_read_alike(
    sections: Mapping[str, Data], class_names: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> None:
    """Raises RunFolderError where models that are to be shown the same images were trained on other inputs.

    Args:
        sections: the `data` section of each, by the path of its run, checkpoint or ensemble.
        class_names: of each; empty where they are known to be equal.
    """
    (first, expected), *others = (
        (path, _inputs(section) | {"the list of classes": ", ".join(class_names.get(path, ()))})
        for path, section in sections.items()
    )
    for path, inputs in others:
        for key, value in inputs.items():
            if value != expected[key]:
                raise RunFolderError(
                    f"{path} cannot be scored with {first}, as images and labels are read once for both: "
                    f"{key} is {value} for it, and {expected[key]} for {first}. Leave one of them out. Alone "
                    f"it is scored by\ntrident evaluate {shlex.quote(path)}"
                )


def _inputs(section: Data) -> dict[str, object]:
    """What decides how images and labels are read, by key."""
    return {
        "data.bands": ", ".join(band_names(section.bands) or RGB),
        "data.labels": section.labels,
        "data.range": ranges_of(section) or "auto",
    }


def load_model(
    path: Path, sha256: str, recipe: Recipe, class_names: list[str], device: torch.device
) -> nn.Module:
    """The model of a checkpoint, in eval mode.

    Raises:
        RunFolderError: the file is missing, altered, of other classes than its recipe says, or has NaN.
    """
    require_intact(path, sha256)
    model = build_model(recipe.model, class_names, **model_inputs(recipe.data))
    try:
        state = load_file(path)
        model.load_state_dict(state)
    except (RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise RunFolderError(
            f"{path} does not fit the model of its recipe with {len(class_names)} classes: {reason}"
        ) from error
    if name := broken_tensor(model, state):
        raise RunFolderError(
            f"{path}: {name} has NaN or infinite values, so this checkpoint predicts nothing. Take another "
            "one of its run."
        )
    return model.to(device).eval()


def devices_of_members(device: torch.device, num_members: int) -> list[torch.device]:
    """Where each member of an ensemble runs: "cuda" means all GPUs in turn, so that members run together.

    A device with a number, such as "cuda:0" or that of a training, has all members.
    """
    if device.type != "cuda" or device.index is not None:
        return [device] * num_members
    return [torch.device("cuda", number % torch.cuda.device_count()) for number in range(num_members)]


def _open_ensemble(folder: EnsembleFolder, device: torch.device, overrides: Sequence[str]) -> Trained:
    manifest = folder.read_manifest()
    recipes = [
        load_recipe(folder.path / member.recipe, overrides, imports=False) for member in manifest.members
    ]
    thresholds = mean_thresholds(member.thresholds for member in manifest.members)
    return Trained(
        name=manifest.name,
        members={
            member.name: load_model(
                folder.path / member.file, member.sha256, recipe, manifest.class_names, of_member
            )
            for member, recipe, of_member in zip(
                manifest.members, recipes, devices_of_members(device, len(recipes)), strict=True
            )
        },
        combination=Combination.from_dict(manifest.combination.model_dump()),
        class_names=tuple(manifest.class_names),
        palette=tuple(manifest.palette),
        recipe=recipes[0],
        data=manifest.data,
        weights=[member.weights for member in manifest.members],
        training_data=[
            load_recipe(folder.path / member.recipe, imports=False).data for member in manifest.members
        ],
        kind=label_kind(recipes[0].data, thresholds),
    )
