"""The presentation of results: tables side by side, the protocol card, the reliability plot."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from engine.reporting.console import facts_below
from engine.reporting.evaluation import card, classes_table, means_table, reliability_plot
from engine.scoring.calibration import NUM_BINS, Calibration
from engine.scoring.confusion import Scores
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.results import EvaluationResult

NAMES = ("background", "cat [big]", "dog")
TABLE = np.array([[6, 2, 0], [1, 2, 0], [0, 0, 0]])


def result_of(protocol: EvaluationProtocol, right: float = 8.0) -> EvaluationResult:
    counts = np.zeros((3, NUM_BINS))
    counts[:, 14] = 11, 10.5, right
    facts = {"split": "val", "num_images": 3, "absent": ["dog"], "num_pixels": 11, "num_void": 4}
    return EvaluationResult(
        scores=Scores.of(TABLE, NAMES, 4),
        image_mIoU=0.25,
        image_range=(0.25, 0.25),
        boundary_mIoU=0.125,
        boundary_IoU=dict.fromkeys(NAMES, math.nan),
        calibration=Calibration.of(counts),
        log_loss=0.5,
        card=protocol.card() | facts,
        worst=[],
    )


def printed(*what: object) -> str:
    file = io.StringIO()
    Console(file=file, width=150).print(*what)
    return file.getvalue()


def row(text: str, label: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(("│ " + label + " ", label + " "))]
    return [cell.strip() for cell in line.strip("│").split("│")[1:]]


def test_five_scores_of_each_class_under_one_protocol() -> None:
    text = printed(classes_table({"native": result_of(EvaluationProtocol())}))
    assert row(text, "cat [big]") == ["0.4000", "0.5000", "0.6667", "0.5714", "none"]
    assert row(text, "dog") == ["none"] * 5


def test_the_iou_of_several_protocols_is_shown_side_by_side() -> None:
    results = {name: result_of(EvaluationProtocol(name)) for name in ("native", "slide")}
    assert row(printed(classes_table(results)), "cat [big]") == ["0.4000", "0.4000"]
    assert row(printed(means_table(results)), "mIoU by image") == ["0.2500", "0.2500"]


def test_the_lowest_calibration_error_is_marked_best() -> None:
    table = means_table(
        {
            "native": result_of(EvaluationProtocol()),
            "slide": result_of(EvaluationProtocol("slide"), right=10.0),
        }
    )
    texts = list(table.columns[1].cells), list(table.columns[2].cells)
    place = list(table.columns[0].cells).index("ECE (0 is best)")
    assert [cells[place] for cells in texts] == ["0.2273", "[bold]0.0455[/]"]  # 2.5 / 11 and 0.5 / 11


def test_one_card_is_shown_in_full_and_several_by_their_differences() -> None:
    alone = printed(card({"paddle": result_of(EvaluationProtocol("paddle", flip=True))}))
    assert row(alone, "pad") == ["grey to 512 x 512 px"] and row(alone, "flip") == ["yes"]
    assert row(alone, "classes absent") == ["dog"] and row(alone, "void pixels") == ["4"]
    both = printed(card({name: result_of(EvaluationProtocol(name)) for name in ("native", "centercrop")}))
    assert row(both, "whole image") == ["yes", "no"]
    table, shared = both.split("All of them:")
    assert "void pixels 4" in shared and "void" not in table and "protocol" not in shared


def test_the_protocol_is_below_a_table_of_members() -> None:
    text = facts_below(Scores.of(TABLE, NAMES, 4), (), EvaluationProtocol("slide", (0.5, 1.0)).card())
    assert "Protocol slide: " in text and "window 512 px, stride 384 px; scales 0.5, 1.0; flip no" in text


def test_the_plot_has_a_line_per_protocol_and_the_diagonal() -> None:
    results = {
        "native": result_of(EvaluationProtocol()),
        "slide": result_of(EvaluationProtocol("slide"), 10.0),
    }
    curve, shares = reliability_plot(results).axes
    labels = [line.get_label() for line in curve.lines]
    assert labels == ["calibrated", "native, ECE 0.2273", "slide, ECE 0.0455"]
    assert curve.lines[1].get_ydata()[14] == pytest.approx(8 / 11)
    assert shares.patches[0].get_data().values[14] == 1.0
