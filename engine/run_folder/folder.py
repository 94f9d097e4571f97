"""The folders of a run and of a saved ensemble: the path of each file, and what may be done with them."""

import hashlib
import itertools
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.going_on import command_to_go_on
from engine.run_folder.files import RunFolderError, require_intact, sha256_of
from engine.run_folder.manifests import (
    EnsembleManifest,
    Manifest,
    read_manifest,
    require_unaltered,
    saved_beside_tensors,
    write_manifest,
)
from engine.run_folder.nearby import near_runs, no_run_but_ensemble
from engine.run_folder.outputs import require_reachable

KEPT = ("top", "tail")  # folders of a run, with its checkpoints
SAVED = (*KEPT, "last")  # those with its weights
# What a killed process leaves of a file that it was writing: our temporary names, and those of safetensors.
LEFTOVER = re.compile(
    r"(recipe\.yaml|log\.jsonl|log_(train|val)\.csv|(manifest|doctor|ensemble)\.json|scores\.h5"
    r"|report\.html|predictions\.png|(top|tail)/step-\d{7}(-width-[\d.]+)?\.safetensors|last/state\.safetensors)\.part"
    r"|(top|tail|last)/\.tmp[A-Za-z0-9]{6}"
)


class EnsembleFolder:
    """A saved ensemble: combination.json, and members/*.safetensors with their recipes."""

    def __init__(self, path: Path):
        self.path = path
        self.manifest = path / "combination.json"
        self.members = path / "members"

    def read_manifest(self) -> EnsembleManifest:
        """Raises RunFolderError where a file is missing or altered, or combination.json is not an ensemble's.

        The files are combination.json and the recipes; the weights are verified where they are loaded.
        """
        manifest = read_manifest(self.manifest, EnsembleManifest)
        require_unaltered(self.manifest)
        for member in manifest.members:
            if member.recipe_sha256:
                require_intact(self.path / member.recipe, member.recipe_sha256)
        return manifest

    def write_manifest(self, manifest: EnsembleManifest) -> None:
        write_manifest(self.manifest, manifest)


