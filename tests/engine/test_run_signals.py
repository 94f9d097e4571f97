"""What reaches a whole process group, and readers of the output that go away: the run saves or goes on."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from engine.run import main
from engine.run_folder import RunFolder
from tests.engine.tiny_run import tiny
from tests.processes import Python, python

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]
STOPS_ITS_GROUP = """
import os, sys
from engine.training.step import SupervisedStep
number, *arguments = sys.argv[1:]
update = SupervisedStep.__call__
def update_then_stop(self, batch):
    metrics = update(self, batch)
    if self.count == 3:
        os.killpg(0, int(number))
    return metrics
SupervisedStep.__call__ = update_then_stop
from engine.run import main
sys.exit(main(arguments))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    for split, number in (("train", 8), ("val", 3)):
        for index in range(number):
            for kind, shape, most in (("images", (32, 32, 3), 256), ("masks", (32, 32), 2)):
                folder = root / split / kind
                folder.mkdir(parents=True, exist_ok=True)
                pixels = noise.integers(0, most, shape).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def command(photos: Path, folder: Path, *more: str) -> list[str]:
    """A run whose images are read by two processes."""
    data = ["data.format=folder", f"data.root={photos}", "data.classes=[no, yes]", "data.synthetic=null"]
    scenes = "data.synthetic."
    options = [option for option in tiny(folder, "run") if not option.startswith(scenes)]
    return [*options, *data, "data.workers=2", "data.resident=disk", "log.to=[]", *more]


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("whole")
    assert main(command(photos, folder)) == 0
    return RunFolder(folder / "run")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_group_saves_the_state(
    photos: Path, whole: RunFolder, tmp_path: Path, number: signal.Signals
) -> None:
    stopped = python("-c", STOPS_ITS_GROUP, str(int(number)), *command(photos, tmp_path))
    error = stopped.stderr
    assert stopped.returncode == 1, error
    assert "Stopped after step 3" in error and "--resume" in error and "Traceback" not in error
    assert main([*command(photos, tmp_path), "--resume"]) == 0
    one, two = (load_file(folder / "last/state.safetensors") for folder in (whole.path, tmp_path / "run"))
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_the_training_leaves_nothing_and_says_so(
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = signal.getsignal(number)
    monkeypatch.setattr("engine.training.train.build_session", lambda *_: signal.raise_signal(number))
    assert main(tiny(tmp_path, "run")) == 1
    assert "Stopped before anything was saved. To start again, type the same" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [] and signal.getsignal(number) is handler


def test_a_signal_while_the_end_is_scored_loses_no_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, arguments = RunFolder(tmp_path / "run"), tiny(tmp_path, "run", "log.to=[]", "train.steps=2")
    with monkeypatch.context() as patched:
        patched.setattr(
            "engine.training.conclusion.score_together", lambda *_: signal.raise_signal(signal.SIGTERM)
        )
        assert main(arguments) == 1
        assert "The training is done" in (said := capsys.readouterr().err) and "--resume" in said
        before = {path: path.read_bytes() for path in (run.last_state, *run.top.iterdir())}
        assert len(before) == 2 and not run.read_manifest().finished
        assert main([*arguments, "--resume"]) == 1  # as often as it is repeated
        patched.undo()
        patched.setattr("engine.training.step.SupervisedStep.__call__", lambda *_: 1 / 0)
        assert main([*arguments, "--resume"]) == 0  # without an update
    assert run.read_manifest().finished and run.report.is_file() and run.scores.is_file()
    assert {path: path.read_bytes() for path in before} == before


def test_a_closed_pipe_ends_the_output_not_the_run(photos: Path, tmp_path: Path) -> None:
    (ours, theirs), errors = os.pipe(), (tmp_path / "errors").open("w")
    with errors:
        process = Python("-m", "engine.run", *command(photos, tmp_path), outputs=(theirs, errors.fileno()))
    os.close(theirs)
    with open(ours) as output:
        assert output.readline()
    code, error = process.end().returncode, Path(errors.name).read_text()
    assert code == 0 and "Traceback" not in error and "BrokenPipe" not in error, error
    assert (tmp_path / "run/report.html").exists()


def test_a_vanished_terminal_ends_the_output_not_the_run(photos: Path, tmp_path: Path) -> None:
    """The output is a terminal whose other end is closed: writing to it is an I/O error."""
    ours, theirs = os.openpty()
    process = Python("-m", "engine.run", *command(photos, tmp_path), outputs=(theirs, theirs))
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    assert process.end().returncode == 0
    assert (tmp_path / "run/report.html").exists()
