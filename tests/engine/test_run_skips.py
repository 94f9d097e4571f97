"""A run over a folder with damaged images: it ends at the first, or reports those that it skipped."""

import json
from pathlib import Path

import h5py
import pytest

from engine.run import main
from engine.run_folder import RunFolder

RECIPES = Path(__file__).parents[2] / "recipes"
BROKEN = {"train": "train_000002", "val": "val_000001"}


@pytest.fixture
def arguments(voc_folder: Path, tmp_path: Path) -> list[str]:
    for id in BROKEN.values():
        path = voc_folder / "JPEGImages" / f"{id}.jpg"
        path.write_bytes(path.read_bytes()[:700])
    settings = {
        "name": "run",
        "output.dir": tmp_path / "checkpoints",
        "data.root": voc_folder,
        "data.train": "train",
        "data.workers": 0,
        "augment.crop": 32,
        "model.weights": "null",
        "model.from_scratch": "true",
        "schedule.warmup": 0,
        "train.batch": 2,
        "train.steps": 3,
        "eval.every": 3,
        "log.every": 1,
        "log.images": 4,
        "log.to": "[]",
    }
    return [str(RECIPES / "b0_ce_dice.yaml"), *(f"{key}={value}" for key, value in settings.items())]


def test_a_damaged_image_ends_the_run_unless_it_may_be_skipped(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert main([*arguments, "data.resident=disk"]) == 2
    error = capsys.readouterr().err
    assert "data.on_error=skip" in error and "Traceback" not in error

    (tmp_path / "checkpoints").rename(tmp_path / "stopped")
    assert main([*arguments, "data.resident=disk", "data.on_error=skip"]) == 0
    shown = capsys.readouterr()
    for id in BROKEN.values():
        logged = [line for line in caplog.messages if "left out" in line and id in line]
        assert len(logged) == 1 + (id == BROKEN["val"])  # val is opened again for the scores at the end
    assert f"train: 1 image could not be read: {BROKEN['train']}." in shown.out
    assert f"val: 1 image could not be read: {BROKEN['val']}." in shown.out
    assert f"Not scored: 1 image could not be read: {BROKEN['val']}." in shown.out

    run = RunFolder(tmp_path / "checkpoints/run")
    data = json.loads(run.ensemble.read_text())["dataset"]
    assert (data["num_images"], data["skipped"]) == (3, [BROKEN["val"]])
    assert BROKEN["val"] in run.report.read_text()
    with h5py.File(run.scores) as file:
        assert file["skipped"].asstr()[:].tolist() == [BROKEN["val"]]
        [counts] = [file["confusion"][name][:] for name in file["confusion"]]
        ids = file["ids"].asstr()[:].tolist()
        assert [int(counts[row].sum()) > 0 for row in range(4)] == [id != BROKEN["val"] for id in ids]


def test_data_in_memory_and_on_disk_give_the_same_run(arguments: list[str], tmp_path: Path) -> None:
    rows = {}
    for where in ("ram", "disk"):
        assert main([*arguments, f"name={where}", f"data.resident={where}", "data.on_error=skip"]) == 0
        log = (tmp_path / "checkpoints" / where / "log.jsonl").read_text().splitlines()
        rows[where] = [
            {k: v for k, v in json.loads(row).items() if "loss" in k or k == "mIoU"} for row in log
        ]
    assert rows["ram"] == rows["disk"] and len(rows["ram"]) == 4
