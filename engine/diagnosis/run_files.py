"""What a run has written about itself, read once for all questions. Knows nothing of the questions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.recipe import Recipe, load_recipe
from engine.run_folder import Manifest, RunFolder, read_log
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
        scores = read_scores(run.scores) if run.scores.is_file() else None
        names = list(scores.confusion) if scores else []
        predictor = ENSEMBLE if ENSEMBLE in names else next(iter(names), "")
        by_split = ([row for row in rows if row.get("split") == split] for split in ("train", "val"))
        return cls(manifest, recipe, *by_split, scores if names else None, predictor)


def series(rows: Sequence[Row], key: str) -> tuple[Array, Array]:
    """Steps and values of a column, by step: rows without a finite number are left out, of a step that was
    logged twice the later row counts.
    """
    found = {row["step"]: row[key] for row in rows if _is_number(row.get(key))}
    steps = sorted(found)
    return np.array(steps, float), np.array([found[step] for step in steps], float)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
