import json
import math
from typing import get_args

import numpy as np
import pytest

from engine.recipe.sections import Keep
from engine.reporting.console import scores_table
from engine.scoring.confusion import Scores
from engine.scoring.ensembling import scores_to_json
from engine.scoring.metrics import METRICS, Confusion, intersection_over_union, mean_iou_of_overlaps, overlaps

TABLE = np.array([[6, 2, 0], [1, 2, 0], [0, 0, 0]])


def frequency_weighted_iou(confusion: Confusion) -> float:
    labelled = confusion.sum(axis=1)
    return float(np.nansum(labelled * intersection_over_union(confusion)) / labelled.sum())


def test_keep_metric_takes_every_listed_metric() -> None:
    assert get_args(Keep.model_fields["metric"].annotation) == tuple(METRICS)


def test_a_metric_that_is_listed_is_scored_shown_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, files and the log read the listing: nothing else has to be edited."""
    monkeypatch.setitem(METRICS, "fwIoU", frequency_weighted_iou)
    scores = Scores.of(TABLE, ("background", "cat", "dog"))
    expected = (8 * 6 / 9 + 3 * 2 / 5) / 11
    assert scores.metrics["fwIoU"] == pytest.approx(expected)
    table = scores_table({"model": scores}, ("background", "cat", "dog"))
    names, values = (list(column.cells) for column in table.columns)
    assert values[names.index("fwIoU")] == f"{expected:.4f}"
    assert json.loads(json.dumps(scores_to_json(scores)))["fwIoU"] == pytest.approx(expected)
    assert scores.to_dict()["fwIoU"] == pytest.approx(expected)


def test_miou_of_overlaps_is_that_of_the_confusion() -> None:
    assert (
        mean_iou_of_overlaps(overlaps(TABLE)) == METRICS["mIoU"](TABLE) == pytest.approx((6 / 9 + 2 / 5) / 2)
    )
    assert math.isnan(mean_iou_of_overlaps(np.zeros((2, 3), np.int64)))
