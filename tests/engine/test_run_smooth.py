"""`keep.smooth`: checkpoints are chosen by their mean score over some evaluations."""

import re
from pathlib import Path
from statistics import fmean

import pytest

from engine.reporting.board.status import Board
from engine.run import main
from engine.run_folder import RunFolder, read_log
from tests.engine.tiny_run import tiny


def test_the_mean_of_the_latest_scores_chooses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = tiny(tmp_path, "smooth", "keep.smooth=2", "eval.every=1", "keep.top=6", "schedule.warmup=0")
    assert main(arguments) == 0
    run = RunFolder(tmp_path / "smooth")
    raw = {row["step"]: row["mIoU"] for row in read_log(run.log) if row["split"] == "val"}
    expected = {step: fmean(raw[k] for k in (step - 1, step) if k) for step in range(1, 7)}
    manifest = run.read_manifest()
    assert {m.step: m.scores["mIoU_mean_of_2"] for m in manifest.members} == pytest.approx(expected)
    assert {m.step: m.scores["mIoU"] for m in manifest.members} == pytest.approx(raw)
    assert [m.step for m in manifest.members] == sorted(expected, key=lambda step: (-expected[step], step))

    [status] = Board([tmp_path]).look()
    assert status.metric == "mIoU" and status.curve == tuple(raw.items())

    capsys.readouterr()
    assert main([*arguments, "--resume", "keep.smooth=3"]) == 2
    typed = re.findall(r"keep\.\w+=\w+", capsys.readouterr().err.partition("as they were")[2])
    assert typed == ["keep.metric=mIoU", "keep.smooth=2"]
    assert main([*arguments, "--resume", *typed]) == 0
    assert main([*arguments, "--resume", "keep.smooth=1"]) == 0  # each has its own score, too
    members = run.read_manifest().members
    assert [m.step for m in members] == sorted(raw, key=lambda step: (-raw[step], step))
