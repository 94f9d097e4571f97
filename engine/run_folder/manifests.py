"""manifest.json of a run and combination.json of a saved ensemble, each with the SHA-256 of its content."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from engine.options import PlainPath
from engine.run_folder.files import RunFolderError, parse_json, require_regular, without_nan, write_json
from engine.run_folder.nearby import no_manifest

Kind = TypeVar("Kind", bound=BaseModel)


class _Strict(BaseModel):
    """An entry that it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


class Member(_Strict):
    """One kept checkpoint; `file` is relative to the run folder, scores are shares of 1.

    thresholds: with data.labels: multi, the probability from which each class is predicted, in the order
    of the classes, chosen on the images that select the checkpoints.
    """

    file: PlainPath
    step: int
    scores: dict[str, float]
    sha256: str
    thresholds: tuple[float, ...] | None = None

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of each of its files, by the path relative to the run folder."""
        return {self.file: self.sha256}


class Average(_Strict):
    """The average of one width (train.ema_widths) as it was at a latest state."""

    file: PlainPath
    width: float
    sha256: str


class LatestState(Member):
    """One of the states of keep.tail, and the averages that were saved with it."""

    averages: list[Average] = []

    @property
    def files(self) -> dict[str, str]:
        return super().files | {average.file: average.sha256 for average in self.averages}


class DataIdentity(_Strict):
    """Which images were scored: equal fingerprints mean equal images and labels.

    num_val_trained_on: images of val that are in train too; None in runs of 0.1.0, which did not count them.
    num_unlabelled, unlabelled_fingerprint: of the images of data.unlabelled.
    """

    format: str
    train: str
    val: str
    train_fingerprint: str
    val_fingerprint: str
    num_val_trained_on: int | None = None
    num_unlabelled: int = 0
    unlabelled_fingerprint: str | None = None

    def num_trained_on(self, num_val: int) -> int:
        """How many of the `num_val` images of val were trained on, as far as it is known."""
        if self.val_fingerprint == self.train_fingerprint:
            return num_val
        return self.num_val_trained_on or 0


class Changed(_Strict):
    """A value of a recipe that was changed on the way; "absent" where there was none."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        before, now = (
            json.dumps(value) if value is None or isinstance(value, bool) else value  # as in a recipe
            for value in (self.before, self.now)
        )
        return f"{self.key}: {before} in the run, {now} now"


class _GoesOn(_Strict):
    """A training that goes on from a saved state, of update `step`, with changed values of the recipe."""

    step: int
    changes: list[Changed]

    def told(self, what: str) -> str:
        """Lines for the console; `what` the run does, such as "goes on"."""
        lines = [f"  {change}" for change in self.changes] or ["  nothing"]
        return "\n".join([f"The run {what} after update {self.step}; changed in its recipe:", *lines])


class Origin(_GoesOn):
    """The run from whose state this one went on (`--continue-from`)."""

    run: str
    run_id: str | None


class Resumption(_GoesOn):
    """A resume with values that never change an update."""


class _Sealed(_Strict):
    """A manifest whose file has the SHA-256 of its other entries, which `require_unaltered` compares."""

    @model_validator(mode="before")
    @classmethod
    def _without_sha256(cls, content: Any) -> Any:
        is_object = isinstance(content, dict)
        return {key: content[key] for key in content if key != "sha256"} if is_object else content


class Manifest(_Sealed):
    """manifest.json. `members` are in order, best first by `metric`; `palette` is RGB by label id.

    `tail` has the latest states (keep.tail), which no score chose, in the order of their updates.

    `environment` is what the training was started on, name -> text (engine/training/start.py). `run_id`
    is also in the run's states; it is drawn at the start, and None in runs of version 0.1.0. `files` is the
    SHA-256 of the files that commands read, by name, once they are final. `bands` has the names of
    data.bands, None for RGB; `normalisation` their mean and std in 0..255, None for those of the weights.
    """

    name: str
    code_version: str
    class_names: list[str]
    palette: list[tuple[int, int, int]]
    data: DataIdentity
    metric: str
    bands: list[str] | None = None
    normalisation: dict[str, list[float]] | None = None
    weights: dict[str, Any] | None = None
    num_parameters: int
    environment: dict[str, str] = {}
    run_id: str | None = None
    continued_from: Origin | None = None
    resumed: list[Resumption] = []
    finished: bool = False
    files: dict[str, str] = {}
    members: list[Member] = []
    tail: list[LatestState] = []

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        _require_colours(self.class_names, self.palette)
        if any(self.metric not in member.scores for member in self.members):
            raise ValueError(f"each member needs the score {self.metric}, by which they are in order")
        return self


