"""The run folder: where each file of a run lies, and the manifest that says what the run holds.

    checkpoints/<name>/
        recipe.yaml        the resolved recipe
        log.jsonl          one JSON object a line: step, split, metrics
        manifest.json      members, scores, SHA-256, class names, code version, data fingerprint
        top/*.safetensors  the best checkpoints
        last/              everything for an exact resume
        scores.h5          confusion, boundary and calibration counts of each val image
        doctor.json        what is wrong with the data
        ensemble.json      the members and their ensemble on val
        predictions.png    image, labels, prediction, errors
        report.html, events.out.tfevents.*

Knows nothing of torch. Every file is written beside its place and renamed, so a crash leaves the old one
whole.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

Kind = TypeVar("Kind", bound=BaseModel)


class RunFolderError(ValueError):
    """A run folder is there already, is not there, or does not hold what it should."""

    exit_code = 2


class Member(BaseModel):
    """One kept checkpoint; `file` is relative to the run folder, scores are shares of 1."""

    model_config = ConfigDict(extra="forbid")

    file: str
    step: int
    scores: dict[str, float]
    sha256: str


class DataIdentity(BaseModel):
    """Which images were scored: equal fingerprints mean equal images and labels."""

    model_config = ConfigDict(extra="forbid")

    format: str
    train: str
    val: str
    train_fingerprint: str
    val_fingerprint: str


class Manifest(BaseModel):
    """manifest.json. `members` are in order, best first by `metric`; `palette` is RGB by label id.

    `environment` is what the training was started on, name -> text (engine/training/environment.py).
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    code_version: str
    class_names: list[str]
    palette: list[tuple[int, int, int]]
    data: DataIdentity
    metric: str
    weights: dict | None = None
    num_parameters: int
    environment: dict[str, str] = {}
    finished: bool = False
    members: list[Member] = []


