"""What a run has written about itself, read once for all questions. Knows nothing of the questions."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.recipe import Recipe, load_recipe
from engine.run_folder import Manifest, RunFolder, RunFolderError
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.scores_file import ImageScores, read_scores

Row = dict[str, Any]  # one line of log.jsonl
Array = NDArray[np.float64]


@dataclass(frozen=True)
class RunFiles:
    """All but the manifest may be missing.

    train, val: the rows of the log by split. scores: None where val was not scored image by image.

    predictor: whose counts are read, by its name in `scores`: the ensemble, else the first member.
    """

    manifest: Manifest
    recipe: Recipe | None
    train: list[Row]
    val: list[Row]
    scores: ImageScores | None
    predictor: str

    @classmethod
    def read(cls, run: RunFolder) -> "RunFiles":
        """Raises RunFolderError or RecipeError where the manifest, the recipe or the scores are damaged."""
        manifest = run.read_manifest()
        recipe = load_recipe(run.recipe) if run.recipe.is_file() else None
        rows = read_log(run.log)
        try:
            scores = read_scores(run.scores) if run.scores.is_file() else None
        except (OSError, KeyError) as error:
            raise RunFolderError(
                f"{run.scores} is damaged ({error}). Remove it: the rest can be read without it."
            ) from error
        names = list(scores.confusion) if scores else []
        predictor = ENSEMBLE if ENSEMBLE in names else next(iter(names), "")
        by_split = ([row for row in rows if row.get("split") == split] for split in ("train", "val"))
        return cls(manifest, recipe, *by_split, scores if names else None, predictor)


def read_log(path: Path) -> list[Row]:
    """The rows of log.jsonl; lines that a crash has cut off are left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def series(rows: Sequence[Row], key: str) -> tuple[Array, Array]:
    """Steps and values of a column, by step: rows without a finite number are left out, of a step that was
    logged twice the later row counts.
    """
    found = {row["step"]: row[key] for row in rows if _is_number(row.get(key))}
    steps = sorted(found)
    return np.array(steps, float), np.array([found[step] for step in steps], float)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
