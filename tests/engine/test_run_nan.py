"""Runs in whose batches some pixels are NaN: what is left out, said, and found again by a replay."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engine.command import main as command_line
from engine.data.augment import Augment
from engine.data.batches import Batch, TrainBatches
from engine.data.unlabelled import UnlabelledBatches
from engine.run import main
from engine.run_folder import RunFolder, sha256_of
from engine.training.checkpoint import _digest
from engine.training.step import SupervisedStep
from tests.engine.tiny_run import run_printed, tiny

make_batch = TrainBatches._batch
QUICK = ["log.to=[]", "log.images=0"]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a pixel of one sample NaN in the batch of each of these updates; `times` times in all."""

    def poison(*updates: int, times: int = 1000) -> None:
        left = [times]

        def batch_with_nan(self: TrainBatches, results: list, draws: list, augment: Augment) -> Batch:
            batch = make_batch(self, results, draws, augment)
            if any(draws == self.order.update(number - 1) for number in updates) and left[0] > 0:
                left[0] -= 1
                batch.images[2, 0, 5, 5] = torch.nan
            return batch

        monkeypatch.setattr(TrainBatches, "_batch", batch_with_nan)

    return poison


def rows(run: RunFolder, split: str) -> list[dict]:
    found = map(json.loads, run.log.read_text().splitlines())
    return [row for row in found if row["split"] == split]


