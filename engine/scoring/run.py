"""One training run, read from its folder: the log, the manifest, the recipe and the scores.

Each file is read when it is first asked for, and only once.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.recipe import Recipe, load_recipe
from engine.run_folder import LogRow, Manifest, RunFolder, RunFolderError, last_stage, read_json, read_log
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.metrics import METRICS
from engine.scoring.scores_file import ImageScores, read_scores
from engine.scoring.segmenter import Segmenter, open_segmenter
from engine.scoring.trained import find_checkpoint
from engine.wording import did_you_mean

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Checkpoint:
    """A kept checkpoint: its file, the update after which it was saved, and its scores on val, 0..1."""

    path: Path
    step: int
    scores: dict[str, float]

    @property
    def name(self) -> str:
        """Its name in scores.h5."""
        return f"step {self.step}"


@dataclass(frozen=True)
class Cost:
    """The cost of the training; None where the log lacks a value.

    update_s: median seconds of an update. images_per_s: in training. memory_mb: the peak, of the GPU's
    allocator or else of the process. training_s: of all updates, evaluations not included. energy_j: of the
    first process's GPU, evaluations included.
    """

    update_s: float | None = None
    images_per_s: float | None = None
    memory_mb: float | None = None
    training_s: float | None = None
    energy_j: float | None = None

    @classmethod
    def of(cls, rows: Sequence[LogRow], batch: int | None) -> "Cost":
        """From the rows of a log; `batch` is the number of images of an update."""
        train = [row for row in rows if row["split"] == "train" and row.get("time") is not None]
        if not train:
            return cls()
        update_s = float(median(row["time"] for row in train))
        starts = [0, *(row["step"] for row in train)]
        memory = [row["memory"] for row in train if row.get("memory") is not None]
        energy = [row["energy"] for row in train if row.get("energy") is not None]
        return cls(
            update_s=update_s,
            images_per_s=batch / update_s if batch and update_s else None,
            memory_mb=max(memory, default=None),
            training_s=sum(
                row["time"] * (row["step"] - start) for row, start in zip(train, starts, strict=False)
            ),
            energy_j=sum(energy) if energy else None,
        )


class Run:
    """A training run, finished or not.

        run = Run("checkpoints/b2_adv")
        run.best.scores["mIoU"]                                # of the best checkpoint
        steps, values = run.curve("mIoU")                      # at each evaluation
        labels, probabilities = run.load().predict("photo.jpg")

    Raises:
        RunFolderError: on the first use of a file that is damaged, or of the manifest where there is none.
        RecipeError: on the first use of a recipe that this version cannot read.
    """

    def __init__(self, path: str | Path | RunFolder):
        self.folder = path if isinstance(path, RunFolder) else RunFolder(last_stage(Path(path)))

    def __repr__(self) -> str:
        text = f"Run({str(self.path)!r})"
        if not self.folder.manifest.is_file():
            return f"{text}: no manifest.json yet"
        manifest = self.manifest
        state = "finished" if manifest.finished else "not finished"
        if not manifest.members:
            return f"{text}: {state}, no checkpoint kept yet"
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.best.scores.items())
        return f"{text}: {state}, best checkpoint at step {self.best.step:,} ({scores})"

    def __fspath__(self) -> str:
        """So that it can be given where the path of a run is expected: `trident.evaluate(run)`."""
        return str(self.path)

    @property
    def path(self) -> Path:
        return self.folder.path

    @cached_property
    def manifest(self) -> Manifest:
        return self.folder.read_manifest()

    @cached_property
    def recipe(self) -> Recipe | None:
        """Every value of the recipe that was trained; None where the file is missing."""
        return load_recipe(self.folder.recipe, imports=False) if self.folder.recipe.is_file() else None

    @cached_property
    def rows(self) -> list[LogRow]:
        """log.jsonl, in order: step, split (train, val or note), metrics."""
        if self.folder.manifest.is_file():
            self.folder.require_log(self.manifest)
        return read_log(self.folder.log)

    @property
    def train_rows(self) -> list[LogRow]:
        return [row for row in self.rows if row["split"] == "train"]

    @property
    def val_rows(self) -> list[LogRow]:
        return [row for row in self.rows if row["split"] == "val"]

    @property
    def evaluated_on(self) -> str:
        """The split whose scores `val_rows` holds, by which checkpoints were chosen."""
        return self.recipe.data.evaluated_on if self.recipe else self.manifest.data.val

    @property
    def last_step(self) -> int:
        """The last update in the log; 0 where the log is empty."""
        return max((row["step"] for row in self.rows), default=0)

    def curve(self, key: str, split: str = "val") -> tuple[Array, Array]:
        """(n,) steps and (n,) values of one metric of the log; see `series`.

        Args:
            key: such as "mIoU", or of train "loss".
            split: val, train, or that of a further set, such as "photos/val".

        Raises:
            RunFolderError: the log has no such split or metric. Before the first evaluation val is empty.
        """
        rows = [row for row in self.rows if row["split"] == split]
        if not rows and split not in ("train", "val"):
            splits = dict.fromkeys(["val", "train", *(row["split"] for row in self.rows)])
            raise RunFolderError(f"{self.folder.log} has no split {split!r}: {_choices(split, splits)}")
        metrics = dict.fromkeys(key for row in rows for key, value in row.items() if _is_a_metric(key, value))
        if rows and key not in metrics:
            raise RunFolderError(f"{self.folder.log} has no {key!r} of {split}: {_choices(key, metrics)}")
        return series(rows, key)

    @cached_property
    def scores(self) -> ImageScores | None:
        """scores.h5: counts of each val image; None where val was not scored image by image."""
        path = self.folder.scores
        is_verified = self._require_final(path)
        scores = read_scores(path, is_verified) if path.is_file() else None
        if scores and self.folder.manifest.is_file() and scores.class_names != self.manifest.class_names:
            raise RunFolderError(
                f"{path} has scores of other classes than {self.folder.manifest}. Put the intact files back."
            )
        return scores if scores and scores.overlaps else None

    @property
    def predictor(self) -> str:
        """The predictor that represents the run: the ensemble, else the first member, else ""."""
        names = list(self.scores.overlaps) if self.scores else []
        return ENSEMBLE if ENSEMBLE in names else next(iter(names), "")

    @cached_property
    def ensemble(self) -> dict[str, Any] | None:
        """ensemble.json: the kept checkpoints and their ensembles on val; None where they were not scored."""
        self._require_final(self.folder.ensemble)
        return read_ensemble(self.folder.ensemble)

    @cached_property
    def doctor(self) -> dict[str, Any] | None:
        """doctor.json: what is wrong with the data; None where it was not examined."""
        self._require_final(self.folder.doctor)
        doctor: dict[str, Any] | None = read_json(self.folder.doctor)
        return doctor

    @cached_property
    def cost(self) -> Cost:
        return Cost.of(self.rows, int(self.recipe.train.batch) if self.recipe else None)

    @cached_property
    def best(self) -> Checkpoint:
        """The best checkpoint by the recipe's metric, as evaluations during the training scored it.

        Raises:
            RunFolderError: none was kept yet.
        """
        _, _, member = find_checkpoint(self.path)
        return Checkpoint(self.path / member.file, member.step, member.scores)

    def _require_final(self, path: Path) -> bool:
        """Whether its SHA-256 was verified, which a run of version 0.1.0 has not."""
        if not self.folder.manifest.is_file():
            return False
        self.folder.require_final(path, self.manifest)
        return path.name in self.manifest.files

    def load(self, device: str | None = None, overrides: Sequence[str] = ()) -> Segmenter:
        """The best checkpoint, ready to predict; `engine.load` says more."""
        return open_segmenter(self.path, device, overrides)


def read_ensemble(path: Path) -> dict[str, Any] | None:
    """The content of an ensemble.json, None where there is none.

    Raises:
        RunFolderError: it is damaged, or holds a score that is not a share of 1.
    """
    content: dict[str, Any] | None = read_json(path, keys=("members", "ensembles", "protocol", "dataset"))
    if content is None:
        return None
    try:
        named: list[tuple[str, Any]] = []
        for numbers in (*content["members"], *content["ensembles"].values()):
            named += [(metric, numbers.get(metric)) for metric in METRICS]
            named += numbers.get("IoU", {}).items()
        for name, shares in content.get("agreement", {}).items():
            named += [(f"the agreement on {name}", shares[key]) for key in ("agree", "right")]
        for what, value in named:
            if not (value is None or 0 <= value <= 1):
                raise ValueError(f"{what} is {value}, not a share of 1")
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        raise RunFolderError(f"{path} is damaged ({error}). Move it away and create it again.") from None
    return content


def series(rows: Sequence[LogRow], key: str) -> tuple[Array, Array]:
    """(n,) steps and (n,) values of one metric, by increasing step.

    Rows where it is missing or not finite are left out; where a step was logged twice, the later row counts.
    """
    found = {row["step"]: row[key] for row in rows if _is_finite(row.get(key))}
    steps = sorted(found)
    return np.array(steps, float), np.array([found[step] for step in steps], float)


def _is_a_metric(key: str, value: object) -> bool:
    return key != "step" and (value is None or isinstance(value, int | float))


def _choices(wrong: str, known: Iterable[str]) -> str:
    """Those of gradients, of which there are many, are not listed."""
    names = [name for name in known if not name.startswith("gradients/")]
    return f"there are {', '.join(names) or 'none'}.{did_you_mean(wrong, names)}"


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
