"""Checkpoints of finished runs as candidates for an ensemble: grouped, ranked, loaded and scored together."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

import engine.data
from engine.data.batches import scoring_batches
from engine.data.sample import Dataset, skipped_ids
from engine.recipe import Recipe, load_recipe
from engine.run_folder import Manifest, Member, RunFolder, RunFolderError
from engine.scoring.agreement import Agreement
from engine.scoring.combining import Combination
from engine.scoring.confusion import Scores
from engine.scoring.counting import Counts
from engine.scoring.evaluation import ENSEMBLE, ImageProgress, OnMaps, evaluate
from engine.scoring.label_kinds import LabelKind, label_kind
from engine.scoring.multi_label import mean_thresholds
from engine.scoring.numerics import full_float32
from engine.scoring.options import MEAN_OF
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.scores_file import Recorder, recorder
from engine.scoring.trained import load_model, require_classes
from engine.wording import quantity
from models.folding import for_predictions


@dataclass(frozen=True)
class Candidate:
    """One kept checkpoint of one run."""

    run: RunFolder
    manifest: Manifest
    member: Member

    @property
    def path(self) -> Path:
        return self.run.path / self.member.file

    @property
    def label(self) -> str:
        """Distinct within a run."""
        return f"step {self.member.step}"

    @property
    def name(self) -> str:
        return f"{self.manifest.name} {self.label}"

    @property
    def long_name(self) -> str:
        """Distinct for runs of the same name in different folders."""
        return f"{self.run.path} {self.label}"


@dataclass(frozen=True)
class Group:
    """Candidates that were scored on the same images with the same classes, best first."""

    candidates: list[Candidate]

    @property
    def title(self) -> str:
        manifest = self.candidates[0].manifest
        data = manifest.data
        classes = quantity(len(manifest.class_names), "class", "classes")
        return f"{data.format} {data.val} ({data.val_fingerprint[:8]}), {classes}"

    @property
    def runs(self) -> list[RunFolder]:
        """Each run of the group once."""
        return list({candidate.run.path: candidate.run for candidate in self.candidates}.values())


def group_candidates(runs: Sequence[RunFolder]) -> list[Group]:
    """Candidates by data set and class list, each group best first.

    They are ranked by the metric by which their runs kept them, or by mIoU where runs differ in that; the
    earlier step wins a tie. Of a single run that is the order of its manifest.
    """
    groups: dict[tuple[object, ...], list[Candidate]] = {}
    for run in runs:
        manifest = run.read_manifest()
        data = manifest.data
        key = (data.val, data.val_fingerprint, tuple(manifest.class_names))  # the same for packed data
        groups.setdefault(key, []).extend(Candidate(run, manifest, member) for member in manifest.members)
    return [Group(_ranked(candidates)) for candidates in groups.values() if candidates]


def _ranked(candidates: list[Candidate]) -> list[Candidate]:
    metrics = {candidate.manifest.metric for candidate in candidates}
    if len(metrics) > 1:
        metrics = {metric.partition(MEAN_OF)[0] for metric in metrics}
    metric = metrics.pop() if len(metrics) == 1 else "mIoU"
    return sorted(candidates, key=lambda c: (-c.member.scores[metric], c.member.step))


def latest_states(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The states of keep.tail of the runs of some candidates, the oldest of each run first, without these."""
    manifests = {candidate.run.path: candidate for candidate in candidates}
    taken = {(candidate.run.path, candidate.member.step) for candidate in candidates}
    return [
        Candidate(one.run, one.manifest, state)
        for one in manifests.values()
        for state in one.manifest.tail
        if (one.run.path, state.step) not in taken
    ]


def tails_of(candidates: Sequence[Candidate]) -> list[tuple[int, ...]]:
    """Of each run that kept its latest states, their numbers among the candidates, the oldest first."""
    numbers = {(one.run.path, one.member.step): number for number, one in enumerate(candidates)}
    manifests = {candidate.run.path: candidate.manifest for candidate in candidates}
    return [
        tuple(numbers[path, state.step] for state in manifest.tail)
        for path, manifest in manifests.items()
        if manifest.tail
    ]


def distinct_names(candidates: Sequence[Candidate]) -> list[str]:
    """The shortest distinct name of each candidate, for tables and scores.

    The label where all are of one run; else the name or, where two share one, the long name.
    """
    if len({candidate.run.path for candidate in candidates}) == 1:
        return [candidate.label for candidate in candidates]
    uses = Counter(candidate.name for candidate in candidates)
    return [c.name if uses[c.name] == 1 else c.long_name for c in candidates]


def load_member(candidate: Candidate, device: torch.device) -> nn.Module:
    """The model of a kept checkpoint, in eval mode.

    Raises:
        RunFolderError: the file is missing, altered, or of other classes than its recipe says.
    """
    recipe = load_recipe(candidate.run.recipe, imports=False)
    return load_model(candidate.path, candidate.member.sha256, recipe, candidate.manifest.class_names, device)