def test_the_run_goes_on_without_an_update_with_nan_and_says_which_samples_it_had(
    tmp_path: Path, poison: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    poison(3)
    assert main(tiny(tmp_path, "one", *QUICK, "train.ema=0.9", "seed=5")) == 0
    said = capsys.readouterr().out
    run = RunFolder(tmp_path / "one")
    [row] = rows(run, "skipped")
    assert row["step"] == 3 and row["seed"] == 5 and row["epochs"] == [1] * 4 and len(set(row["ids"])) == 4
    assert "step 3: the loss or a gradient was NaN" in said and row["ids"][2] in said
    assert all(tensor.isfinite().all() for tensor in load_file(run.last_state).values())
    assert command_line(["diagnose", str(run.path), "--replay", "3"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not those before update 3" in said  # the two states that are kept are later
    assert f"NaN or infinite in {row['ids'][2]}." in said


def test_a_run_that_stops_prints_the_command_that_finds_the_sample_with_the_weights_of_that_update(
    tmp_path: Path, poison: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    poison(4)
    assert main(tiny(tmp_path, "one", *QUICK, "train.on_nan=stop")) == 1
    message = capsys.readouterr().err
    run = RunFolder(tmp_path / "one")
    [row] = rows(run, "skipped")
    before = sha256_of(run.last_state)
    assert run_printed(message) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "those of the run: its state of update 2, and 1 update after it" in said
    assert f"The pixels are NaN or infinite in {row['ids'][2]}." in said
    assert f"output is NaN or infinite: encoder.stages.0.embed.proj, in {row['ids'][2]}." in said
    assert "alone" not in said  # the BatchNorm of the head has spread it to all samples
    assert sha256_of(run.last_state) == before
    assert main([*tiny(tmp_path, "one", *QUICK, "train.on_nan=skip"), "--resume"]) == 0
    assert "train.on_nan: stop in the run, skip now" in capsys.readouterr().out


def test_a_replay_names_the_loss_term_and_a_gradient_that_are_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tiny(tmp_path, "one", *QUICK)) == 0
    capsys.readouterr()
    supervised = SupervisedStep.supervised

    def with_infinite_dice(self, images, labels):
        logits, terms = supervised(self, images, labels)
        return logits, terms | {"loss": terms["loss"] + torch.inf, "loss_dice": terms["loss"] + torch.inf}

    def with_infinite_gradient(self, images, labels):
        logits, terms = supervised(self, images, labels)
        return logits, terms | {"loss": terms["loss"] + (logits - logits.detach()).square().sum().sqrt()}

    for change, expected in (
        (with_infinite_dice, "Loss terms that are NaN or infinite: loss_dice"),
        (with_infinite_gradient, "The first gradient in the backward pass that is not: head.classifier"),
    ):
        monkeypatch.setattr(SupervisedStep, "supervised", change)
        assert command_line(["diagnose", str(tmp_path / "one"), "--replay", "6"]) == 0
        assert expected in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(SupervisedStep, "supervised", supervised)
    assert command_line(["diagnose", str(tmp_path / "one"), "--replay", "6"]) == 0
    assert "Nothing is NaN or infinite" in capsys.readouterr().out
    assert command_line(["diagnose", str(tmp_path / "one"), "--replay", "7"]) == 2
    assert "has the updates 1 to 6" in capsys.readouterr().err


def test_a_replay_finds_what_is_not_finite_in_unlabelled_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        Image.new("RGB", (32, 32), (50 * number, 90, 20)).save(tmp_path / f"{number}.png")
    line = f"data.unlabelled={{root: {tmp_path}, threshold: 0, ramp: 0}}"
    assert main(tiny(tmp_path / "runs", "one", *QUICK, line, "data.doctor=off")) == 0
    drawn = UnlabelledBatches._strong

    def with_nan(self: UnlabelledBatches, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        images, pasted = drawn(self, *arguments)
        images[1, 0, 5, 5] = torch.nan
        return images, pasted

    replay = ["diagnose", str(tmp_path / "runs/one"), "--replay", "6"]
    assert command_line(replay) == 0
    assert "Nothing is NaN or infinite" in capsys.readouterr().out
    monkeypatch.setattr(UnlabelledBatches, "_strong", with_nan)
    assert command_line(replay) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "output is NaN or infinite: encoder.stages.0.embed.proj, in the unlabelled images." in said
    assert "Loss terms that are NaN or infinite: unlabelled/loss." in said


def test_rollback_goes_back_once_with_half_the_rate_and_then_stops(
    tmp_path: Path, poison: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["train.on_nan=rollback", "train.max_skipped=2", "schedule.name=constant"]
    poison(5, 6, times=2)
    assert main(tiny(tmp_path, "once", *QUICK, *options)) == 0
    run = RunFolder(tmp_path / "once")
    rates = {row["step"]: row["lr"] for row in rows(run, "train")}
    assert rates[4] == rates[2] and rates[6] == rates[2] / 2
    with safe_open(run.last_state, framework="pt") as file:
        assert json.loads(file.metadata()["trident"])["lr_scale"] == 0.5
    assert [row["step"] for row in rows(run, "skipped")] == [5, 6]
    assert any("goes on from the state of update 4" in row["text"] for row in rows(run, "note"))

    poison(5, 6)
    capsys.readouterr()
    assert main(tiny(tmp_path, "twice", *QUICK, *options)) == 1
    assert "each of the updates 5 to 6" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_not_saved_over_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An update with a finite loss and gradient can still break a weight."""
    arguments = tiny(tmp_path, "one", *QUICK, "train.ema=0.9", "train.save_every=1")
    update = SupervisedStep.__call__

    def break_a_weight(self: SupervisedStep, batch: Batch) -> dict:
        metrics = update(self, batch)
        if self.count == 3:
            self.model.get_parameter("head.classifier.weight").data[0] = torch.inf
        return metrics

    with monkeypatch.context() as patched:
        patched.setattr(SupervisedStep, "__call__", break_a_weight)
        assert main(arguments) == 1
    message, run = capsys.readouterr().err, RunFolder(tmp_path / "one")
    assert "NaN or infinite at or shortly before step 3" in message and "saved before is kept" in message
    for path, step in zip(run.states, (2, 1), strict=True):
        with safe_open(path, framework="pt") as file:
            assert json.loads(file.metadata()["trident"])["step"] == step
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())
    assert main([*arguments, "--resume"]) == 0
    assert "from update 2" in capsys.readouterr().out


def with_nan(path: Path, key: str) -> None:
    """Make a value of a tensor NaN in a checkpoint or a state, with the right digest."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors[key].view(-1)[0] = torch.nan
    if "sha256" in metadata:
        metadata["sha256"] = _digest(tensors, metadata["trident"])
    save_file(tensors, path, metadata)


def test_weights_with_nan_are_refused_wherever_they_are_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tiny(tmp_path, "one", *QUICK, "train.ema=0.9")) == 0
    run = RunFolder(tmp_path / "one")
    with_nan(run.last_state, "ema/head.classifier.weight")
    capsys.readouterr()
    assert main([*tiny(tmp_path, "one", *QUICK, "train.ema=0.9"), "--resume"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "ema/head.classifier.weight has NaN" in said and "of update 4" in said

    manifest = run.read_manifest()
    best = run.path / manifest.members[0].file
    with_nan(best, "head.classifier.weight")
    manifest.members[0].sha256 = sha256_of(best)
    run.write_manifest(manifest)
    assert command_line(["evaluate", str(run.path)]) == 2
    assert f"{best}: head.classifier.weight has NaN" in capsys.readouterr().err
    command = tiny(tmp_path, "other", "model.from_scratch=false", f"model.weights={run.path}")
    assert main(command) == 2
    assert re.search("head.classifier.weight in .* has NaN", capsys.readouterr().err)
    assert not (tmp_path / "other").exists()
