"""`trident ensemble RUNS --distill OUT` on a finished run: teacher, student, and the table of both."""

import json
import re
import shlex
import shutil
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.command import main as command_line
from engine.data.sample import DataError
from engine.ensemble import main
from engine.recipe import load_recipe
from engine.reporting.callbacks import Callback
from engine.run import main as run_main
from engine.run_folder import RunFolder
from engine.scoring.run import Run
from engine.scoring.trained import open_trained
from engine.training.student import Student
from engine.training.train import train
from tests.engine.tiny_run import tiny

CPU = torch.device("cpu")
NARROW = "model.decoder_width=32"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two checkpoints on drawn scenes."""
    folder = tmp_path_factory.mktemp("trained")
    assert run_main(tiny(folder, "r", "train.steps=4", "keep.top=2", "log.images=0")) == 0
    return folder / "r"


@pytest.fixture(scope="module")
def distilled(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("distilled") / "out"
    values = [NARROW, "train.steps=2", "eval.flip=true", "distill.weight=2.0", "distill.temperature=2.0"]
    assert main([str(trained), "--distill", str(out), *values]) == 0
    return out


def test_the_student_has_the_recipe_of_the_best_members_run_and_the_values(
    trained: Path, distilled: Path
) -> None:
    before, student = load_recipe(trained / "recipe.yaml"), load_recipe(distilled / "student.yaml")
    assert student.distill is not None
    assert student.distill.teacher == str(distilled / "teacher")
    assert (student.distill.weight, student.distill.temperature) == (2.0, 2.0)
    assert (student.model.decoder_width, student.train.steps, student.eval.flip) == (32, 2, True)
    assert (student.augment, student.loss, student.optimizer) == (
        before.augment,
        before.loss,
        before.optimizer,
    )
    run = Run(distilled / "student")
    assert run.manifest.finished and run.recipe == student
    lines = (distilled / "student.yaml").read_text().splitlines()
    assert "# learning from a trained teacher; null is off" in lines


def test_the_three_are_scored_alike_and_compared_image_by_image(trained: Path, distilled: Path) -> None:
    table = json.loads((distilled / "distill.json").read_text())
    assert table["dataset"] == {"split": "val", "num_images": 5} and table["protocol"]["flip"]
    ensemble, student, best = (table["contestants"][name] for name in ("ensemble", "student", "best member"))
    assert (ensemble["forward_passes"], student["forward_passes"], best["forward_passes"]) == (2, 1, 1)
    assert ensemble["num_parameters"] == 2 * best["num_parameters"] > 2 * student["num_parameters"]
    manifest = Run(distilled / "student").manifest
    assert student["num_parameters"] == manifest.num_parameters
    # each as its own command scored it, under the same protocol
    assert student["mIoU"] == pytest.approx(manifest.members[0].scores["mIoU"], abs=1e-6)
    by_command = json.loads((trained / "ensemble.json").read_text())
    assert by_command["protocol"] == table["protocol"]
    assert ensemble["mIoU"] == pytest.approx(by_command["ensembles"]["mean"]["mIoU"], abs=1e-12)
    assert best["mIoU"] == pytest.approx(max(one["mIoU"] for one in by_command["members"]), abs=1e-12)
    assert student["to_ensemble"]["value"] == pytest.approx(student["mIoU"] - ensemble["mIoU"], abs=1e-12)
    assert ensemble["to_ensemble"]["value"] == 0
    assert all(one["images_per_second"] > 0 for one in table["contestants"].values())
    assert len(open_trained(distilled / "teacher", CPU).members) == 2


class StopAfter2(Callback):
    def on_step(self, step: int) -> None:
        if step == 2:
            signal.raise_signal(signal.SIGTERM)


def test_the_same_command_goes_on_with_a_student_that_was_stopped(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = trained.parent / "out"  # below the folder of the runs: neither is a member of the other
    command = [str(trained.parent), "--distill", str(out), "train.steps=4", "log.every=1", "eval.every=4"]
    with monkeypatch.context() as patch:
        patch.setattr("engine.training.student.train", partial(train, callbacks=[StopAfter2()]))
        assert main(command) == 1
    assert "Stopped after step 2" in (said := capsys.readouterr().err)
    assert "add --resume to the same command" in said
    teacher = {path: path.stat().st_mtime_ns for path in (out / "teacher").rglob("*")}
    assert main([*command, "--resume"]) == 0  # as the message says; the flag changes nothing
    assert [row["step"] for row in Run(out / "student").train_rows] == [1, 2, 3, 4]
    state = (out / "student/top/step-0000004.safetensors").read_bytes()
    assert main(command) == 0  # finished: only the table is made again
    assert (out / "student/top/step-0000004.safetensors").read_bytes() == state
    assert {path: path.stat().st_mtime_ns for path in (out / "teacher").rglob("*")} == teacher

    capsys.readouterr()
    assert main([*command, "--top", "1", "--method", "soup_greedy"]) == 2
    assert main([*command, "--top", "2", "--method", "mean_logit"]) == 2
    assert main([*command, "--early-exit", "0.9"]) == 2
    said = capsys.readouterr().err
    assert said.count("differs from the ensemble") == 2
    typed, again = re.findall(r"trident (run .+ --resume)$", said, re.MULTILINE)
    assert typed == again and command_line(shlex.split(typed)) == 0


def test_a_student_alone_is_no_ensemble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student/manifest.json").touch()
    assert main([str(tmp_path), "--distill", str(tmp_path)]) == 2
    assert f"{tmp_path}/student is the student of --distill {tmp_path}: name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["name=b"], "Leave it out"),
        (["distill.teacher=x"], "Leave it out"),
        (["distill=null"], "distill.weight=2.0"),
        (["model.decoder_widht=2"], "did you mean decoder_width"),
        (["data.bands=4"], "a finished run cannot be changed"),
        (["--top", "1"], "nothing to combine"),
        (["--distill", "{folder}"], "is not empty, and was not made by --distill"),
        (["--distill", "{folder}/recipe.yaml"], "is a file"),
        (["--distill", "{folder}/recipe.yaml/out"], "is a file, not a folder"),
    ],
)
def test_wrong_input_is_exit_2_before_anything_is_written(
    trained: Path, tmp_path: Path, values: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    values = [text.format(folder=trained) for text in values]
    assert main([str(trained), "--distill", str(tmp_path / "new"), *values]) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not (tmp_path / "new").exists()
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


@pytest.fixture
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The student is not trained, and so not compared."""
    monkeypatch.setattr("engine.training.student.Student.train", lambda *_: None)
    for name in ("open_contestants", "compare_contestants"):
        monkeypatch.setattr(f"engine.reporting.contestants_table.{name}", lambda *_: None)


