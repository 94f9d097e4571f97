"""All scores of one trained predictor on one split under one protocol."""

import heapq
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.data import open_split
from engine.data.batches import scoring_batches
from engine.data.sample import Dataset, skipped_ids
from engine.scoring.boundary import boundary_iou
from engine.scoring.calibration import Calibration
from engine.scoring.confusion import Scores
from engine.scoring.counting import Tally
from engine.scoring.evaluation import ImageProgress, OnBatch, OnPixels, evaluate
from engine.scoring.multi_label import MultiLabelTally
from engine.scoring.numerics import full_float32
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.segmenter import Segmenter
from engine.scoring.tiled_evaluation import evaluate_tiles
from engine.scoring.tiles import Tiling
from engine.scoring.trained import Trained, open_trained, require_classes


@dataclass(frozen=True)
class EvaluationResult:
    """All scores are shares of 1, NaN where there was nothing to score.

    image_mIoU: the mean over images of the mean IoU over the classes present in each. image_range: the lowest
    and the highest of them.
    boundary_IoU: by class, of the bands along outlines; boundary_mIoU its mean over the classes present.
    calibration, boundary_IoU: None and empty of classes that may overlap, of which neither is counted.
    log_loss: in nats per labelled pixel.
    card: the protocol, and what was counted.
    worst: (mIoU, id) of the images with the lowest mIoU, the lowest first.
    """

    scores: Scores
    image_mIoU: float
    image_range: tuple[float, float]
    boundary_mIoU: float
    boundary_IoU: dict[str, float]
    calibration: Calibration | None
    log_loss: float
    card: dict[str, object]
    worst: list[tuple[float, str]]

    def to_dict(self) -> dict[str, object]:
        """In the form of evaluate.json."""
        return asdict(self) | {"scores": self.scores.to_dict()}


def open_for_scoring(
    path: Path, overrides: Sequence[str], split: str | None, device: torch.device, step: int | None = None
) -> tuple[Trained, Dataset, str]:
    """What was trained, the images of a split, and its name: the run's val where `split` is None.

    Args:
        step: of a run's kept checkpoint; None takes the best.

    Raises:
        RunFolderError: there is no run or ensemble at `path`, or the split has other classes.
        RecipeError, DataError: an override is wrong, or the data is not there.
    """
    trained = open_trained(path, device, step, overrides)
    split = split or trained.recipe.data.val
    dataset = open_split(trained.recipe.data, split)
    require_classes(dataset, trained.class_names, path)
    return trained, dataset, split


@full_float32()
def evaluate_trained(
    protocol: EvaluationProtocol,
    trained: Trained,
    dataset: Dataset,
    split: str,
    device: torch.device,
    num_worst: int = 0,
    on_batch: OnBatch | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    tiling: Tiling | None = None,
    on_tile: Callable[[str, int, int], None] = lambda id, done, total: None,
    on_pixels: OnPixels | None = None,
) -> EvaluationResult:
    """Score a split once; an ensemble is scored as one predictor.

    Args:
        split: its name, for the card.
        num_worst: how many of the images with the lowest mIoU to list.
        on_batch: as `evaluate` calls it.
        progress: called with (images done, all images).
        tiling: predict each image by tiles, and hold no image in memory; None predicts whole images.
        on_tile: called with an image's id, how many of its tiles are done, and of how many.
        on_pixels: as `evaluate` calls it; not with `tiling`.
    """
    worst, of_images = list[tuple[float, str]](), list[float]()
    images = ImageProgress(len(dataset), progress)

    def count(ids: list[str], counts: dict[str, Any]) -> None:
        nonlocal worst
        iou = counts[protocol.name].image_iou().tolist()
        scored = [pair for pair in zip(iou, ids, strict=True) if not math.isnan(pair[0])]
        worst = heapq.nsmallest(num_worst, worst + scored)
        of_images.extend(value for value, _ in scored)
        if on_batch:
            on_batch(ids, counts)
        images.add(len(ids))

    if tiling:
        tally = evaluate_tiles(
            Segmenter(trained, protocol),
            dataset,
            tiling,
            lambda id, counts: count([id], {protocol.name: counts}),
            on_tile,
        )
    else:
        [tally] = evaluate(
            trained.for_predictions(),
            scoring_batches(dataset, device, workers=trained.recipe.data.workers),
            Predictor(protocol, nullcontext, trained.kind),
            len(dataset.class_names),
            dataset.ignore_index,
            device,
            count,
            {protocol.name: trained.combination},
            counted=[protocol.name],
            detailed=True,
            on_pixels=on_pixels,
        ).values()
    images.end()
    card = protocol.card() | (tiling.card() if tiling else {})
    return _result(tally, card, dataset, split, worst, of_images)


def _result(
    tally: Tally | MultiLabelTally,
    card: dict[str, object],
    dataset: Dataset,
    split: str,
    worst: list[tuple[float, str]],
    of_images: list[float],
) -> EvaluationResult:
    scores = tally.scores(dataset.class_names)
    bands, calibration = np.array([]), None
    if isinstance(tally, Tally):
        bands = boundary_iou(tally.boundary.cpu().numpy())
        calibration = Calibration.of(tally.reliability.cpu().numpy())
    total, num_images = tally.image_iou.tolist()
    skipped = skipped_ids(dataset)
    facts: dict[str, object] = {
        "split": split,
        "num_images": len(dataset) - len(skipped),
        "skipped": skipped,
        "absent": scores.absent,
        "num_pixels": scores.num_pixels,
        "num_void": scores.num_void,
    }
    return EvaluationResult(
        scores=scores,
        image_mIoU=total / num_images if num_images else math.nan,
        image_range=(min(of_images, default=math.nan), max(of_images, default=math.nan)),
        boundary_mIoU=float(np.nanmean(bands)) if not np.isnan(bands).all() else math.nan,
        boundary_IoU=dict(zip(dataset.class_names, bands.tolist(), strict=False)),  # of masks none
        calibration=calibration,
        log_loss=tally.mean_log_loss() if scores.num_pixels else math.nan,
        card=card | facts,
        worst=worst,
    )