class RunFolder:
    """The paths of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.log = path / "log.jsonl"
        self.manifest = path / "manifest.json"
        self.top = path / "top"
        self.tail = path / "tail"
        self.last_state = path / "last" / "state.safetensors"
        self.previous_state = path / "last" / "previous.safetensors"
        self.scores = path / "scores.h5"
        self.report = path / "report.html"
        self.predictions = path / "predictions.png"
        self.doctor = path / "doctor.json"
        self.ensemble = path / "ensemble.json"

    @classmethod
    def of(cls, recipe: Any) -> "RunFolder":
        """The folder of a recipe's run, <output.dir>/<name>; this layer may not import `Recipe`."""
        return cls(Path(recipe.output.dir) / recipe.name)

    @property
    def states(self) -> list[Path]:
        """The saved states that are there, newest first; damaged ones too, such as a folder or a pipe."""
        return [path for path in (self.last_state, self.previous_state) if path.exists()]

    @property
    def is_new(self) -> bool:
        """Whether there is nothing at its path, or an empty folder."""
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    @property
    def is_finished(self) -> bool:
        """Whether its manifest says so. Raises RunFolderError where that is damaged."""
        return self.manifest.exists() and self.read_manifest().finished

    def kept_nothing(self) -> bool:
        """Whether the folder is that of a run which was ended before it saved a state or a checkpoint.

        Raises:
            RunFolderError: its manifest is damaged.
        """
        if self.states or any(self.top.glob("*.safetensors")) or any(self.tail.glob("*.safetensors")):
            return False
        if self.manifest.exists():
            manifest = self.read_manifest()
            return not manifest.members and not manifest.finished
        # The manifest is the first file of a run, so without it only what was being written is there.
        unfinished = (".part", ".lock")
        return all(path.is_dir() or path.name.endswith(unfinished) for path in self.path.rglob("*"))

    def require_new(self) -> None:
        """Raises RunFolderError where the folder exists and is not empty, or a file is in its way."""
        require_reachable(self.path, "output.dir")
        if self.is_new:
            return
        beside = "start another run with name=<another name>"
        if self.path.is_file():
            remedy = f"It is a file: {beside}."
        elif self.states:
            remedy = f"Add --resume to the same command (resume=True in Python) to continue it, or {beside}."
        elif self.kept_nothing():
            remedy = (
                "Nothing was saved in it: add --resume to the same command (resume=True in Python) to start "
                f"it again there, or {beside}."
            )
        else:
            remedy = f"It holds no state to resume from: {beside}, or remove it."
        raise RunFolderError(f"{self.path} exists already, and a run never overwrites another. {remedy}")

    def create(self) -> None:
        """Make the folder; what is there stays."""
        self.top.mkdir(parents=True, exist_ok=True)
        self.last_state.parent.mkdir(exist_ok=True)

    def sweep(self) -> None:
        """Delete what a process that was killed while it wrote has left; call it under the lock only."""
        folders = (self.path, self.top, self.tail, self.last_state.parent)
        for path in [path for folder in folders for path in folder.glob("*")]:
            if LEFTOVER.fullmatch(path.relative_to(self.path).as_posix()) and not path.is_dir():
                path.unlink(missing_ok=True)

    def can_go_on(self) -> bool:
        """Whether there is a state to go on from; False where a run may start, as nothing was saved there.

        Raises:
            RunFolderError: there is no state, but something else that a start could overwrite.
        """
        require_reachable(self.path)
        if self.states:
            return True
        if self.is_new or (self.path.is_dir() and self.kept_nothing()):
            return False
        raise RunFolderError(
            f"--resume: {self.last_state} is not there, and {self.path} holds other files, which a start "
            "could overwrite. Start another run with name=<another name>, or remove it."
        )

    def another_name(self) -> str:
        """A name for another run next to this one."""
        names = (f"{self.path.name}-{number}" for number in itertools.count(2))
        return next(name for name in names if not self.path.with_name(name).exists())

    def command_of_another(self) -> str:
        """What to type for another run of the same recipe, from the best checkpoint if one was kept.

        Raises:
            RunFolderError: manifest.json is missing or damaged.
        """
        name = self.another_name()
        weights = ["model.from_scratch=false", f"model.weights={self.path}"]
        weights = weights if self.read_manifest().members else []
        place = [f"output.dir={self.path.parent}", f"name={name}"]  # the folder may have been moved
        return shlex.join(["trident", "run", str(self.recipe), *weights, *place])

    def read_manifest(self) -> Manifest:
        """Raises RunFolderError where it or the recipe is missing or altered, or it is not a run's."""
        manifest = read_manifest(self.manifest, Manifest)
        for number, member in enumerate(manifest.members):
            own = saved_beside_tensors(self.path / member.file, "scores")
            for metric, score in member.scores.items():
                if own and own.get(metric, score) != score:
                    raise RunFolderError(
                        f"{self.manifest} was altered: members.{number}.scores.{metric} is {score}, but "
                        f"{member.file} was saved with {own[metric]}. Correct that number."
                    )
        require_unaltered(self.manifest)
        if self.recipe.name in manifest.files:
            try:
                require_intact(self.recipe, manifest.files[self.recipe.name])
            except RunFolderError as error:
                raise RunFolderError(
                    f"{error} Put the intact file back. To use it as it is, remove {self.recipe.name} from "
                    f'"files" in {self.manifest}, and write "sha256": null at the end there.'
                ) from None
        return manifest

    def require_final(self, path: Path, manifest: Manifest) -> None:
        """Raises RunFolderError where a file of a finished run is missing, altered, or of another run."""
        if path.name in manifest.files:
            try:
                require_intact(path, manifest.files[path.name])
            except RunFolderError as error:
                raise RunFolderError(
                    f"{error} Put the intact file back, or let the run score its checkpoints again: "
                    f"{command_to_go_on(self.path)}"
                ) from None

    def log_was_altered(self) -> bool:
        """Whether log.jsonl is not the one that the newest state was saved with, and what was added since."""
        logged = saved_beside_tensors(self.states[0], "log") if self.states else None  # none in 0.1.0
        if not logged:
            return False
        log = self.log.read_bytes() if self.log.is_file() else b""
        return bool(hashlib.sha256(log[: logged["bytes"]]).hexdigest() != logged["sha256"])

    def require_log(self, manifest: Manifest) -> None:
        """Raises RunFolderError where log.jsonl, of a run that may not be finished, was altered."""
        if self.log.name in manifest.files:
            self.require_final(self.log, manifest)
        elif self.log_was_altered():
            raise RunFolderError(
                f"{self.log} was altered after the state of the run was saved. Put the intact file back, or "
                f"go on with the run: {command_to_go_on(self.path)}"
            )

    def write_final(self, manifest: Manifest, *paths: Path) -> None:
        """Write the manifest with the SHA-256 of these files, which are final."""
        manifest.files |= {path.name: sha256_of(path) for path in paths if path.is_file()}
        self.write_manifest(manifest)

    def write_manifest(self, manifest: Manifest) -> None:
        write_manifest(self.manifest, manifest)


def find_runs(*folders: Path) -> list[RunFolder]:
    """Every run at or below these folders once, by path within each folder.

    Raises:
        RunFolderError: no such folder, or no run in it.
    """
    return list({run.path.resolve(): run for folder in folders for run in _runs_below(folder)}.values())


def _runs_below(folder: Path) -> list[RunFolder]:
    if folder.is_file():
        run = folder.parent.parent if folder.parent.name in KEPT else folder.parent
        near = f", such as {run}" if RunFolder(run).manifest.is_file() else f".{near_runs(run)}"
        raise RunFolderError(f"{folder} is a file. Name the folder of a run{near}")
    if not folder.is_dir():
        raise RunFolderError(f"No folder {folder}.{near_runs(folder)}")
    runs = [RunFolder(path.parent) for path in sorted(folder.rglob("manifest.json"))]
    if not runs and EnsembleFolder(folder).manifest.is_file():
        raise RunFolderError(f"{folder} {no_run_but_ensemble(folder)}")
    if not runs:
        raise RunFolderError(
            f"No run in {folder}: no manifest.json below it. Train one: trident run <recipe>"
        )
    return runs


def require_trained_alike(overrides: Sequence[str]) -> None:
    """Raises RunFolderError where an override of a finished run is of a section that may not change."""
    fixed = ("data.bands", "data.normalisation", "data.labels")  # of what the model was trained on
    refused = [
        text for text in overrides if not text.startswith(("data.", "eval.")) or text.startswith(fixed)
    ]
    if refused:
        raise RunFolderError(
            f"{refused[0]}: a finished run cannot be changed. Overrides may only set where the "
            "data is (data.root=...) and how it is scored (eval.flip=true, eval.scales=[0.5,1.0])."
        )


def common_folder(folders: Sequence[Path]) -> Path:
    """The only folder, or the nearest common parent; the working folder where that is the root."""
    if len(folders) == 1:
        return folders[0]
    common = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    return Path() if common == Path(common.anchor) else common
