"""Runs whose memory is full: the message names a setting that needs less, and what it prints works."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.command import main as command_line
from engine.recipe import load_recipe
from engine.run import main
from engine.run_folder import RunFolder, sha256_of
from engine.training import conclusion
from engine.training.step import SupervisedStep
from models.segformer import SegFormer
from tests.engine.tiny_run import run_printed, tiny

QUICK = ["log.to=[]", "log.images=0"]
OF_TORCH = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
ERRORS = [
    OF_TORCH,
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets updates raise an error from one on, where they compute more than `fits` images at once."""
    backward = SupervisedStep.backward

    def fill(error: Exception = OF_TORCH, fits: int = 2, after: int = 0) -> None:
        def limited(self: SupervisedStep, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
            if self.count >= after and len(images) > fits:
                raise error
            return backward(self, images, labels)

        monkeypatch.setattr(SupervisedStep, "backward", limited)

    return fill


@pytest.fixture
def fill_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the model predict 64 x 64 px and no more."""
    forward = SegFormer.forward

    def limited(self: SegFormer, images: Tensor) -> Tensor:
        if not self.training and images.shape[2] * images.shape[3] > 64 * 64:
            raise OF_TORCH
        return forward(self, images)

    monkeypatch.setattr(SegFormer, "forward", limited)


def same_command_with(message: str) -> list[str]:
    """What a message adds to the command."""
    typed = r"Type the same command with ([^\n]*?)(?:, or with .*| to score.*)?$"
    [lines] = re.findall(typed, message, re.MULTILINE)
    return shlex.split(lines)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:30])
def test_before_the_first_update_the_same_command_fits_with_more_parts(
    error: Exception, tmp_path: Path, fill: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(error)
    command = tiny(tmp_path, "one", *QUICK, "train.accumulate=1")
    assert main(command) == 1
    message = capsys.readouterr().err
    assert "Out of memory on cpu" in message and "4 of the 4 images of 32 px" in message
    assert "Traceback" not in message and not (tmp_path / "one").exists()
    assert same_command_with(message) == ["train.accumulate=2"]
    if error is OF_TORCH:
        assert main([*command, *same_command_with(message)]) == 0
        assert "or with train.accumulate=auto" in message
        assert main([*command, "train.accumulate=auto", "name=two"]) == 0


def test_later_a_new_run_goes_on_from_the_state_that_was_saved(
    tmp_path: Path, fill: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(after=3)
    assert main(tiny(tmp_path, "one", *QUICK)) == 1
    message, run = capsys.readouterr().err, RunFolder(tmp_path / "one")
    assert "What was saved before is intact" in message and "Traceback" not in message
    before = sha256_of(run.last_state)
    assert run_printed(message) == 0
    origin = RunFolder(tmp_path / "one-2").read_manifest().continued_from
    assert origin and origin.step == 2 and [str(change.key) for change in origin.changes] != []
    assert load_recipe(tmp_path / "one-2" / "recipe.yaml").train.accumulate == 2
    assert sha256_of(run.last_state) == before


def test_on_a_resume_too_and_there_the_folder_stays(
    tmp_path: Path, fill: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*tiny(tmp_path, "one", *QUICK), "--resume"]
    fill(after=2)
    assert main(command) == 1
    capsys.readouterr()
    assert main(command) == 1  # fails in its first update
    assert RunFolder(tmp_path / "one").states
    assert run_printed(capsys.readouterr().err) == 0


def test_a_folder_in_which_nothing_was_saved_is_one_again(
    tmp_path: Path, fill: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a run leaves it that was killed before its first state."""
    (tmp_path / "one" / "top").mkdir(parents=True)
    command = [*tiny(tmp_path, "one", *QUICK), "--resume"]
    fill()
    assert main(command) == 1
    assert main([*command, *same_command_with(capsys.readouterr().err)]) == 0


def test_an_evaluation_names_smaller_windows(
    tmp_path: Path, fill_evaluations: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tiny(tmp_path, "one", *QUICK, "data.synthetic.size=160")) == 1
    message = capsys.readouterr().err
    assert "in an evaluation; the largest image has 160 x 160 px" in message and "Traceback" not in message
    assert run_printed(message) == 0
    section = load_recipe(tmp_path / "one-2" / "recipe.yaml").eval
    assert (section.protocol, section.window, section.stride) == ("slide", 64, 48)


def test_a_dry_run_and_a_range_test_name_the_same_settings(
    tmp_path: Path,
    fill: Callable[..., None],
    fill_evaluations: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", *tiny(tmp_path, "one", *QUICK, "data.synthetic.size=160"), "--dry-run"]
    fill()
    assert command_line(command) == 1
    command += same_command_with(capsys.readouterr().err)
    assert command_line(command) == 1
    command += same_command_with(capsys.readouterr().err)
    assert command[-4:] == ["train.accumulate=2", "eval.protocol=slide", "eval.window=64", "eval.stride=48"]
    assert command_line(command) == 0

    capsys.readouterr()
    command = ["lr_find", *tiny(tmp_path, "one", *QUICK), "--steps", "20"]
    assert command_line(command) == 1
    assert command_line([*command, *same_command_with(capsys.readouterr().err)]) == 0


def test_the_final_scoring_is_repeated_with_fewer_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    score_together, most = conclusion.score_together, 1

    def limited(candidates: list, *rest: object) -> dict:
        if len(candidates) > most:
            raise OF_TORCH
        return score_together(candidates, *rest)

    monkeypatch.setattr(conclusion, "score_together", limited)
    command = tiny(tmp_path, "one", *QUICK)
    assert main(command) == 1
    message = capsys.readouterr().err
    assert "The training is done" in message and "Traceback" not in message
    assert main([*command, *same_command_with(message)]) == 0
    most = 0
    assert main([*command, "--resume", "keep.top=1"]) == 1
    [printed] = re.findall(r"^trident (evaluate .*)$", capsys.readouterr().err, re.MULTILINE)
    assert command_line(shlex.split(printed)) == 0
