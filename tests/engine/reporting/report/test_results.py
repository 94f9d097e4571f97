"""Members and ensembles of ensemble.json, as a page shows them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.reporting.report import content
from engine.reporting.report.content import cautions_of_all
from engine.reporting.report.results import results_of

GAIN = {"value": 0.02, "low": 0.01, "high": 0.03}


def scored(**selection: Any) -> dict[str, Any]:
    """Of two members the second is the best on val, and the first where ensembles were selected."""
    return {
        "members": [{"path": f"{step}", "run": "r", "step": step, "mIoU": step} for step in (0.5, 0.6)],
        "ensembles": {"mean": {"mIoU": 0.52, "gain": GAIN}},
        "selection": {"honest": {"mean": {"gain": {"value": 0.005, "low": 0.0, "high": 0.01}}}, **selection},
    }


def test_a_gain_is_over_the_member_that_its_interval_is_over() -> None:
    [ensemble, *_] = results_of(scored(repeats=0))
    assert ensemble.gain == 0.02 and ensemble.gain_interval == (0.01, 0.03)
    assert ensemble.honest_gain is None  # the same: it was selected on other images


def test_the_gain_on_halves_is_shown_beside_that_on_the_same_images() -> None:
    [ensemble, *_] = results_of(scored(repeats=10))
    assert (ensemble.gain, ensemble.honest_gain) == (0.02, 0.005)


def test_without_a_gain_in_the_file_it_is_that_over_the_best_member() -> None:
    old = scored()
    del old["ensembles"]["mean"]["gain"], old["selection"]
    assert results_of(old)[0].gain == pytest.approx(0.52 - 0.6)


def test_a_caution_names_its_run_unless_it_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"a": ["few images.", "no gain."], "b": ["few images."]}
    monkeypatch.setattr(content, "cautions", lambda one: said[one.name])
    group: Any = [SimpleNamespace(name=name, run=Path(name)) for name in said]
    assert cautions_of_all(group) == ["few images.", "a: no gain."]
    assert cautions_of_all(group[:1]) == said["a"]
