"""Plots by what stands in the SVG: it parses, names what it shows, and takes its colours from the page."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from engine.reporting.plots import CSS_VARIABLES, class_bars, training_curves

SVG = "{http://www.w3.org/2000/svg}"


def train(step: int, **values: float) -> dict:
    return {"step": step, "split": "train", "loss": 2.0 / step, "lr": 1e-3, "base_lr": 1e-4, **values}


def val(step: int, score: float | None) -> dict:
    return {"step": step, "split": "val", "mIoU": score, "loss": 0.5, "IoU": {"cat": score}}


ROWS = [train(10), train(20), val(20, 0.25), train(30), val(30, 0.5), train(40), val(40, 0.4)]


def words(svg: str) -> list[str]:
    """The text of each <text> element; fails where the SVG is not well-formed."""
    return ["".join(text.itertext()).strip() for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def marks(svg: str, variable: str) -> int:
    """How many points are drawn as markers in a colour."""
    uses = ElementTree.fromstring(svg).iter(f"{SVG}use")
    return sum(f"fill: var({variable}," in use.get("style", "") for use in uses)


def test_a_log_gives_the_curves_that_it_holds() -> None:
    assert list(training_curves(ROWS, [30])) == ["mIoU on val", "Training loss", "Learning rate"]
    adversarial = [*ROWS, train(50, **{"adv/g_loss": 0.1, "adv/d_loss": 1.0, "adv/weight": 0.01})]
    curve = words(training_curves(adversarial, [])["Adversarial losses"])
    assert {"adv/g_loss", "adv/d_loss"} <= set(curve) and "adv/weight" not in curve


def test_no_log_gives_no_curves() -> None:
    assert training_curves([], [10]) == {}
    assert list(training_curves([train(1)], [])) == ["Training loss", "Learning rate"]
    assert list(training_curves([val(1, 0.5)], [])) == ["mIoU on val"]


def test_each_term_of_the_loss_has_a_line() -> None:
    rows = [
        train(10, **{"decode.loss_ce": 1.0, "decode.acc_seg": 50.0}),
        train(20, **{"decode.loss_ce": 0.5}),
    ]
    loss = words(training_curves(rows, [])["Training loss"])
    assert {"loss", "loss_ce", "step"} <= set(loss) and "acc_seg" not in loss


@pytest.mark.parametrize(("kept", "stars"), [([], 0), ([30], 2), ([20, 30, 40], 4), ([999], 0)])
def test_kept_members_are_marked(kept: list[int], stars: int) -> None:
    svg = training_curves(ROWS, kept)["mIoU on val"]
    assert marks(svg, "--series-2") == stars  # one for each member, and one in the legend
    assert ("kept" in words(svg)) == bool(stars)


def test_a_score_of_null_leaves_a_gap() -> None:
    with_gap = training_curves([val(10, 0.2), val(20, None), val(30, 0.4)], [])["mIoU on val"]
    without = training_curves([val(10, 0.2), val(20, 0.3), val(30, 0.4)], [])["mIoU on val"]
    assert marks(without, "--series-1") - marks(with_gap, "--series-1") == 1


def test_bars_are_in_order_of_the_first_series_and_absent_is_said() -> None:
    bars = {
        "ensemble": {"cat": 0.2, "bus": None, "dog": 0.9},
        "step 7": {"cat": 0.3, "bus": None, "dog": 0.8},
    }
    text = words(class_bars(bars))
    assert [word for word in text if word in ("cat", "bus", "dog")] == ["dog", "cat", "bus"]
    assert text.count("absent") == 1
    assert {"ensemble", "step 7", "IoU"} <= set(text)


def test_bars_are_as_long_as_the_shares() -> None:
    svg = class_bars({"ensemble": {"cat": 0.25, "dog": 0.75}})
    bars = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="fill: var\(--series-1,', svg)
    spans = [[float(point.split()[1]) for point in re.findall(r"[ML] [\d.]+", bar)] for bar in bars]
    dog, cat = sorted((max(span) - min(span) for span in spans), reverse=True)
    assert dog == pytest.approx(3 * cat, rel=1e-4)


def test_names_with_markup_or_mathematics_are_plain_text() -> None:
    names = ["<b>cat</b>", "$x^2$", "a & b"]
    svg = class_bars({"ensemble": dict.fromkeys(names, 0.5)})
    assert set(names) <= set(words(svg))
    assert "<b>" not in svg


def test_colours_are_variables_of_the_page() -> None:
    for svg in [*training_curves(ROWS, [30]).values(), class_bars({"best": {"cat": 0.5, "bus": None}})]:
        outside = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg)
        assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", outside)) <= {"#000000"}
        assert not any(colour in outside for colour in CSS_VARIABLES)


def test_an_element_for_a_page_that_is_the_same_each_time() -> None:
    svg = class_bars({"best": {"cat": 0.5}})
    assert svg.startswith("<svg") and svg == class_bars({"best": {"cat": 0.5}})
    assert "figure_1" not in svg  # ids that several plots of a page would share
