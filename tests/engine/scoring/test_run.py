"""The reader of runs: what it reads, what it does not read, and its errors for missing files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.run_folder import RunFolder, RunFolderError
from engine.scoring.run import Run
from engine.scoring.scores_file import ImageScores
from tests.engine.scoring.conftest import MakeRun


def test_the_best_checkpoint_is_the_first_of_the_manifest(make_run: MakeRun) -> None:
    run = Run(make_run("demo", {20: 0.6, 10: 0.4}))
    assert (run.best.step, run.best.scores) == (20, {"mIoU": 0.6})
    assert run.best.path.is_file() and run.best.name == "step 20"
    assert str(run.path) in repr(run) and "0.6000" in repr(run)


def test_only_the_requested_files_are_read(make_run: MakeRun) -> None:
    folder = make_run("demo", {10: 0.4})
    folder.scores.write_text("no HDF5")
    folder.doctor.write_text("{")
    folder.log.write_text("".join(json.dumps(row) + "\n" for row in (
        {"step": 5, "split": "train", "time": 2.0, "memory": 10.0},
        {"step": 5, "split": "note", "text": "slow"},
        {"step": 10, "split": "val", "mIoU": 0.4},
    )))  # fmt: skip
    run = Run(folder.path)
    assert len(run.rows) == 3 and len(run.train_rows) == len(run.val_rows) == 1 and run.last_step == 10
    assert [values.tolist() for values in run.curve("mIoU")] == [[10], [0.4]]
    assert run.recipe is not None
    assert run.cost.training_s == 10.0 and run.cost.images_per_s == run.recipe.train.batch / 2
    for name, file in (("scores", folder.scores), ("doctor", folder.doctor)):
        with pytest.raises(RunFolderError, match=str(file)):
            getattr(run, name)


def test_a_curve_that_the_log_does_not_have_is_refused_and_those_that_it_has_are_named(
    make_run: MakeRun,
) -> None:
    folder = make_run("demo", {10: 0.4})
    rows = [{"step": 5, "split": "train", "loss": 2.0, "gradients/norm/a": 1.0}]
    folder.log.write_text(json.dumps(rows[0]) + "\n")
    assert [values.tolist() for values in Run(folder.path).curve("typo")] == [[], []]  # no evaluation yet
    rows.append({"step": 10, "split": "val", "mIoU": 0.4, "mDice": None, "IoU": {"cat": 0.4}})
    folder.log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = Run(folder.path)
    with pytest.raises(RunFolderError, match="no 'mIOU' of val: there are mIoU, mDice.*mean mIoU") as caught:
        run.curve("mIOU")
    assert str(folder.log) in str(caught.value)
    assert [values.tolist() for values in run.curve("mDice")] == [[], []]  # never a number
    assert run.curve("gradients/norm/a", "train")[1].tolist() == [1.0]
    with pytest.raises(RunFolderError, match="no 'mIoU' of train: there are loss\\."):
        run.curve("mIoU", "train")
    with pytest.raises(RunFolderError, match="no split 'vall': there are val, train. Did you mean val"):
        run.curve("mIoU", "vall")


def test_scores_that_are_no_shares_of_1_are_refused(make_run: MakeRun) -> None:
    folder = make_run("demo", {10: 0.4})
    content = {
        "members": [{"mIoU": 0.5, "IoU": {"cat": 6.0}}],
        "ensembles": {},
        "protocol": {},
        "dataset": {},
    }
    folder.ensemble.write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match="ensemble.json is damaged .*cat is 6.0, not a share of 1"):
        _ = Run(folder.path).ensemble


def test_scores_of_other_classes_are_refused(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run("demo", {10: 0.4})
    folder.scores.write_text("")
    found = ImageScores(["a"], ["cat"], [], {}, {}, {}, {})
    monkeypatch.setattr("engine.scoring.run.read_scores", lambda *arguments: found)
    with pytest.raises(RunFolderError, match="scores.h5 has scores of other classes than .*manifest.json"):
        _ = Run(folder.path).scores


@pytest.mark.parametrize("name", ["log.jsonl", "scores.h5", "ensemble.json", "doctor.json"])
def test_a_final_file_that_is_missing_or_altered_is_refused(make_run: MakeRun, name: str) -> None:
    folder = make_run("demo", {10: 0.4})
    path = folder.path / name
    path.write_text("final")
    folder.write_final(folder.read_manifest(), path)
    attribute = {"log": "rows"}.get(path.stem, path.stem)
    path.write_text("other")
    with pytest.raises(RunFolderError, match=f"{name} was altered.*trident run .*--resume"):
        getattr(Run(folder), attribute)
    path.unlink()
    with pytest.raises(RunFolderError, match=f"{name} is missing.*trident run .*--resume"):
        getattr(Run(folder), attribute)


def test_each_file_is_read_once(make_run: MakeRun) -> None:
    folder = make_run("demo", {10: 0.4})
    run = Run(folder)
    before = run.manifest
    folder.manifest.unlink()
    assert run.manifest is before


def test_optional_files_that_are_missing_are_none(make_run: MakeRun) -> None:
    folder = make_run("demo", {})
    folder.recipe.unlink()
    run = Run(folder)
    assert (run.recipe, run.scores, run.ensemble, run.doctor) == (None, None, None, None)
    assert run.rows == [] and run.predictor == "" and run.cost.update_s is None
    assert "no checkpoint" in repr(run)
    with pytest.raises(RunFolderError, match=str(folder.path)):
        _ = run.best


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert str(tmp_path) in repr(run)
    with pytest.raises(RunFolderError, match="not a run folder"):
        _ = run.manifest


def test_the_best_checkpoint_predicts(voc_run: Callable[..., Path]) -> None:
    run = Run(RunFolder(voc_run("run", 1, 2)))
    model = run.load("cpu")
    assert "step 1" in model.name
    labels, probabilities = model.predict(np.zeros((40, 50, 3), np.uint8))
    assert labels.shape == (40, 50) and probabilities.shape == (21, 40, 50)
