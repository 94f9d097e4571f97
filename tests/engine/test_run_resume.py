"""A run that was stopped, killed, or damaged, or whose disk fails: `--resume` and what is said."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.command import main as command_line
from engine.recipe import load_recipe
from engine.run import main
from engine.run_folder import RunFolder
from tests.engine.tiny_run import ADVERSARIAL, run_printed, tiny
from tests.processes import python

GROWING = "augment.progressive=[{crop: 16, until: 3}, {crop: 24, until: 5}]"
TRAINING = [*ADVERSARIAL, "train.ema=0.9", GROWING]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished adversarial run with a moving average, and crops that grow before updates 3 and 5."""
    folder = tmp_path_factory.mktemp("checkpoints")
    assert main(tiny(folder, "whole", *TRAINING)) == 0
    return RunFolder(folder / "whole")


def test_resume_is_bitwise(run: RunFolder, tmp_path: Path) -> None:
    """Stopped by a signal and resumed, with TensorBoard: the same weights as without both."""
    arguments = tiny(tmp_path, "whole", *TRAINING, "log.to=[tensorboard]")
    stopped = python("-c", STOPS_ITSELF, *arguments)
    assert stopped.returncode == 1, stopped.stderr
    assert "--resume" in stopped.stderr
    again = RunFolder(tmp_path / "whole")
    assert not again.report.exists()
    assert main([*arguments, "--resume"]) == 0
    for name in ("last/state.safetensors", "top/step-0000006.safetensors"):
        one, two = load_file(run.path / name), load_file(again.path / name)
        assert one.keys() == two.keys()
        assert [key for key in one if not torch.equal(one[key], two[key])] == []
    rows = [json.loads(line) for line in again.log.read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] != "note"] == [2, 2, 4, 4, 6, 6]


STOPS_ITSELF = f"""
import os, signal, sys
from engine.training.step import SupervisedStep
update = SupervisedStep.__call__
def update_then_stop(self, batch):
    metrics = update(self, batch)
    if self.count == 3:
        os.kill(os.getpid(), signal.{signal.SIGINT.name})
    return metrics
SupervisedStep.__call__ = update_then_stop
from engine.run import main
sys.exit(main(sys.argv[1:]))
"""


KILLS_ITSELF = """
import os, signal, sys
from engine.run_folder import RunFolder
from engine.training import start, train
def kill(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)
setattr({where}, "{what}", kill)
from engine.run import main
sys.exit(main(sys.argv[1:]))
"""
BEFORE_A_STATE = [("RunFolder", "write_manifest"), ("start", "write_text"), ("start", "save_state")]


@pytest.mark.parametrize("place", [*BEFORE_A_STATE, ("train", "fit"), ("train.TopKeeper", "offer")])
def test_one_command_goes_on_wherever_the_run_was_killed(
    run: RunFolder, tmp_path: Path, place: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*tiny(tmp_path, "whole", *TRAINING), "--resume"]
    code = KILLS_ITSELF.format(where=place[0], what=place[1])
    assert python("-c", code, *command).returncode == -signal.SIGKILL
    again = RunFolder(tmp_path / "whole")
    assert main(command) == 0
    said = "nothing was saved there, so the run starts" if place in BEFORE_A_STATE else "going on from"
    assert f"--resume: {again.path}: {said}" in capsys.readouterr().out
    one, two = load_file(run.last_state), load_file(again.last_state)
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    rows = [json.loads(line) for line in again.log.read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] != "note"] == [2, 2, 4, 4, 6, 6]


KILLS_ITSELF_IN_UPDATE_5 = STOPS_ITSELF.replace("self.count == 3", "self.count == 5").replace(
    "SIGINT", "SIGKILL"
)


