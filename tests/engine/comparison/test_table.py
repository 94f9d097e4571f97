"""The comparison in numbers and words, and its files."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from rich.console import Console

from engine.comparison.columns import COLUMNS, Column
from engine.comparison.files import print_comparison, to_csv, to_markdown
from engine.comparison.page import to_html
from engine.comparison.runs import Method, ScoredRun
from engine.comparison.table import Comparison, compare
from engine.run_folder import without_nan
from engine.scoring.metrics import intersection_over_union
from engine.scoring.run import Run
from tests.engine.comparison.conftest import CLASSES, IDS, MakeRun, counts


@pytest.fixture
def three(make_run: MakeRun) -> Comparison:
    """Methods plain, better and same, with three seeds each; better trains longer."""

    def method(name: str, right: float, steps: int) -> Method:
        runs = [make_run(f"{name}-s{seed}", right, seed, steps) for seed in range(3)]
        return Method(name, [ScoredRun.of(Run(run)) for run in runs])

    return compare([method("plain", 0.7, 10), method("better", 0.8, 20), method("same", 0.701, 10)])


def mean_iou(right: float, seed: int) -> float:
    return float(intersection_over_union(counts(right, seed).sum(axis=0)).mean())


def test_mean_sd_and_range_over_seeds(three: Comparison) -> None:
    values = [mean_iou(0.7, seed) for seed in range(3)]
    plain = three.methods[0]
    assert plain.values == pytest.approx(values)
    assert plain.mIoU.mean == pytest.approx(np.mean(values))
    assert plain.mIoU.sd == pytest.approx(np.std(values, ddof=1))
    assert (plain.mIoU.low, plain.mIoU.high) == pytest.approx((min(values), max(values)))
    assert plain.IoU["cat"].mean == pytest.approx(
        np.mean([intersection_over_union(counts(0.7, seed).sum(axis=0))[1] for seed in range(3)])
    )


def test_differences_are_to_the_first_method_and_described_in_words(three: Comparison) -> None:
    plain, better, same = three.methods
    assert plain.gap is None and plain.verdict == "reference"
    gain = np.mean([mean_iou(0.8, seed) - mean_iou(0.7, seed) for seed in range(3)])
    assert better.gap.value == pytest.approx(gain)
    assert 0 < better.gap.low < gain < better.gap.high
    assert better.verdict == f"better by {gain:.4f}"
    assert better.class_gaps["dog"].is_shown
    assert same.verdict == "no difference shown at this n"
    assert same.gap.low < 0 < same.gap.high


def test_intervals_are_corrected_for_their_number(three: Comparison) -> None:
    assert three.confidence == pytest.approx(0.975)
    assert any("97.50%" in note and "Bonferroni" in note for note in three.notes)


def test_differing_recipe_values_and_the_cost_are_shown(three: Comparison) -> None:
    assert [method.changed for method in three.methods] == [[], ["train.steps: 20 instead of 10"], []]
    assert three.methods[0].figures == {
        "update_s": 0.375, "images_per_s": pytest.approx(4 / 0.375), "memory_mb": 1000.0,
        "training_s": 3.75, "energy_j": None, "num_parameters": 1234,
    }  # fmt: skip


def test_a_difference_with_one_seed_is_marked_as_images_only(make_run: MakeRun) -> None:
    good, bad = (ScoredRun.of(Run(make_run(name, right))) for name, right in (("good", 0.9), ("bad", 0.6)))
    found = compare([Method("good", [good]), Method("bad", [bad])])
    assert re.fullmatch(
        r"worse by 0\.\d{4} \(images only: one seed says nothing .*\)", found.methods[1].verdict
    )
    assert found.methods[0].mIoU.sd is None
    assert found.confidence == 0.95


def test_a_class_without_labels_that_some_runs_predict_is_named(make_run: MakeRun) -> None:
    without = np.zeros((len(IDS), 3, 3), dtype=np.int64)
    without[:, 0, 0] = without[:, 1, 1] = 50
    invented = without.copy()
    invented[0, 0] = (40, 0, 10)
    runs = [ScoredRun.of(Run(make_run(n, confusion=c))) for n, c in (("a", without), ("b", invented))]
    found = compare([Method(run.manifest.name, [run]) for run in runs])
    assert any("No label holds dog" in note for note in found.notes)
    assert found.methods[1].class_gaps["dog"] is None and found.methods[0].IoU["dog"].mean is None
    for text in (to_markdown(found), to_html(found)):
        assert "absent" in text
    json.loads(json.dumps(found.to_dict(), allow_nan=False))


def test_the_console_shows_the_largest_classes(three: Comparison) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    print_comparison(three, console)
    output = console.export_text()
    assert "no difference shown at this n" in output and "not measured" in output
    rows = [line for line in output.splitlines() if re.search("│ (ground|cat|dog) ", line)]
    sizes = [abs(float(re.search(r"[+-]0\.\d{4}", row)[0])) for row in rows]
    assert len(sizes) == 3 and sizes == sorted(sizes, reverse=True)


def test_csv_holds_every_number(three: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(three))))
    by_key = {(row["method"], row["quantity"]): row for row in rows}
    assert len(rows) == len(by_key) == 3 * (1 + len(CLASSES) + len(COLUMNS))
    better = by_key["better", "mIoU"]
    assert float(better["low"]) == three.methods[1].gap.low
    assert (better["seeds"], by_key["plain", "mIoU"]["difference"]) == ("3", "")
    assert float(by_key["same", "IoU/dog"]["mean"]) == three.methods[2].IoU["dog"].mean
    assert float(by_key["plain", "training_s"]["mean"]) == 3.75


def test_a_column_is_one_entry_that_every_output_shows(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = Column("best step", lambda run: run.best.step, "at {:.0f}".format)
    monkeypatch.setitem(COLUMNS, "best_step", column)
    found = compare([Method("a", [ScoredRun.of(Run(make_run("a")))])])
    assert found.to_dict()["methods"][0]["figures"]["best_step"] == 10
    console = Console(record=True, width=200, file=io.StringIO())
    print_comparison(found, console)
    for text in (to_markdown(found), to_html(found), console.export_text()):
        assert "best step" in text and "at 10" in text
    assert "a,best_step,1,10.0" in to_csv(found)


def test_markdown_has_a_row_for_each_method_and_class(three: Comparison) -> None:
    lines = to_markdown(three).splitlines()
    for name in ("plain", "better", "same"):
        assert sum(line.startswith(f"| {name} |") for line in lines) == 2  # scores, cost
    for name in CLASSES:
        [line] = [line for line in lines if line.startswith(f"| {name} |")]
        assert line.count("±") == 3 and line.count("[") == 2
    widths = [line.count("|") for line in lines if line.startswith("|")]
    assert set(widths) == {7, 8}


def test_the_page_is_complete_and_needs_no_network(three: Comparison) -> None:
    page = to_html(three)
    assert "default-src 'none'" in page and not re.search(r'(src|href)="', page.replace('xlink:href="#', ""))
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(plots) == len(titles) == 5
    for plot in plots:
        ElementTree.fromstring(plot)
    for method in three.methods:
        assert page.count(method.verdict) >= 1
    assert "&lt;" not in page


def test_a_comparison_on_one_image_has_no_difference_and_is_valid_json(make_run: MakeRun) -> None:
    """One image gives no estimate of the variation over images, so there is no interval."""
    runs = [
        ScoredRun.of(Run(make_run(name, right, skipped=tuple(IDS[1:]))))
        for name, right in (("a", 0.9), ("b", 0.5))
    ]
    found = compare([Method(run.manifest.name, [run]) for run in runs])
    assert found.num_images == 1 and found.methods[1].verdict.startswith("no difference shown at this n")
    written = json.dumps(without_nan(found.to_dict()), allow_nan=False)
    assert json.loads(written)["methods"][1]["gap"]["low"] is None
    assert "<svg" in to_html(found)


def test_names_are_escaped(make_run: MakeRun) -> None:
    one, two = (ScoredRun.of(Run(make_run(name))) for name in "ab")
    page = to_html(compare([Method("<b>a</b>", [one]), Method("[b]|", [two])]))
    assert "<b>a</b>" not in page and "&lt;b&gt;a" in page


def test_few_images_have_no_interval_but_an_exact_statement(make_run: MakeRun) -> None:
    """Seven images: the median is outside of their range with a probability of at most 2 / 2^7 = 1.6 %."""

    def seven(right: float, seed: int) -> np.ndarray:
        confusion = counts(right, seed)
        confusion[7:] = 0
        return confusion

    few = [f"image{number}" for number in range(7, 24)]
    methods = []
    for name, right in (("a", 0.5), ("b", 0.9)):
        runs = [
            make_run(f"{name}-s{seed}", seed=seed, confusion=seven(right, seed), skipped=tuple(few))
            for seed in (0, 1)
        ]
        methods.append(Method(name, [ScoredRun.of(Run(run)) for run in runs]))
    found = compare(methods)
    gap = found.methods[1].gap
    assert found.num_images == 7 and gap.value > 0.2 and not gap.is_shown
    assert str(gap).endswith("[no interval]")
    [note] = [note for note in found.notes if note.startswith("b: ")]
    assert "Only 7 images" in note and "differences in mIoU range from" in note and "98.4 %" in note
    assert not any("Intervals are at" in note or "Intervals cover" in note for note in found.notes)
    json.dumps(without_nan(found.to_dict()), allow_nan=False)
    assert "[no interval]" in to_markdown(found) and "[no interval]" in to_html(found)
