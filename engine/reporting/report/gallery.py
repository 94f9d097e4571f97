"""The worst and the best images of a run, predicted again by its best member."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from engine.reporting.pictures import Picture, predict_pictures
from engine.reporting.report.analysis import extremes
from engine.reporting.report.content import RunContent
from engine.run_folder import RunFolderError
from engine.scoring.ensembling import group_candidates, load_member, open_val
from engine.scoring.label_kinds import label_kind
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol


@dataclass(frozen=True)
class Gallery:
    """Pictures with their confidence, worst and best first; or why there are none."""

    worst: Sequence[Picture] = ()
    best: Sequence[Picture] = ()
    ignore_index: int = 255
    why_empty: str = ""


def open_gallery(
    content: RunContent,
    num_each: int,
    device: torch.device,
    overrides: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Gallery:
    """Load the best member and the images of a finished run, and predict.

    Args:
        num_each: of the worst and of the best; fewer where the split is small.
        overrides: of the run's recipe, such as data.root=<where the images are now>.

    Raises:
        RunFolderError, DataError, RecipeError: the run was not scored, or its files or images are not there.
    """
    best, analysis = content.best, content.analysis
    if best is None or analysis is None:
        raise RunFolderError("its images have not been scored yet; a run scores them when it ends.")
    candidates = group_candidates([content.run.folder])[0].candidates
    member = next((c for c in candidates if f"step {c.member.step}" == best.key), None)
    if member is None:
        raise RunFolderError(
            f"ensemble.json is about {best.name}, which is no longer kept. Score those that are: "
            f"trident ensemble {shlex.quote(str(content.run.path))}"
        )
    recipe, val = open_val(member, overrides)
    model = load_member(member, device)
    kind = label_kind(recipe.data, member.member.thresholds)
    predictor = Predictor(EvaluationProtocol.of(recipe.eval), nullcontext, kind)
    places = {id: place for place, id in enumerate(val.ids)}
    chosen = extremes(analysis.image_mIoU, num_each)
    done = 0
    pictures: tuple[list[Picture], list[Picture]] = ([], [])
    for of_kind, rows in zip(pictures, chosen, strict=True):
        for row in rows:
            of_kind += predict_pictures(model, val, [places[analysis.ids[row]]], predictor, device)
            done += 1
            progress(done, sum(map(len, chosen)))
    return Gallery(*pictures, ignore_index=val.ignore_index)
