"""What version 0.1.0 wrote: its recipes resolve to the same values, and its runs resume, score and report.

`tests/data` holds resolved recipes and two runs of that version: one stopped after 8 of its 16 updates, one
that went to its end (LinkNet of 95,000 parameters on drawn scenes).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine import diagnose, ensemble, evaluate, report, run
from engine.recipe import load_recipe
from engine.recipe.differences import explain
from engine.run_folder import read_log

DATA = Path(__file__).parent / "data"
RECIPES = Path(__file__).parents[1] / "recipes"
NEW_DEFAULTS = [".data.sampler: uniform -> auto"]  # a run of 0.1.0 keeps its own, as its recipe.yaml holds it
PLAIN_DEFAULTS = [*NEW_DEFAULTS, ".schedule.warmup: 1500 -> 2000"]  # other recipes give theirs
RESOLVED = json.loads((DATA / "recipes-0.1.0.json").read_text())


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "run-0.1.0-finished", tmp_path / "finished/run-0.1.0"))


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "run-0.1.0-stopped", tmp_path / "stopped/run-0.1.0"))


def missing(before: Any, now: Any, path: str = "") -> list[str]:
    """Key paths whose value of before is not there any more; keys that are new are no loss."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [found for key in before for found in missing(before[key], now.get(key), f"{path}.{key}")]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            found
            for i, pair in enumerate(zip(before, now, strict=True))
            for found in missing(*pair, f"{path}.{i}")
        ]
    return [] if before == now else [f"{path}: {before} -> {now}"]


@pytest.mark.parametrize("name", RESOLVED)
def test_a_recipe_resolves_to_the_same_values_from_the_same_places(name: str) -> None:
    case = RESOLVED[name]
    is_plain = case["recipe"] == "plain.yaml"
    folder = DATA if is_plain else RECIPES
    recipe = load_recipe(folder / case["recipe"], case["overrides"])
    assert missing(case["values"], recipe.model_dump()) == (PLAIN_DEFAULTS if is_plain else NEW_DEFAULTS)
    sources = {key: source.rpartition("/")[2] for key, _, source in explain(recipe)}
    before = {key: source.rpartition("/")[2] for key, source in case["explained"].items()}
    assert {key: sources.get(key) for key in before} == before


def test_a_stopped_run_goes_on_to_the_losses_that_it_would_have_had(stopped: Path) -> None:
    command = [str(stopped / "recipe.yaml"), f"output.dir={stopped.parent}", "--resume"]
    assert run.main(command) == 0
    whole = read_log(DATA / "run-0.1.0-finished/log.jsonl")
    expected = [row["loss"] for row in whole if row["split"] in ("train", "val")]
    rows = [row["loss"] for row in read_log(stopped / "log.jsonl") if row["split"] in ("train", "val")]
    assert rows == pytest.approx(expected, rel=1e-3)
    assert json.loads((stopped / "manifest.json").read_text())["finished"]


def test_a_finished_run_is_scored_as_it_was(finished: Path, tmp_path: Path) -> None:
    was = json.loads((finished / "ensemble.json").read_text())
    assert ensemble.main([str(finished)]) == 0
    now = json.loads((finished / "ensemble.json").read_text())
    for before, after in zip(was["members"], now["members"], strict=True):
        assert after["mIoU"] == pytest.approx(before["mIoU"], abs=1e-4)
    assert evaluate.main([str(finished), "--out", str(tmp_path / "scored")]) == 0


def test_a_finished_run_is_reported_and_diagnosed(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(finished)]) == 0
    assert "run-0.1.0" in (finished / "report.html").read_text()
    assert diagnose.main([str(finished)]) == 0
    assert "run-0.1.0" in capsys.readouterr().out
