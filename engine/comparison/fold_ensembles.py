"""The best checkpoints of all folds as one saved ensemble, scored on the split that no fold sees."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from engine.comparison.folds import open_held_out
from engine.comparison.grid import Cell, CompareError
from engine.comparison.groups import groups_of
from engine.comparison.table import FoldEnsemble
from engine.data import open_split
from engine.data.overlap import shared_images
from engine.data.sample import Dataset
from engine.recipe import Recipe, load_recipe
from engine.run_folder import DataIdentity, EnsembleFolder
from engine.scoring.combining import Combination
from engine.scoring.confusion import Scores
from engine.scoring.ensembles.saved import save_ensemble
from engine.scoring.ensembles.selection import Ensemble
from engine.scoring.ensembling import Candidate, group_candidates, score_together
from engine.scoring.evaluation import ENSEMBLE
from engine.scoring.metrics import mean_iou_of_overlaps
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.scores_file import read_scores
from engine.scoring.statistics import draws, mean_iou_interval

WHOLE = "data.fold=null"  # of the members' recipes: trained on the whole split, scored on the recipe's val


def folder_of(cell: Cell) -> Path:
    """Where the ensemble of a cell's method and seed is saved."""
    return cell.out / f"{cell.method}-s{cell.recipe.seed}-ensemble"


def require_own(cells: Sequence[Cell]) -> None:
    """Raises CompareError where something else than an ensemble is in the place of one."""
    for path in {folder_of(cell) for cell in cells}:
        if path.exists() and not EnsembleFolder(path).manifest.is_file():
            raise CompareError(
                f"{path} is there already, and is no ensemble. Move it, or type another --out."
            )


def ensemble_of(cells: Sequence[Cell], progress: Callable[[int, int], None]) -> FoldEnsemble:
    """Save the ensemble of the finished runs of all folds, and score it; one that is there is not made again.

    Args:
        cells: of one method and one seed.
    """
    candidates = [group_candidates([cell.run])[0].candidates[0] for cell in cells]
    recipe = load_recipe(candidates[0].run.recipe, [WHOLE], imports=False)
    path = folder_of(cells[0])
    counts = cells[0].recipe_file.with_name(f"{path.name}.h5")
    held = open_held_out(recipe)
    if not _is_saved(path, candidates, counts, is_scored=not isinstance(held, str)):
        scores = None if isinstance(held, str) else _score(candidates, held, recipe, counts, progress)
        _save(path, candidates, recipe, held, scores)
    found = FoldEnsemble(cells[0].method, str(path), len(cells), recipe.data.val)
    if isinstance(held, str):
        return found
    return _with_scores(found, counts, cells[0].recipe)  # read from the files, also later


def _is_saved(path: Path, candidates: Sequence[Candidate], counts: Path, is_scored: bool) -> bool:
    """Whether the ensemble of these checkpoints is there, and the counts of its images, where it has any."""
    folder = EnsembleFolder(path)
    if not folder.manifest.is_file() or (is_scored and not counts.is_file()):
        return False
    saved = [member.sha256 for member in folder.read_manifest().members]
    return saved == [candidate.member.sha256 for candidate in candidates]


def _score(
    candidates: Sequence[Candidate],
    held: Dataset,
    recipe: Recipe,
    counts: Path,
    progress: Callable[[int, int], None],
) -> Scores:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    protocol, workers = EvaluationProtocol.of(recipe.eval), recipe.data.workers
    return score_together(candidates, held, protocol, device, workers, counts, progress)[ENSEMBLE]


def _save(
    path: Path, candidates: Sequence[Candidate], recipe: Recipe, held: Dataset | str, scores: Scores | None
) -> None:
    """Write the folder of the ensemble, in the place of one of other checkpoints."""
    data = recipe.data
    train = open_split(data, data.train)
    identity = DataIdentity(
        format=data.format,
        train=data.train,
        val=data.val,
        train_fingerprint=train.fingerprint(),
        val_fingerprint="" if isinstance(held, str) else held.fingerprint(),
        num_val_trained_on=None if isinstance(held, str) else len(shared_images(held, train)),
    )
    shutil.rmtree(path, ignore_errors=True)
    mean = Ensemble(Combination.mean(len(candidates)))
    save_ensemble(path, "mean", mean, scores.metrics if scores else {}, candidates, [WHOLE], data=identity)


def _with_scores(found: FoldEnsemble, counts: Path, recipe: Recipe) -> FoldEnsemble:
    scores = read_scores(counts)
    groups = groups_of(recipe, scores.ids)
    interval = mean_iou_interval(groups.summed(scores.overlaps[ENSEMBLE]), draws(groups.number))
    means = {name: mean_iou_of_overlaps(counted.sum(axis=0)) for name, counted in scores.overlaps.items()}
    mIoU = means.pop(ENSEMBLE)
    return replace(
        found,
        num_images=len(scores.ids),
        num_trained_on=EnsembleFolder(Path(found.path)).read_manifest().data.num_val_trained_on or 0,
        mIoU=mIoU,
        low=interval.low,
        high=interval.high,
        of_members=sum(means.values()) / len(means),
    )
