"""Runs with train.compile: max, on the CPU with a recorder that cannot record."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.run import main
from engine.run_folder import RunFolder
from engine.training import build_step, inputs
from tests.engine.tiny_run import tiny
from tests.engine.training.recorder import OperationsOfTheCPU


class Failing(OperationsOfTheCPU):
    def record(self, work: Callable[[], object]) -> tuple[object, Callable[[], None]]:
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("eval_every", [2, 6])  # a state is saved before the recording, or none is
def test_what_is_typed_where_an_update_cannot_be_recorded_works(
    eval_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inputs, "_require_recordable", lambda recipe, process: None)  # there is no GPU
    monkeypatch.setattr(build_step, "compiled", lambda model, process, mode: model)  # takes long
    monkeypatch.setattr(build_step, "CudaGraphs", lambda device: Failing())
    command = tiny(tmp_path, "one", "log.images=0", f"eval.every={eval_every}")
    assert main([*command, "train.compile=max"]) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "stream is capturing. Type the same command with train.compile=true, and" in message
    assert "if the folder of the run is there, with --resume." in message
    run = RunFolder(tmp_path / "one")
    assert run.path.exists()
    assert main([*command, "train.compile=max", "train.compile=true", "--resume"]) == 0
    assert run.is_finished
