"""Plots, by their SVG: it is well-formed, names what it shows, and takes its colours from the page."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from engine.reporting.plots import CSS_VARIABLES, MOST_POINTS, reliability_diagram, training_curves

SVG = "{http://www.w3.org/2000/svg}"


def train(step: int, **values: float) -> dict:
    return {"step": step, "split": "train", "loss": 2.0 / step, "lr": 1e-3, "base_lr": 1e-4, **values}


def val(step: int, score: float | None) -> dict:
    return {"step": step, "split": "val", "mIoU": score, "loss": 0.5, "IoU": {"cat": score}}


ROWS = [train(10), train(20), val(20, 0.25), train(30), val(30, 0.5), train(40), val(40, 0.4)]
COUNTS = np.array([[0.0, 40, 60], [0, 20, 54], [0, 30, 60]])  # pixels, sum of confidence, right pixels


def words(svg: str) -> list[str]:
    """The text of each <text> element; fails where the SVG is not well-formed."""
    return ["".join(text.itertext()).strip() for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def marks(svg: str, variable: str, outlined: bool) -> list[tuple[float, float]]:
    """Where markers in a colour are: those of a line's values are outlined, those of kept members are not."""
    uses = ElementTree.fromstring(svg).iter(f"{SVG}use")
    styles = [(use, use.get("style", "")) for use in uses]
    return [
        (float(use.get("x", "")), float(use.get("y", "")))
        for use, style in styles
        if f"fill: var({variable}," in style and ("stroke:" in style) == outlined
    ]


def curves(*logs: list[dict], kept: tuple[int, ...] = ()) -> dict:
    return training_curves({f"run {place}": (rows, kept) for place, rows in enumerate(logs)})


def test_the_curves_are_those_in_the_log() -> None:
    assert list(curves(ROWS)) == ["mIoU on val", "Loss on val", "Training loss", "Learning rate"]
    adversarial = [*ROWS, train(50, **{"adv/g_loss": 0.1, "adv/d_loss": 1.0, "adv/weight": 0.01})]
    assert set(curves(adversarial)) - set(curves(ROWS)) == {"adv/g_loss", "adv/d_loss"}


def test_an_empty_log_gives_no_curves() -> None:
    assert curves([]) == {}
    assert list(curves([train(1)])) == ["Training loss", "Learning rate"]
    assert list(curves([val(1, 0.5)])) == ["mIoU on val", "Loss on val"]


def test_each_of_several_terms_of_the_loss_has_a_curve() -> None:
    one = train(10, **{"decode.loss_ce": 1.0, "decode.acc_seg": 50.0})
    assert "loss_ce" not in curves([one])  # it is the loss itself
    both = curves([one, train(20, **{"decode.loss_ce": 0.5, "decode.loss_dice": 0.75})])
    assert both["loss_ce"].lines == {"run 0": [(10, 1.0), (20, 0.5)]}
    assert both["loss_dice"].lines == {"run 0": [(20, 0.75)]}
    assert "acc_seg" not in both


@pytest.mark.parametrize(("kept", "dots"), [((), 0), ((30,), 1), ((20, 30, 40), 3), ((999,), 0)])
def test_kept_members_are_marked(kept: tuple[int, ...], dots: int) -> None:
    drawn = curves(ROWS, kept=kept)
    assert len(marks(drawn["mIoU on val"].svg, "--series-1", outlined=False)) == dots
    assert not marks(drawn["Loss on val"].svg, "--series-1", outlined=False)


@pytest.mark.parametrize(("values", "points"), [(1, 1), (3, 3), (20, 20), (21, 0)])
def test_few_values_are_drawn_as_points(values: int, points: int) -> None:
    drawn = curves([val(step, 1 / step) for step in range(1, values + 1)])["mIoU on val"]
    assert len(marks(drawn.svg, "--series-1", outlined=True)) == points


def test_runs_have_colours_of_their_own_also_where_the_first_lacks_the_quantity() -> None:
    both = curves([train(10)], ROWS)
    assert all(f"var(--series-{place}," in both["Training loss"].svg for place in (1, 2))
    assert "var(--series-1," not in both["mIoU on val"].svg and "var(--series-2," in both["mIoU on val"].svg
    assert both["mIoU on val"].lines == {"run 0": [], "run 1": [(20, 0.25), (30, 0.5), (40, 0.4)]}


def test_a_score_of_null_leaves_a_gap() -> None:
    points = curves([val(10, 0.2), val(20, None), val(30, 0.4)])["mIoU on val"].lines["run 0"]
    assert [step for step, _ in points] == [10, 20, 30] and math.isnan(points[1][1])


def test_a_long_log_is_thinned_and_keeps_its_end() -> None:
    points = curves([train(step) for step in range(1, 1002)])["Training loss"].lines["run 0"]
    assert len(points) <= MOST_POINTS and points[-1] == (1001, 2.0 / 1001)


def test_frame_and_limits_give_the_place_of_a_point() -> None:
    """matplotlib's marks are where the page computes them from frame and limits."""
    drawn = curves(ROWS, kept=(20, 30))["mIoU on val"]
    root = ElementTree.fromstring(drawn.svg)
    width, height = map(float, root.get("viewBox", "").split()[2:])
    left, top, right, bottom = drawn.frame
    first, last, low, high = drawn.limits
    expected = [
        (
            width * (left + (step - first) / (last - first) * (right - left)),
            height * (bottom - (value - low) / (high - low) * (bottom - top)),
        )
        for step, value in ((20, 0.25), (30, 0.5))
    ]
    found = marks(drawn.svg, "--series-1", outlined=False)
    assert np.allclose(sorted(found), sorted(expected), atol=0.5)


def test_the_reliability_diagram_has_a_bar_for_each_bin_with_pixels() -> None:
    svg = reliability_diagram(COUNTS)
    assert {"confidence", "right", "pixels"} <= set(words(svg))
    meetings = marks(svg, "--series-1", outlined=True)  # of confidence and share of right pixels
    assert len(meetings) == 2


def test_colours_are_variables_of_the_page() -> None:
    for svg in [*(curve.svg for curve in curves(ROWS, kept=(30,)).values()), reliability_diagram(COUNTS)]:
        outside = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg)
        assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", outside)) <= {"#000000"}
        assert not any(colour in outside for colour in CSS_VARIABLES)


def test_the_svg_element_is_deterministic_and_has_unique_ids() -> None:
    one, same, other = (curves(rows)["mIoU on val"].svg for rows in (ROWS, ROWS, ROWS[:3]))
    assert one.startswith("<svg") and one == same
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r"#([0-9a-f]{8}\w+)", one)) <= ids[0]