@pytest.mark.usefixtures("nothing_is_trained")
def test_another_recipe_in_the_same_folder_is_refused_and_a_new_folder_or_its_removal_works(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, new = tmp_path / "out", tmp_path / "new"
    assert main([str(trained), "--distill", str(out), "train.steps=3"]) == 0
    assert main([str(trained), "--distill", str(out), "train.steps=5"]) == 2
    said = capsys.readouterr().err
    assert "train.steps" in said and f"remove {out / 'student.yaml'}" in said
    assert load_recipe(out / "student.yaml").train.steps == 3
    assert main([str(trained), "--distill", str(new), "train.steps=5"]) == 0
    (out / "student.yaml").unlink()
    assert main([str(trained), "--distill", str(out), "train.steps=5"]) == 0
    assert load_recipe(out / "student.yaml").train.steps == 5


@pytest.mark.usefixtures("nothing_is_trained")
def test_a_teacher_that_was_half_written_or_damaged_is_named_and_its_removal_works(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(trained), "--distill", str(tmp_path / "out")]
    (tmp_path / "out/teacher.part/members").mkdir(parents=True)  # as a killed process leaves it
    assert main(command) == 2
    remedy = re.search(r"\(rm -r (.+)\)", capsys.readouterr().err)
    assert remedy and remedy[1] == str(tmp_path / "out/teacher.part")
    shutil.rmtree(remedy[1])
    assert main(command) == 0 and (tmp_path / "out/student.yaml").is_file()

    teacher = tmp_path / "out/teacher"
    next(teacher.glob("members/*.safetensors")).unlink()
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr()
    assert f"Or remove the folder {teacher}:" in said.err and "found 1 run" not in said.out
    shutil.rmtree(teacher)
    assert main(command) == 0 and teacher.is_dir()


def test_resume_is_for_a_student_and_a_student_for_one_process(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(trained), "--resume"]) == 2
    assert "leave it out" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([str(trained), "--distill", str(tmp_path / "new")]) == 2
    assert "without torchrun" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_classes_that_overlap_are_not_taught(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.recipe.write_text("name: r\ndata: {format: folder, root: x, classes: [a, b], labels: multi}\n")
    with pytest.raises(DataError, match=r"--distill is for data.labels: single; .* Leave --distill out"):
        Student.planned(tmp_path / "out", SimpleNamespace(run=run), [])  # type: ignore[arg-type]
