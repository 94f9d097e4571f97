"""Scores the model in training on the split that selects checkpoints, over all processes."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from torch import nn

from engine.data.batches import scoring_batches
from engine.data.sample import Dataset
from engine.reporting.callbacks import Evaluation
from engine.reporting.pictures import Picture, predict_pictures
from engine.reporting.reporter import Reporter
from engine.scoring.confusion import Scores
from engine.scoring.evaluation import evaluate
from engine.scoring.label_kinds import MultiLabel
from engine.scoring.multi_label import Thresholds, thresholds_of
from engine.scoring.precision_recall import PrecisionRecall
from engine.scoring.predictor import Predictor
from engine.training.distributed import Process, sum_in_place, wait_for_all
from engine.training.features import FeatureMaps, spread
from engine.training.fit import diverged
from models.folding import for_predictions


class Validation:
    """Callable: (model, step, reporter) -> Scores of the whole split, the same on every process.

    Raises RunError if the probabilities of the model are NaN or infinite.

    Args:
        dataset: the split.
        predictor: the evaluation protocol.
        num_pictures: samples, spread evenly, whose predictions are reported.
        features: the activation maps to report, or None.
        further: splits of other sets by name, which are scored and reported, but select no checkpoint.
    """

    def __init__(
        self,
        dataset: Dataset,
        predictor: Predictor,
        process: Process,
        workers: int | str,
        num_pictures: int,
        features: FeatureMaps | None = None,
        further: Mapping[str, Dataset] = MappingProxyType({}),
    ):
        self.dataset = dataset
        self.predictor = predictor
        self.process = process
        self.workers = workers
        self.picture_indices = spread(num_pictures, len(dataset))
        self.features = features
        self.further = further

    def __call__(self, model: nn.Module, step: int, reporter: Reporter) -> Scores:
        evaluation = self._scored(self.dataset, model, step, reporter)
        further = {name: self._scored(data, model, step, reporter) for name, data in self.further.items()}
        if reporter.callbacks:
            features = self.features(model) if self.features else {}
            pictures = self.pictures(model, thresholds_of(evaluation.scores))
            reporter.evaluation(
                step, replace(evaluation, pictures=pictures, features=features, further=further)
            )
        return evaluation.scores

    def _scored(self, data: Dataset, model: nn.Module, step: int, reporter: Reporter) -> Evaluation:
        process = self.process
        # Roughly, as batches differ in size.
        num_share = len(range(process.rank, len(data), process.world_size))
        done = 0

        def count(ids: list[str], _: object) -> None:
            nonlocal done
            done += len(ids)
            reporter.scoring(min(done, num_share), num_share)

        batches = scoring_batches(
            data, process.device, process.rank, process.world_size, workers=self.workers
        )
        num_classes = len(data.class_names)
        curves = PrecisionRecall(num_classes, data.ignore_index, process.device)
        [tally] = evaluate(
            {"model": for_predictions(model)},
            batches,
            self.predictor,
            num_classes,
            data.ignore_index,
            process.device,
            count,
            on_pixels=lambda labels, outputs: curves.add(labels, outputs["model"]),
        ).values()
        reporter.scoring(num_share, num_share)
        wait_for_all(process)
        sum_in_place(process, [*tally.tensors(), curves.counts])
        scores, log_loss = tally.scores(data.class_names), tally.mean_log_loss()
        is_further = data is not self.dataset  # of which all images may have been skipped
        if not math.isfinite(log_loss) and not (is_further and not scores.num_pixels):
            raise diverged(step)  # an update with a finite loss can still break the weights
        return Evaluation(scores, log_loss, curves=curves)

    def pictures(self, model: nn.Module, thresholds: Thresholds | None) -> list[Picture]:
        """Some samples with the model's predictions, with the thresholds of its classes if it has any."""
        predictor = self.predictor
        if thresholds:
            predictor = Predictor(predictor.protocol, predictor.autocast, MultiLabel(thresholds))
        return predict_pictures(model, self.dataset, self.picture_indices, predictor, self.process.device)