class EnsembleMember(BaseModel):
    """One checkpoint in an ensemble's folder; `file` and `recipe` are relative to it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    file: str
    recipe: str
    sha256: str
    weights: dict[str, object] | None = None


class CombinationValues(BaseModel):
    """The values of a `Combination` (engine/scoring/combining.py)."""

    model_config = ConfigDict(extra="forbid")

    space: Literal["probability", "logit"]
    weights: tuple[tuple[float, ...], ...]
    temperatures: tuple[float, ...]


class EnsembleManifest(BaseModel):
    """combination.json: members, how their predictions are combined, and the scores of that on val."""

    model_config = ConfigDict(extra="forbid")

    name: str
    code_version: str
    method: str
    class_names: list[str]
    palette: list[tuple[int, int, int]]
    data: DataIdentity
    members: list[EnsembleMember]
    combination: CombinationValues
    scores: dict[str, float]

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        rows, temperatures = self.combination.weights, self.combination.temperatures
        num_members = len({member.name for member in self.members})
        if not num_members == len(self.members) == len(rows) == len(temperatures):
            raise ValueError("each member needs a name of its own, its weights and a temperature")
        if {len(row) for row in rows} not in ({1}, {len(self.class_names)}):
            raise ValueError("each member needs one weight, or one for each class")
        return self


class EnsembleFolder:
    """An ensemble that was saved: combination.json, and members/*.safetensors with their recipes."""

    def __init__(self, path: Path):
        self.path = path
        self.manifest = path / "combination.json"
        self.members = path / "members"

    def read_manifest(self) -> EnsembleManifest:
        """Raises RunFolderError where combination.json is missing or is none of ours."""
        return _read(self.manifest, EnsembleManifest)


class RunFolder:
    """The paths of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.log = path / "log.jsonl"
        self.manifest = path / "manifest.json"
        self.top = path / "top"
        self.last_state = path / "last" / "state.safetensors"
        self.scores = path / "scores.h5"
        self.report = path / "report.html"
        self.predictions = path / "predictions.png"
        self.doctor = path / "doctor.json"
        self.ensemble = path / "ensemble.json"

    @classmethod
    def of(cls, recipe) -> "RunFolder":
        """Where a recipe's run lives: <output.dir>/<name>."""
        return cls(Path(recipe.output.dir).expanduser() / recipe.name)

    def require_new(self) -> None:
        """Raises RunFolderError where something is there already."""
        if self.path.is_file() or (self.path.exists() and any(self.path.iterdir())):
            beside = "start beside it with name=<another name>"
            remedy = (
                f"Type --resume behind the same command to go on with it, or {beside}."
                if self.last_state.exists()
                else f"It holds no state to resume from: {beside}, or remove it yourself."
            )
            raise RunFolderError(f"{self.path} exists already, and a run never overwrites another. {remedy}")

    def create(self) -> None:
        """Make the folder, which must be new."""
        self.require_new()
        self.top.mkdir(parents=True, exist_ok=True)
        self.last_state.parent.mkdir(exist_ok=True)

    def require_resumable(self) -> None:
        """Raises RunFolderError where there is no state to go on from."""
        if not self.last_state.is_file():
            raise RunFolderError(
                f"--resume: {self.last_state} is not there, so there is nothing to go on from. "
                "Leave --resume out to start this run."
            )

    def read_manifest(self) -> Manifest:
        """Raises RunFolderError where manifest.json is missing or is none of ours."""
        return _read(self.manifest, Manifest)

    def write_manifest(self, manifest: Manifest) -> None:
        write_text(self.manifest, manifest.model_dump_json(indent=2) + "\n")


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RunFolderError(f"{path.parent} is no run folder: it has no {path.name}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(f"{path} is damaged at {where or 'its start'}: {first['msg']}.") from None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log.jsonl, if there is one; half a last line, as a crash leaves it, is left out.

    Raises:
        RunFolderError: another line is no row.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    rows = []
    for number, line in enumerate(lines, 1):
        if line.endswith("\n"):
            try:
                row = json.loads(line)
                rows.append({"step": row.pop("step"), "split": row.pop("split"), **row})
            except (ValueError, KeyError, TypeError, AttributeError):
                raise RunFolderError(
                    f"{path} is damaged at line {number}, which is no JSON object with step and split. "
                    "Remove that line: the others can be read without it."
                ) from None
    return rows


def read_json(path: Path, keys: Sequence[str] = ()) -> Any:
    """What a JSON file holds, None where there is none.

    Raises:
        RunFolderError: it is damaged, or no object with these keys.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lacking = [key for key in keys if key not in content]
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}). Move it away and make it again.") from None
    if lacking:
        raise RunFolderError(f"{path} lacks {', '.join(lacking)}. Move it away and make it again.")
    return content


def find_runs(folder: Path) -> list[RunFolder]:
    """Every run at or below `folder`, by path.

    Raises:
        RunFolderError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunFolderError(
            f"No folder {folder}. Runs lie in checkpoints/ unless output.dir says otherwise."
        )
    runs = [RunFolder(path.parent) for path in sorted(folder.rglob("manifest.json"))]
    if not runs:
        raise RunFolderError(
            f"No run in {folder}: no manifest.json below it. Train one: python -m engine.run <recipe>"
        )
    return runs


def require_reachable(path: Path) -> None:
    """Raises RunFolderError where a file stands in the place of a folder that `path` needs."""
    blocked = [parent for parent in path.parents if parent.exists() and not parent.is_dir()]
    if blocked:
        raise RunFolderError(f"{path} cannot be written: {blocked[0]} is a file, not a folder.")


def require_folder(path: Path) -> None:
    """Raises RunFolderError where `path` is no folder and cannot become one."""
    require_reachable(path)
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is a file. Name a folder.")


def require_trained_alike(overrides: Sequence[str]) -> None:
    """Raises RunFolderError where an override of a finished run is of a section that may not change."""
    refused = [text for text in overrides if not text.startswith(("data.", "eval."))]
    if refused:
        raise RunFolderError(
            f"{refused[0]}: what a finished run is made of cannot be changed. Overrides may say where the "
            "data lies (data.root=...) and how it is seen (eval.flip=true, eval.scales=[0.5, 1.0])."
        )


def common_folder(folders: Sequence[Path]) -> Path:
    """The only folder, or the nearest that holds all; where they share but the disk, the working folder."""
    if len(folders) == 1:
        return folders[0]
    common = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    return Path() if common == Path(common.anchor) else common


@contextmanager
def written_in_place(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; it takes its place when the block ends well, else it vanishes."""
    temporary = path.with_name(path.name + ".part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole."""
    with written_in_place(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Replace a JSON file as a whole; `without_nan`."""
    write_text(path, json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n")


def without_nan(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
