"""`engine.benchmark` on the smallest model and images; the figures themselves are no test's business."""

import json
from pathlib import Path

import pytest

from engine.benchmark import main
from engine.benchmarks import model, timing


def test_rounds_are_interleaved_and_the_first_is_not_counted() -> None:
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    seconds = timing.interleaved(contenders, 3, lambda done, total: None)
    assert calls == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_the_ratio_is_taken_within_each_round() -> None:
    assert timing.ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0]) == 3.0  # 2, 4, 3


def test_the_table_and_the_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "installed", lambda package: None)  # as if no peer were there
    monkeypatch.setattr(timing, "installed", lambda package: None)
    out = tmp_path / "model.json"
    arguments = [
        "model",
        "--variants",
        "b0",
        "--size",
        "64",
        "--rounds",
        "2",
        "--batch",
        "1",
        "--out",
        str(out),
    ]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "pip install transformers" in told
    rows = json.loads(out.read_text())["rows"]
    assert [(row["what"], row["contender"]) for row in rows] == [
        ("training step", "trident"),
        ("inference", "trident"),
    ]
    assert all(len(row["seconds"]) == 2 and row["times_faster"] == 1.0 for row in rows)
    assert rows[0]["peak_mb"] > 0
    assert main(arguments) == 2  # never over an existing file
    assert "exists already" in capsys.readouterr().err