def test_a_killed_run_loses_what_is_after_its_last_saving_only(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rare = ["eval.every=6", "train.save_every=1"]
    command = [*tiny(tmp_path, "whole", *TRAINING, *rare), "--resume"]
    assert python("-c", KILLS_ITSELF_IN_UPDATE_5, *command).returncode == -signal.SIGKILL
    assert main(command) == 0
    assert re.search(r"from update [34]\n", capsys.readouterr().out)  # that of update 4 was being written
    again = RunFolder(tmp_path / "whole")
    one, two = load_file(run.last_state), load_file(again.last_state)
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    train_rows = [
        row for row in map(json.loads, again.log.read_text().splitlines()) if row["split"] == "train"
    ]
    assert [row["step"] for row in train_rows] == [2, 4, 6]
    assert train_rows[0]["save_time"] > 0 and train_rows[2]["save_time"] > 0


def test_a_damaged_state_falls_back_to_the_one_before_and_without_one_a_command_works(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = RunFolder(Path(shutil.copytree(run.path, tmp_path / "whole")))
    command = [*tiny(tmp_path, "whole", *TRAINING), "--resume"]
    content = again.last_state.read_bytes()
    again.last_state.write_bytes(content[:-100] + bytes(100))
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "state.damaged; the run goes on from the state before it, of update 4" in said
    one, two = load_file(run.last_state), load_file(again.last_state)
    assert [key for key in one if not torch.equal(one[key], two[key])] == []

    for path in again.states:
        path.write_bytes(b"")
    assert main(command) == 2
    assert run_printed(capsys.readouterr().err) == 0
    assert RunFolder(tmp_path / "whole-2").read_manifest().finished


def test_a_start_where_nothing_was_saved_names_the_command_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = tiny(tmp_path, "again")
    assert main(command) == 0
    folder = RunFolder(tmp_path / "again")
    folder.write_manifest(folder.read_manifest().model_copy(update={"members": [], "finished": False}))
    for path in (*folder.top.iterdir(), *folder.states):
        path.unlink()
    assert main(command) == 2
    assert "Nothing was saved in it: add --resume to the same command" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert folder.read_manifest().finished


def test_resume_with_another_recipe_is_refused(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*tiny(run.path.parent, "whole", *TRAINING, "train.ema=0.8"), "--resume"]) == 2
    printed = capsys.readouterr().err
    assert "train.ema: 0.9 in the run, 0.8 now" in printed
    assert f"this run: {run.command_of_another()}" in printed


def test_resume_may_log_more_often(run: RunFolder) -> None:
    again = tiny(run.path.parent, "whole", *TRAINING, "log.every=1")
    assert main([*again, "--resume"]) == 0


FAILS_TO_WRITE = """
import errno, os, resource, sys
import engine.reporting.log_files as log_files
from engine.training.step import SupervisedStep
limit, number, where = {limit}, {number}, "{where}"
update = SupervisedStep.__call__
def update_then_fail(self, batch):
    metrics = update(self, batch)
    if self.count == 3:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        else:
            sys.addaudithook(refuse)
    return metrics
def refuse(event, arguments):
    if event in ("open", "os.rename") and str(arguments[event == "os.rename"]).endswith("/whole/" + where):
        raise OSError(number, os.strerror(number))
SupervisedStep.__call__ = update_then_fail
from engine.run import main
sys.exit(main(sys.argv[1:]))
"""
DISK_ERRORS = {
    "EFBIG in the log": (400, 0, "log.jsonl"),
    "EFBIG in a checkpoint": (9000, 0, r"(top/step-0000004|last/state)\.safetensors"),
    "ENOSPC": (0, errno.ENOSPC, "last/state.safetensors"),
    "EIO": (0, errno.EIO, "manifest.json"),
    "ESTALE": (0, errno.ESTALE, "scores.h5"),
    "EPERM": (0, errno.EPERM, "report.html"),
}
SLOW = ("ESTALE", "EPERM")  # another number at another file; benchmarks/faults.py has all


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in DISK_ERRORS],
)
def test_an_error_of_the_disk_is_one_message_and_the_run_goes_on(
    run: RunFolder, tmp_path: Path, case: str
) -> None:
    limit, number, where = DISK_ERRORS[case]
    command = tiny(tmp_path, "whole", *TRAINING)
    code = FAILS_TO_WRITE.format(limit=limit, number=number, where=where)
    failed = python("-c", code, *command)
    number = number or errno.EFBIG
    message = f"trident run: {tmp_path}/whole/{where}: {os.strerror(number)}\\. .*--resume"
    assert [line for line in failed.stderr.splitlines() if re.match(message, line)], failed.stderr
    assert "Traceback" not in failed.stderr
    assert failed.returncode == (2 if case == "EPERM" else 1)
    assert main([*command, "--resume"]) == 0
    one, two = load_file(run.last_state), load_file(tmp_path / "whole/last/state.safetensors")
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_a_damaged_checkpoint_is_named_at_the_start_of_a_resume_and_the_remedy_works(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = RunFolder(Path(shutil.copytree(run.path, tmp_path / "whole")))
    members = again.read_manifest().members
    damaged = again.path / members[1].file
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-100] + bytes(100))
    command = [*tiny(tmp_path, "whole", *TRAINING), "--resume"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert f"{damaged} was altered or truncated" in said
    subprocess.run(shlex.split(re.search("without this checkpoint: (mv .*)", said)[1]), check=True)
    rows = again.log.read_text().splitlines(keepends=True)
    again.log.write_text("".join(row for row in rows if '"step": 2, "split": "val"' not in row))
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"{damaged} is missing, so step {members[1].step} is no longer among the best" in said
    assert f"{again.log} lacks the val rows of 1 update up to 6, from 2 to 2" in said
    assert [member.step for member in again.read_manifest().members] == [
        member.step for member in members if member != members[1]
    ]


def test_a_file_of_a_finished_run_that_was_altered_is_made_again_by_the_command_of_the_message(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the folder has another name than its run."""
    again = RunFolder(Path(shutil.copytree(run.path, tmp_path / "renamed")))
    scored = json.loads(again.ensemble.read_text())
    scored["members"][0]["mIoU"] = 0.999
    again.ensemble.write_text(json.dumps(scored))
    shutil.copy(run.report, again.scores)
    for command in (["diagnose", str(again.path)], ["report", str(again.path)]):
        assert command_line(command) == 2
        message = capsys.readouterr().err
        assert "was altered or truncated" in message
    assert run_printed(message) == 0
    of_members, before = (json.loads(folder.ensemble.read_text())["members"] for folder in (again, run))
    assert [member["mIoU"] for member in of_members] == [member["mIoU"] for member in before]
    assert again.read_manifest().name == load_recipe(again.recipe).name == "renamed"
    assert command_line(["report", str(again.path)]) == 0


def test_an_altered_log_of_an_unfinished_run_is_refused_and_the_command_of_the_message_goes_on(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = RunFolder(Path(shutil.copytree(run.path, tmp_path / "whole")))
    manifest = again.read_manifest().model_copy(update={"finished": False, "files": {}})
    again.write_manifest(manifest)
    lines = again.log.read_text().splitlines(keepends=True)
    again.log.write_text("".join([lines[1], lines[0], *lines[2:]]))
    for command in (["diagnose", str(again.path)], ["report", str(again.path)]):
        assert command_line(command) == 2
        message = capsys.readouterr().err
        assert f"{again.log} was altered" in message
    program, *typed = shlex.split(message.splitlines()[-1].partition("go on with the run: ")[2])
    assert program == "trident" and command_line(typed) == 0
    assert f"{again.log} was altered after the state was saved" in capsys.readouterr().out
    assert command_line(["report", str(again.path)]) == 0


@pytest.mark.parametrize("name", ["manifest.json", "recipe.yaml"])
def test_an_altered_manifest_or_recipe_is_refused_and_can_be_used_as_it_is(
    run: RunFolder, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    again = RunFolder(Path(shutil.copytree(run.path, tmp_path / "whole")))
    path = again.path / name
    path.write_text(path.read_text().replace("starfish", "seahorse").replace("seed: 0", "seed: 1"))
    assert command_line(["report", str(again.path)]) == 2
    message = capsys.readouterr().err
    assert f"{path} was altered" in message and '"sha256": null' in message
    content = json.loads(again.manifest.read_text())
    content["sha256"] = None
    content["files"].pop("recipe.yaml")
    again.manifest.write_text(json.dumps(content))
    assert again.read_manifest().class_names[2] == ("seahorse" if name == "manifest.json" else "starfish")


def test_another_score_in_the_manifest_than_in_the_checkpoint_is_refused(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = RunFolder(Path(shutil.copytree(run.path, tmp_path / "whole")))
    manifest = json.loads(again.manifest.read_text())
    score = manifest["members"][1]["scores"]["mIoU"]
    manifest["members"][1]["scores"]["mIoU"] = 0.999
    again.manifest.write_text(json.dumps(manifest))
    assert command_line(["report", str(again.path)]) == 2
    said = capsys.readouterr().err
    assert "members.1.scores.mIoU is 0.999" in said and f"saved with {score}. Correct that number" in said


def test_what_a_killed_save_left_is_swept_at_the_next_start(run: RunFolder, tmp_path: Path) -> None:
    again = RunFolder(Path(shutil.copytree(run.path, tmp_path / "whole")))
    left = [again.path / "last/.tmpAb3xY9", again.path / "scores.h5.part", again.path / "top/.tmpAb3xY9"]
    for path in (*left, again.path / "mine.part"):
        path.write_bytes(b"half")
    assert main([*tiny(tmp_path, "whole", *TRAINING), "--resume"]) == 0
    assert not any(path.exists() for path in left) and (again.path / "mine.part").exists()