def open_val(candidate: Candidate, overrides: Sequence[str]) -> tuple[Recipe, Dataset]:
    """The recipe of a candidate's run with `overrides`, and the images that it was scored on.

    Raises:
        RunFolderError: the images or the classes are not those of the manifest.
    """
    recipe = load_recipe(candidate.run.recipe, overrides, imports=False)
    dataset = engine.data.open_split(recipe.data, recipe.data.val)
    require_classes(dataset, candidate.manifest.class_names, candidate.path)
    if dataset.fingerprint() != candidate.manifest.data.val_fingerprint:
        raise RunFolderError(
            f"The images of split {recipe.data.val!r} are not those that {candidate.run.path} was scored on. "
            "Point data.root=<folder> at the same data."
        )
    return recipe, dataset


@full_float32()
def score_together(
    candidates: Sequence[Candidate],
    dataset: Dataset,
    protocol: EvaluationProtocol,
    device: torch.device,
    workers: int | str = "auto",
    scores_path: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_maps: OnMaps | None = None,
) -> dict[str, Scores]:
    """Scores by `distinct_names` and, for several candidates, those of their mean probability as "mean".

    Args:
        scores_path: where the counts of each image are written (scores.h5); None: nowhere.
        progress: called with (images done, all images).
        on_maps: as `evaluate` calls it.
    """
    members = zip(distinct_names(candidates), candidates, strict=True)
    models = {name: for_predictions(load_member(candidate, device)) for name, candidate in members}
    combinations = {ENSEMBLE: Combination.mean(len(models))} if len(models) > 1 else {}
    kind = kind_of(candidates)
    images = ImageProgress(len(dataset), progress)
    names, skipped = [*models, *combinations], partial(skipped_ids, dataset)
    file: AbstractContextManager[Recorder | None] = nullcontext()
    if scores_path:
        file = recorder(scores_path, dataset.ids, dataset.class_names, names, skipped, kind.is_multi)
    with file as record:

        def on_batch(ids: list[str], counts: dict[str, Counts]) -> None:
            if record:
                record(ids, counts)
            images.add(len(ids))

        tallies = evaluate(
            models,
            scoring_batches(dataset, device, workers=workers),
            Predictor(protocol, nullcontext, kind),
            len(dataset.class_names),
            dataset.ignore_index,
            device,
            on_batch,
            combinations,
            detailed=record is not None,
            on_maps=on_maps,
        )
    images.end()
    return {name: tally.scores(dataset.class_names) for name, tally in tallies.items()}


def agreement_of(candidates: Sequence[Candidate], dataset: Dataset) -> Agreement | None:
    """What counts where the candidates agree; None for one alone, and for classes that may overlap."""
    if len(candidates) < 2 or kind_of(candidates).is_multi:
        return None
    return Agreement(distinct_names(candidates), len(dataset.class_names), dataset.ignore_index)


def kind_of(candidates: Sequence[Candidate]) -> LabelKind:
    """The kind of labels of candidates, with the thresholds of each by name, and those of their mean."""
    data = load_recipe(candidates[0].run.recipe, imports=False).data
    thresholds = [candidate.member.thresholds for candidate in candidates]
    by_name = dict(zip(distinct_names(candidates), thresholds, strict=True))
    return label_kind(data, mean_thresholds(thresholds), by_name)


def ensemble_report(
    candidates: Sequence[Candidate],
    scores: dict[str, Scores],
    protocol: EvaluationProtocol,
    dataset: Dataset,
    relative_to: Path,
    further: Mapping[str, Mapping[str, Scores]] = MappingProxyType({}),
    agreement: Agreement | None = None,
) -> dict[str, object]:
    """The content of ensemble.json. A single candidate is its own ensemble.

    Args:
        further: scores on the splits of other sets, by their names.
        agreement: of the candidates, after a pass over the images.
    """
    names = distinct_names(candidates)
    sets = {
        split: {name: scores_to_json(of_one) for name, of_one in of_split.items()}
        for split, of_split in further.items()
    }
    together = scores.get(ENSEMBLE, scores[names[0]])
    manifest = candidates[0].manifest
    return {
        "members": [
            {"path": os.path.relpath(c.path, relative_to), "run": c.manifest.name, "step": c.member.step}
            | scores_to_json(scores[name])
            for name, c in zip(names, candidates, strict=True)
        ],
        "ensembles": {ENSEMBLE: scores_to_json(together)},
        "protocol": protocol.card(),
        "dataset": {
            "name": manifest.data.format,
            "split": manifest.data.val,
            "num_images": len(dataset) - len(skipped_ids(dataset)),
            "skipped": skipped_ids(dataset),
            "num_pixels": together.num_pixels,
            "num_void": together.num_void,
            "baseline": together.baselines.first,
            "absent": together.absent,
            "fingerprint": manifest.data.val_fingerprint,
            "class_names": manifest.class_names,
        },
        **({"further": sets} if sets else {}),
        **({"agreement": agreement.shares(dataset.class_names)} if agreement else {}),
    }


def scores_to_json(scores: Scores) -> dict[str, object]:
    """The scores as ensemble.json has them; the IoU of an absent class is None, as is what is not defined."""
    iou = {name: None if name in scores.absent else value for name, value in scores.IoU.items()}
    return {**scores.metrics, "IoU": iou} | scores.of_masks()
