"""`trident benchmark job` on tiny photos, and its figures from counts that can be checked by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from engine.benchmark import main
from engine.benchmarks import job as job_module
from engine.benchmarks.job import Job, Result
from engine.run_folder import RunFolderError

RECIPE = """
data: {format: voc, train: train, val: val}
augment: {crop: 32}
model: {arch: segformer, encoder: tu-tf_efficientnet_lite0, weights: WEIGHTS}
schedule: {warmup: 10%}
train: {batch: 2}
eval: {every: 50%}
log: {every: 5, images: 0, to: []}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / "encoder.pth")
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.replace("WEIGHTS", str(tmp_path / "encoder.pth")))
    return path


def counted(intersection: list[list[int]], union: list[list[int]]) -> np.ndarray:
    """(N, 2, 21) overlaps of the first classes; the others are absent."""
    found = np.zeros((len(intersection), 2, 21), np.int64)
    found[:, 0, : len(intersection[0])] = intersection
    found[:, 1, : len(union[0])] = union
    return found


def result(best: np.ndarray, second: np.ndarray, mean: np.ndarray, wall_s: float) -> Result:
    found = {"step 20": best, "step 10": second, "mean": mean}
    return Result({"wall_s": wall_s, "images_per_s": 1 / wall_s, "peak_mb": 100.0}, found, found)


def test_the_figures_of_two_seeds(tmp_path: Path) -> None:
    half, full, none = ([[5, n], [5, n]] for n in (5, 10, 0))  # class 0 has IoU 0.5 in all of them
    union = [[10, 10], [10, 10]]
    low, high, zero = (counted(part, union) for part in (half, full, none))
    job = Job(tmp_path, tmp_path / "r.yaml", updates=10, seeds=(0, 1), work=tmp_path)
    rows = job_module._rows(
        job,
        {
            "script": [result(low, zero, low, 10.0), result(zero, zero, low, 20.0)],
            "trident": [result(high, low, high, 5.0), result(low, low, high, 15.0)],
        },
        {"labelled": [0, 1], "frequent": [0]},
    )
    found = {row["what"]: row for row in rows}
    best = found["mIoU, best, 2 labelled classes"]
    assert best["script"] == pytest.approx([0.5, 0.25]) and best["trident"] == pytest.approx([0.75, 0.5])
    assert best["difference"] == pytest.approx(0.25)
    members = found["mIoU, members, 2 labelled classes"]
    assert members["script"] == pytest.approx([0.375, 0.25])
    assert found["mIoU, best, 1 frequent classes"]["difference"] == pytest.approx(0.0)
    assert found["IoU, ensemble, background"]["trident"] == pytest.approx([0.5, 0.5])
    assert found["IoU, ensemble, aeroplane"]["script"] == pytest.approx([0.5, 0.5])
    gain = found["mIoU, ensemble of trident less its members, labelled classes"]
    assert gain["difference"] == pytest.approx(0.75 - (0.625 + 0.5) / 2)
    assert found["wall_s"]["ratio"] == pytest.approx((5 / 10 + 15 / 20) / 2)


def test_both_are_trained_scored_and_compared_and_nothing_twice(
    tmp_path: Path, voc_folder: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, out = tmp_path / "work", tmp_path / "job.json"
    arguments = ["job", "--root", str(voc_folder), "--lists", "train", "val", "--recipe", str(recipe)]
    arguments += ["--updates", "10", "--seeds", "1", "--work", str(work)]
    assert main([*arguments, "--out", str(out)]) == 0
    rows = {row["what"]: row for row in json.loads(out.read_text())["rows"]}
    best = rows["mIoU, best, 4 labelled classes"]  # background, person, cat, dog
    assert all(0 <= value <= 1 for value in (*best["script"], *best["trident"]))
    assert rows["wall_s"]["script"][0] > 0 and rows["peak_mb"]["trident"][0] > 100
    lists = {
        name: (work / f"photos/ImageSets/Segmentation/{name}.txt").read_text().split()
        for name in ("fit", "select", "val")
    }
    assert {*lists["fit"]}.isdisjoint(lists["select"]) and len(lists["select"]) == 1
    assert sorted(lists["fit"] + lists["select"]) == [f"train_{n:06d}" for n in range(6)]
    assert out.with_suffix(".png").stat().st_size > 10_000

    before = {file: file.stat().st_mtime_ns for file in work.glob("*.facts.json")}
    assert main(arguments) == 0
    assert before == {file: file.stat().st_mtime_ns for file in work.glob("*.facts.json")}

    (work / "trident_s0.facts.json").unlink()  # as if it had been interrupted
    capsys.readouterr()
    assert main(arguments) == 2
    typed = capsys.readouterr().err.strip().rpartition("rm -r ")[2]
    shutil.rmtree(typed)
    assert main(arguments) == 0


def test_a_training_that_fails_shows_its_last_lines(tmp_path: Path, recipe: Path) -> None:
    job = Job(tmp_path / "gone", recipe, updates=10, seeds=(0,), work=tmp_path)
    with pytest.raises(RunFolderError, match=r"(?s)script_s0 failed.*script_s0\.log.*FileNotFoundError"):
        job_module._train(job, "script", 0)


def test_the_folder_of_photos_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job"]) == 2
    assert "--root" in capsys.readouterr().err
