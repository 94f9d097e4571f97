"""`benchmarks/gpu.py` on a CPU, small: updates are measured, and what a part did is written."""

import importlib.util
import json
from pathlib import Path

import pytest

from engine.recipe import load_recipe

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks/gpu.py")
assert SPEC and SPEC.loader
gpu = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gpu)


def test_all_parts_fit_into_nine_minutes(tmp_path: Path) -> None:
    assert sum(part.limit_s for part in gpu.parts(tmp_path).values()) <= 540


def test_the_trainings_of_further_parts_are_valid_recipes(tmp_path: Path) -> None:
    commands = [part.command for part in gpu.further_parts(tmp_path).values()]
    trainings = [
        command[command.index("engine.run") + 1 :] for command in commands if "engine.run" in command
    ]
    recipes = [load_recipe(ROOT / path, overrides) for path, *overrides in trainings]
    assert {recipe.name for recipe in recipes} == {"one", "two-ddp", "two-sharded"}
    assert all(Path(recipe.output.dir) == tmp_path / "runs" for recipe in recipes)


def test_compiled_models_of_other_libraries_become_rows_of_the_log(tmp_path: Path) -> None:
    small = ["--size", "64", "--batch", "2", "--rounds", "1", "--backend", "eager"]
    assert gpu.main([str(tmp_path), "--peers", "b0", *small]) == 0
    rows = json.loads((tmp_path / "peers-b0.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == [f"{name}, compiled" for name in gpu.contenders()]
    assert all(row["images_per_s"] == pytest.approx(2 / row["seconds"][0]) for row in rows)
    facts = {"environment": {"date": "2026-01-02", "device": "a GPU"}, "parts": {"peers-b0": "done"}}
    assert gpu.markdown(tmp_path, facts).count("B0, 64 px, batch 2") == len(rows)


def test_updates_are_measured_and_become_rows_of_the_log(tmp_path: Path) -> None:
    assert gpu.main([str(tmp_path), "--updates", "b0", "--size", "64", "--batch", "2", "--rounds", "1"]) == 0
    rows = json.loads((tmp_path / "updates-b0.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == list(gpu.ARMS)
    assert all(row["images_per_s"] == pytest.approx(2 / row["seconds"][0]) for row in rows)
    facts = {"environment": {"date": "2026-01-02", "device": "a GPU"}, "parts": {"tests": "done"}}
    lines = gpu.markdown(tmp_path, facts).splitlines()
    assert "- tests: done" in lines
    assert [line.count("|") for line in lines if "B0, 64 px" in line] == [7, 7, 7]


def test_a_part_that_fails_or_takes_too_long_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {
        "fails": gpu.Part(["-c", "print('why'); raise SystemExit(3)"], 60),
        "waits": gpu.Part(["-c", "import time; time.sleep(60)"], 1),
        "works": gpu.Part(["-c", "pass"], 60),
    }
    monkeypatch.setattr(gpu, "parts", lambda out: known)
    assert gpu.main([str(tmp_path)]) == 1
    found = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert found == {"fails": "exit code 3", "waits": "stopped after 1 s", "works": "done"}
    assert (tmp_path / "fails.log").read_text() == "why\n"


def test_the_tables_of_parts_that_write_their_own_are_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "depthwise.md").write_text("| depthwise |\n")
    facts = {"environment": {"date": "2026-01-02", "device": "a GPU"}}
    page = gpu.markdown(tmp_path, facts | {"parts": {"depthwise": "done", "attention": "exit code 1"}})
    assert page.endswith("\n\n| depthwise |\n\n") and "- attention: exit code 1" in page


def test_an_unknown_part_is_refused_with_the_names_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        gpu.main([str(tmp_path / "new"), "--parts", "updates-b9"])
    assert stopped.value.code == 2 and "updates-b5" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