class EnsembleMember(_Strict):
    """One checkpoint in an ensemble's folder; `file` and `recipe` are relative to it.

    The SHA-256 of the recipe is None in ensembles of version 0.1.0.
    """

    name: str
    file: PlainPath
    recipe: PlainPath
    sha256: str
    recipe_sha256: str | None = None
    weights: dict[str, object] | None = None
    thresholds: tuple[float, ...] | None = None


class EarlyExitValues(_Strict):
    """The values of an `EarlyExit` (engine/scoring/combining.py)."""

    member: int
    certainty: float


class CombinationValues(_Strict):
    """The values of a `Combination` (engine/scoring/combining.py)."""

    space: Literal["probability", "logit"]
    weights: tuple[tuple[float, ...], ...]
    temperatures: tuple[float, ...]
    early_exit: EarlyExitValues | None = None


class EnsembleManifest(_Sealed):
    """combination.json: members, how their predictions are combined, and the scores of that on val."""

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
        _require_colours(self.class_names, self.palette)
        rows, temperatures = self.combination.weights, self.combination.temperatures
        num_members = len({member.name for member in self.members})
        if not num_members == len(self.members) == len(rows) == len(temperatures):
            raise ValueError("each member needs a name of its own, its weights and a temperature")
        if {len(row) for row in rows} not in ({1}, {len(self.class_names)}):
            raise ValueError("each member needs one weight, or one for each class")
        early = self.combination.early_exit
        if early and not (0 <= early.member < num_members and any(rows[early.member])):
            raise ValueError(f"the early exit names member {early.member}, which has no weight")
        return self


def _require_colours(class_names: list[str], palette: list[tuple[int, int, int]]) -> None:
    if not len(class_names) == len(palette) > 0:
        raise ValueError(f"it has {len(class_names)} class_names and a palette of {len(palette)} colours")


def read_manifest(path: Path, kind: type[Kind]) -> Kind:
    """Raises RunFolderError where it is missing or damaged; `require_unaltered` does the rest."""
    require_regular(path)
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RunFolderError(no_manifest(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(
            f"{path} is damaged at {where or 'its start'}: {first['msg']}. Put the intact file back, or "
            f"leave {path.parent} out."
        ) from None


def require_unaltered(path: Path) -> None:
    """Raises RunFolderError where a manifest, a JSON object, is not the one that was written.

    That is seen by its SHA-256 or, as version 0.1.0 wrote none, by the order of its checkpoints.
    """
    content = parse_json(path.read_bytes())
    if content.get("sha256"):
        if content["sha256"] != _digest(content):
            raise RunFolderError(
                f"{path} was altered: its SHA-256 is not the one that it was written with. Put the intact "
                'file back. To use it as it is, write "sha256": null at its end.'
            )
    elif metric := content.get("metric"):
        scores = [member["scores"][metric] for member in content["members"]]
        if scores != sorted(scores, reverse=True):
            raise RunFolderError(
                f"{path} was altered: its members are not in order, best {metric} first. Put them in order."
            )


def write_manifest(path: Path, manifest: Manifest | EnsembleManifest) -> None:
    """Replace a manifest as a whole; raises DiskError."""
    write_sealed(path, manifest.model_dump(mode="json"))


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file as a whole, with the SHA-256 of its content; raises DiskError."""
    as_read = parse_json(json.dumps(without_nan(content)))
    write_json(path, as_read | {"sha256": _digest(as_read)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote; None where there is no such file, or it was altered."""
    try:
        content = parse_json(path.read_bytes())
        is_intact = content.pop("sha256") == _digest(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return content if is_intact else None


def _digest(content: dict[str, Any]) -> str:
    """The SHA-256 of all but the entry "sha256", whatever the order of the keys and the white space."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(without_nan(rest), sort_keys=True).encode()).hexdigest()


def saved_beside_tensors(path: Path, key: str) -> dict[str, Any] | None:
    """The object that a checkpoint or state holds under `key`; None where there is no such file, or none."""
    found = _beside_tensors(path).get(key)
    return found if isinstance(found, dict) else None


def saved_step(path: Path) -> int:
    """How many updates were done when a state was saved; 0 where there is no file that says it."""
    found = _beside_tensors(path).get("step")
    return found if type(found) is int else 0


def _beside_tensors(path: Path) -> dict[str, Any]:
    """The JSON object that is saved with tensors.

    A safetensors file starts with the length of its header, 8 bytes little-endian, and the header, JSON.
    """
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if length <= path.stat().st_size else b""
        found = parse_json(parse_json(header)["__metadata__"]["trident"])
    except (OSError, ValueError, KeyError, TypeError):  # a damaged file is refused where it is loaded
        return {}
    return found if isinstance(found, dict) else {}
