"""Results of an evaluation as tables and pictures, with the protocol card."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from engine.data.bands import shown_bands
from engine.data.sample import Dataset
from engine.reporting.console import best_in_bold, in_words, titled_table
from engine.reporting.pictures import Picture, sheet
from engine.reporting.plots import INK, SERIES, draw_precision_recall, styled
from engine.scoring.metrics import METRICS, mean_of_present
from engine.scoring.multi_label import MultiLabelScores
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.results import EvaluationResult
from engine.scoring.trained import Trained

MEANS: dict[str, Callable[[EvaluationResult], float]] = {  # in addition to METRICS
    "mIoU by image": lambda result: result.image_mIoU,
    "boundary IoU": lambda result: result.boundary_mIoU,
}
LABELS = {
    "name": "protocol",
    "whole_image": "whole image",
    "num_images": "images",
    "absent": "classes absent",
    "num_pixels": "labelled pixels",
    "num_void": "void pixels",
}
BY_CLASS: dict[str, Callable[[EvaluationResult], Mapping[str, float]]] = {
    "IoU": lambda result: result.scores.IoU,
    "precision": lambda result: result.scores.precision,
    "recall": lambda result: result.scores.recall,
    "F1": lambda result: result.scores.F1,
    "boundary IoU": lambda result: result.boundary_IoU,
}


OF_MASKS: dict[str, Callable[[Any], Mapping[str, float]]] = {  # of classes that may overlap
    "threshold": lambda result: result.scores.thresholds,
    "IoU": lambda result: result.scores.IoU,
    "Dice": lambda result: result.scores.F1,
    "precision": lambda result: result.scores.precision,
    "recall": lambda result: result.scores.recall,
    "AP": lambda result: result.scores.AP,
}


def chosen_thresholds(trained: Trained) -> str:
    """Which thresholds the classes have and where they were chosen; empty where a pixel has one class."""
    thresholds = getattr(trained.kind, "thresholds", None)
    if not thresholds:
        return ""
    data = trained.recipe.data
    each = (f"{name} {value:g}" for name, value in zip(trained.class_names, thresholds, strict=True))
    split = data.evaluated_on
    which = f"Chosen on {split}, the split that selects checkpoints, for the highest IoU"
    which += "; those of the ensemble are the means of its members'" * (len(trained.members) > 1)
    return f"Thresholds of the probability: {', '.join(each)}. {which}."


def means_of(
    results: Mapping[str, EvaluationResult],
) -> Mapping[str, Callable[[EvaluationResult], float]]:
    """Means besides the metrics; of classes that may overlap others."""
    first = next(iter(results.values()))
    if not isinstance(first.scores, MultiLabelScores):
        return MEANS
    return {"mIoU by image": MEANS["mIoU by image"]} | {
        f"mean {name}": partial(_mean_over_classes, of)
        for name, of in OF_MASKS.items()
        if name in ("Dice", "precision", "AP")
    }


def _mean_over_classes(
    of: Callable[[EvaluationResult], Mapping[str, float]], result: EvaluationResult
) -> float:
    return mean_of_present(np.array([*of(result).values()]))


def means_table(results: Mapping[str, EvaluationResult]) -> Table:
    """The metrics and other means, protocols side by side; the best of a row is bold."""
    table = titled_table("scores by protocol", ["", *results])
    for metric in METRICS:
        table.add_row(metric, *best_in_bold([result.scores.metrics[metric] for result in results.values()]))
    for name, of in means_of(results).items():
        table.add_row(name, *best_in_bold([of(result) for result in results.values()]))
    errors = [result.calibration.ece for result in results.values() if result.calibration]
    if errors:
        least = best_in_bold([-error for error in errors])
        table.add_row("ECE (0 is best)", *(text.replace("-", "", 1) for text in least))
    table.add_section()
    baselines = [result.scores.baselines.rows() for result in results.values()]
    for what in dict.fromkeys(what for rows in baselines for what in rows):
        cells = (f"{rows[what]:.4f}" if what in rows else "" for rows in baselines)
        table.add_row(escape(f"mIoU, {what}"), *cells)
    return table


def classes_table(results: Mapping[str, EvaluationResult]) -> Table:
    """The scores of each class under one protocol; the IoU alone where there are several, side by side."""
    alone = next(iter(results.values())) if len(results) == 1 else None
    if alone:
        of_masks = isinstance(alone.scores, MultiLabelScores)
        columns = {name: of(alone) for name, of in (OF_MASKS if of_masks else BY_CLASS).items()}
    else:
        columns = {name: result.scores.IoU for name, result in results.items()}
    table = titled_table("by class" if alone else "IoU by class", ["class", *columns])
    for class_name in next(iter(columns.values())):
        values = [column[class_name] for column in columns.values()]
        texts = ["none" if value != value else f"{value:.4f}" for value in values] if alone else None
        table.add_row(escape(class_name), *(texts or best_in_bold(values)))
    return table


def card(results: Mapping[str, EvaluationResult]) -> Group:
    """How the scores were computed: what differs between protocols as a table, what they share below it."""
    cards = [result.card for result in results.values()]
    rows = {LABELS.get(key, key): [in_words(one[key]) for one in cards] for key in cards[0]}
    alike = {label for label, texts in rows.items() if len(cards) > 1 and len(set(texts)) == 1}
    table = Table(title="how these were counted", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    for _ in cards:
        table.add_column()
    for label, texts in rows.items():
        if label not in alike:
            table.add_row(label, *map(escape, texts))
    shared = "; ".join(f"{label} {rows[label][0]}" for label in rows if label in alike)
    return Group(table, f"All of them: {escape(shared)}.") if shared else Group(table)


def worst_sheet(
    worst: Sequence[tuple[float, str]],
    trained: Trained,
    protocol: EvaluationProtocol,
    dataset: Dataset,
    device: torch.device,
) -> Image.Image:
    """The images with the lowest mIoU, the lowest first: image, label, prediction, errors.

    Args:
        worst: (mIoU, id) of each.
    """
    predictor = Predictor(protocol, nullcontext, trained.kind)
    pictures = []
    for score, id in worst:
        sample = dataset[dataset.ids.index(id)]
        image = sample.image[None].to(device)
        together = predictor.together(trained.members, trained.combination, image)
        prediction = trained.kind.decide(together)[0][0].cpu()  # (H, W) or (C, H, W)
        seen = predictor.scored(shown_bands(sample.image, dataset.bands)).cpu()
        labels = predictor.scored(sample.labels).cpu()
        pictures.append(Picture(f"{id}   mIoU {score:.3f}", seen, labels, prediction))
    return sheet(pictures, dataset.palette, dataset.class_names, dataset.ignore_index)


def reliability_plot(results: Mapping[str, EvaluationResult]) -> Figure:
    """Accuracy over confidence, one line per protocol; below, the share of pixels by confidence.

    Where a line is below the diagonal, the model is overconfident.
    """
    with styled((4.4, 4.8)) as figure:
        curve, shares = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        curve.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":", label="calibrated")
        for number, (name, result) in enumerate(results.items()):
            found, colour = result.calibration, SERIES[number % len(SERIES)]
            assert found is not None, "counted where a pixel has one class"
            label = f"{name}, ECE {found.ece:.4f}"
            curve.plot(found.confidence, found.accuracy, color=colour, marker=".", linewidth=1.4, label=label)
            edges = [place / len(found.share) for place in range(len(found.share) + 1)]
            shares.stairs(found.share, edges, color=colour, linewidth=1.4)
        curve.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        curve.legend(loc="upper left")
        shares.set(xlabel="confidence", ylabel="share of pixels")
        shares.set_ylim(bottom=0)
    return figure


def recall_plot(result: EvaluationResult) -> Figure:
    """Precision over recall of each class that may overlap others."""
    with styled((4.4, 4.0)) as figure:
        draw_precision_recall(figure, result.scores.of_masks())
    return figure
