"""`trident compare --folds` from its command line to its files, on small trainings."""

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from engine.compare import main
from engine.comparison.grid import Cell, Failure
from engine.ensemble import main as ensemble_main
from engine.evaluate import main as evaluate_main
from engine.predict import main as predict_main
from engine.recipe import load_recipe
from engine.run import main as run_main
from engine.run_folder import EnsembleFolder, RunFolder
from engine.scoring.metrics import mean_iou_of_overlaps, overlaps
from engine.scoring.run import Run
from tests.conftest import VOC_SIZES

RECIPE = """
data: {{format: voc, root: {root}, train: train, doctor: "off"}}
model: {{variant: b0, decoder_width: 16, from_scratch: true}}
loss: [{{name: {loss}}}]
augment: {{crop: 32}}
schedule: {{warmup: 0}}
train: {{steps: 2, batch: 2}}
eval: {{every: 1}}
log: {{every: 1, to: [], images: 0}}
"""
IDS = [f"train_{number:06d}" for number in range(6)]


def train_here(cells: list[Cell], num_jobs: int, console: Console) -> list[Failure]:
    """In this process, which has imported torch already."""
    return [Failure(cell, "") for cell in cells if run_main(cell.arguments) != 0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data, recipes plain.yaml and dice.yaml, and their cross-validation in out/.

    whole/plain is a run of plain.yaml without folds.
    """
    from tests.conftest import voc_folder

    folder = tmp_path_factory.mktemp("folds")
    make: Callable[[Path], Path] = voc_folder.__wrapped__
    root = make(folder)
    rng = np.random.default_rng(0)
    for photo in sorted(root.glob("JPEGImages/*.jpg")):  # no two alike
        with Image.open(photo) as image:
            noise = rng.integers(0, 255, (image.height, image.width, 3), np.uint8)
        Image.fromarray(noise).save(photo)
    for name, loss in (("plain", "cross_entropy"), ("dice", "dice")):
        (folder / f"{name}.yaml").write_text(RECIPE.format(root=root, loss=loss))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.comparison.local.run_locally", train_here)
        patch.chdir(folder)
        assert main(["plain.yaml", "dice.yaml", "--folds", "2", "--out", "out"]) == 0
        assert run_main(["plain.yaml", "output.dir=whole"]) == 0
        yield folder


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cells that would have been trained."""
    names: list[str] = []

    def note(cells: list[Cell], num_jobs: int, console: Console) -> list[Failure]:
        names.extend(cell.name for cell in cells)
        return [Failure(cell, "") for cell in cells]

    monkeypatch.setattr("engine.comparison.local.run_locally", note)
    return names


def found(folder: Path, out: str = "out") -> dict:
    return json.loads((folder / out / "compare.json").read_text())


def test_every_image_is_scored_once_by_a_model_that_did_not_see_it(trained: Path) -> None:
    for method in ("plain", "dice"):
        scored, total = [], 0
        for fold in range(2):
            run = Run(trained / f"out/{method}-s0-f{fold}")
            assert run.recipe and run.scores
            listed = Path(run.recipe.data.fold).read_text().split()
            assert run.scores.ids == listed and run.manifest.data.num_val_trained_on == 0
            scored += run.scores.ids
            total = total + run.scores.confusion[run.best.name].sum(axis=0)
        assert sorted(scored) == IDS
        [summary] = [m for m in found(trained)["methods"] if m["name"] == method]
        expected = mean_iou_of_overlaps(overlaps(total))
        assert summary["values"] == [pytest.approx(expected, abs=1e-12)]
        assert [fold["num_images"] for fold in summary["folds"]] == [3, 3]
    assert found(trained)["num_images"] == 6 and found(trained)["methods"][1]["gap"] is not None


def test_the_tables_show_folds_and_ensembles(trained: Path) -> None:
    text = (trained / "out/compare.md").read_text()
    page = (trained / "out/compare.html").read_text()
    for each in (text, page):
        assert "Ensembles over the folds" in each and "out/dice-s0-f1" in each
        assert "[no interval]" in each and "Only 6 images were scored" in each
        assert "each was scored on images that it was not trained on" in each
    assert "95 %, images" in text


def test_the_ensemble_is_scored_on_val_which_no_fold_saw(
    trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved = EnsembleFolder(trained / "out/plain-s0-ensemble").read_manifest()
    assert len(saved.members) == 2 and saved.data.num_val_trained_on == 0
    [ours, _] = found(trained)["ensembles"]
    assert (ours["split"], ours["num_images"]) == ("val", len(VOC_SIZES["val"]))
    path = str(trained / "out/plain-s0-ensemble")
    assert evaluate_main([path, "--out", str(tmp_path / "scored")]) == 0
    printed = capsys.readouterr().out
    assert "on val, 4 images" in printed and "The model was trained on" not in printed
    scored = json.loads((tmp_path / "scored/evaluate.json").read_text())
    assert scored["protocols"]["native"]["scores"]["mIoU"] == pytest.approx(ours["mIoU"], abs=1e-9)
    assert evaluate_main([path, "--split", "train"]) == 0
    assert "trained on these images" in capsys.readouterr().out
    photo = trained / "VOC2012/JPEGImages/val_000000.jpg"
    assert predict_main([path, str(photo), "--out", str(tmp_path / "predicted")]) == 0


def test_the_same_command_trains_only_what_is_missing(
    trained: Path, tmp_path: Path, no_training: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    before = found(trained)
    times = {path: path.stat().st_mtime_ns for path in trained.rglob("*.safetensors")}
    assert main(["plain.yaml", "dice.yaml", "--folds", "2", "--out", "out"]) == 0
    assert no_training == [] and found(trained) == before
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*.safetensors")} == times
    shutil.copytree(trained / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out/dice-s0-f1")
    assert main(["plain.yaml", "dice.yaml", "--folds", "2", "--out", str(tmp_path / "out")]) == 1
    assert no_training == ["dice-s0-f1"]
    assert [method["name"] for method in found(tmp_path)["methods"]] == ["plain"]  # dice has no score yet


def test_runs_of_folds_are_pooled_and_it_is_said_why_they_differ(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(trained / "out"), "--out", str(tmp_path / "files")]) == 0
    again = {method["name"]: method for method in found(tmp_path, "files")["methods"]}
    for method in found(trained)["methods"]:
        assert again[method["name"]]["values"] == method["values"]
    assert "each was scored on images that it was not trained on" in capsys.readouterr().out


def test_ensemble_names_the_command_for_folds(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(trained / f"out/plain-s0-f{fold}") for fold in range(2)]
    assert ensemble_main(runs) == 2
    _, _, typed = capsys.readouterr().err.partition("type trident compare ")
    assert shlex.split(typed) == runs
    assert main([*shlex.split(typed), "--out", str(tmp_path)]) == 0
    assert found(tmp_path, ".")["num_images"] == 6


def test_folds_by_hand_are_pooled_too(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs whose recipes name other lists: each trains on what the other is scored on."""
    for name, ids in {"a": IDS[:3], "b": IDS[3:]}.items():
        (trained / f"VOC2012/ImageSets/Segmentation/{name}.txt").write_text("\n".join(ids))
    for train, val in ("ab", "ba"):
        more = [f"data.train={train}", f"data.val={val}", f"name=m_{train}", f"output.dir={tmp_path}"]
        assert run_main([str(trained / "plain.yaml"), *more]) == 0
    assert main([str(tmp_path / "m_a"), str(tmp_path / "m_b")]) == 0
    [method] = found(tmp_path, ".")["methods"]
    assert [fold["num_images"] for fold in method["folds"]] == [3, 3]
    capsys.readouterr()
    assert main([str(tmp_path / "m_a"), str(trained / "whole")]) == 2  # that is scored on other images
    assert "its val images or labels differ" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["out/plain-s0-f0", "out/plain-s0-f1", "whole/plain"], "the runs of one are folds"),
        (["out/plain-s0-f0", "copy"], "folds of one method with one seed, 0, but both were scored on train_"),
        (["whole/plain", "copy"], "its val images or labels differ"),
    ],
)
def test_runs_that_do_not_belong_together(
    runs: list[str],
    message: str,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").symlink_to(trained / "out")
    (tmp_path / "whole").symlink_to(trained / "whole")
    shutil.copytree(trained / "out/plain-s0-f0", "copy")
    assert main([*runs, "--out", "files"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plain.yaml", "--folds", "1"], "--folds 1"),
        (["plain.yaml", "--folds", "9"], "has 6 images"),
        (["plain.yaml", "--folds", "3", "--out", "out"], "--folds 2"),
        (["plain.yaml", "--folds", "2", "--out", "out", "optimizer.lr=0.5"], "trained with optimizer.lr"),
        (["plain.yaml", "--folds", "nowhere"], "found 0 lists"),
        (["plain.yaml", "--group", "(.+)_1"], "--group is for --folds"),
        (["out", "--folds", "2"], "finished runs"),
        (["plain.yaml", "--folds", "2", "data.root=nowhere"], "nowhere"),
    ],
)
def test_wrong_input_is_exit_2_before_anything_is_written(
    arguments: list[str],
    message: str,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(trained)
    before = sorted(trained.rglob("*"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert sorted(trained.rglob("*")) == before


def test_something_else_in_the_place_of_an_ensemble_is_left_alone(
    trained: Path, tmp_path: Path, no_training: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out/plain-s0-ensemble").mkdir(parents=True)
    assert main([str(trained / "plain.yaml"), "--folds", "2", "--out", str(tmp_path / "out")]) == 2
    assert "is no ensemble" in capsys.readouterr().err and no_training == []


def test_a_fold_is_evaluated_on_the_held_out_split(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained / "out/plain-s0-f0"
    assert evaluate_main([str(run)]) == 0
    assert "3 images" in capsys.readouterr().out
    assert evaluate_main([str(run), "data.fold=null"]) == 0
    assert "4 images" in capsys.readouterr().out
    assert load_recipe(RunFolder(run).recipe).data.val == "val"
