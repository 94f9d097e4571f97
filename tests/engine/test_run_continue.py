"""A new run from the state of another one, and a resume with values that never change an update."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from engine.command import main as command_line
from engine.recipe import load_recipe
from engine.run import main
from engine.run_folder import RunFolder
from engine.scoring.trained import find_checkpoint
from tests.engine.tiny_run import ADVERSARIAL, run_printed, tiny

OPTIONS = ["schedule.name=wsd", "schedule.decay=0", "train.ema=0.9", "log.to=[]", "log.images=0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("checkpoints")
    assert main(tiny(folder, "short", *OPTIONS)) == 0
    return RunFolder(folder / "short")


def test_a_longer_run_from_a_state_is_bitwise_the_one_that_was_that_long_from_its_start(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*OPTIONS, "train.steps=10", "schedule.decay=3"]  # a stable phase that is prolonged, and decays
    assert main(tiny(tmp_path, "whole", *options)) == 0
    capsys.readouterr()
    command = tiny(tmp_path, "longer", *options, "keep.top=2")
    command += ["--continue-from", str(run.path), "--resume"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "train.steps: 6 in the run, 10 now" in said and "from update 6" in said
    longer, whole = RunFolder(tmp_path / "longer"), RunFolder(tmp_path / "whole")
    one, two = load_file(longer.last_state), load_file(whole.last_state)
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    origin = longer.read_manifest().continued_from
    assert origin and origin.run_id == run.read_manifest().run_id and origin.step == 6
    changed = {change.key: (change.before, change.now) for change in origin.changes}
    assert changed["train.steps"] == (6, 10) and changed["keep.top"] == (3, 2)
    steps = [json.loads(line)["step"] for line in longer.log.read_text().splitlines()]
    assert min(steps) == 8

    assert main(command) == 0  # the same command goes on from its own state
    said = capsys.readouterr().out
    assert "going on from its saved state" in said and "lacks" not in said

    late = tiny(tmp_path, "late", *OPTIONS, "train.steps=11", "--continue-from", str(longer.path))
    assert main(late) == 0
    assert "saved in the decay of its schedule, so the rate rises again" in capsys.readouterr().out


def test_settings_are_those_of_the_new_recipe_and_new_parts_start_anew(
    run: RunFolder, tmp_path: Path
) -> None:
    options = ["schedule.name=constant", "train.steps=8", "optimizer.lr=1e-3", "optimizer.weight_decay=0.5"]
    command = tiny(tmp_path, "other", *options, *ADVERSARIAL, "model.dropout=0.1")
    assert main([*command, "--continue-from", str(run.path)]) == 0
    [row] = [
        row
        for row in map(json.loads, (tmp_path / "other/log.jsonl").read_text().splitlines())
        if row["split"] == "train"
    ]
    recipe = load_recipe(tmp_path / "other/recipe.yaml")
    assert row["base_lr"] == pytest.approx(1e-3)
    assert row["lr"] == pytest.approx(1e-3 * recipe.optimizer.head_lr_mult)
    assert "adv/d_loss" in row
    state = load_file(tmp_path / "other/last/state.safetensors")
    assert not any(key.startswith("ema/") for key in state)


def test_a_dry_run_counts_the_rest_and_refuses_what_does_not_fit(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = tiny(tmp_path, "longer", *OPTIONS, "train.steps=10", "eval.every=4")
    command = [*longer, "--dry-run", "--continue-from"]
    assert main([*command, str(run.path)]) == 0
    said = capsys.readouterr().out
    assert f"goes on from {run.path}" in said and "2 times" in said  # evaluations, after updates 8 and 10
    assert main([*command, str(run.path), "optimizer.name=sgd"]) == 2
    assert "its state does not fit this recipe" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "longer").exists()


def test_a_state_that_does_not_fit_is_refused_before_anything_is_made_and_the_remedy_works(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["--continue-from", str(run.path)]
    longer = tiny(tmp_path, "new", *OPTIONS, "train.steps=8")
    for changes, differs in (
        (["optimizer.name=sgd"], "optimizer.name: adamw in the run, sgd now"),
        (["model.decoder_width=64"], "model.decoder_width"),
        (["train.steps=6"], "is that of update 6, and this training ends at 6"),
        (["optimizer.layer_decay=0.9"], "optimizer.layer_decay: 1.0 in the run, 0.9 now"),
        ([f"output.dir={run.path.parent}", "name=short"], "needs a name of its own: add name=short-2"),
    ):
        assert main([*longer, *changes, *start]) == 2
        message = capsys.readouterr().err
        assert differs in message
        assert not (tmp_path / "new").exists()
    assert main([*longer, "optimizer.name=sgd", *start]) == 2
    remedy = capsys.readouterr().err.rpartition("and with ")[2].split()
    assert main([*longer, "optimizer.name=sgd", *remedy]) == 0


@pytest.mark.parametrize(
    ("now", "differs"),
    [
        (["model.freeze=encoder"], "model.freeze: null in the run, encoder now"),
        (["data.classes=[sky, path, car]"], "classes: sky, road in the run, sky, path, car now"),
    ],
    ids=["freeze", "classes"],
)
def test_another_freeze_or_other_classes_are_refused_and_the_remedy_works(
    now: list[str], differs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, photos = tmp_path / "my runs", draw_photos(tmp_path / "photos")
    common = [option for option in tiny(runs, "old") if "synthetic" not in option]
    common += ["data.format=folder", f"data.root={photos}", "data.synthetic=null", "data.classes=[sky, road]"]
    common += ["train.steps=2", "train.batch=2", "log.to=[]", "log.images=0"]
    assert main(common) == 0
    other = [*common, *now, "train.steps=4", "name=new"]
    capsys.readouterr()
    assert main([*other, "--continue-from", str(runs / "old")]) == 2
    message = capsys.readouterr().err
    assert differs in message and not (runs / "new").exists()
    remedy = shlex.split(message.rpartition("and with ")[2])
    assert remedy[0] == "model.from_scratch=false" and main([*other, *remedy]) == 0


def draw_photos(root: Path) -> Path:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(2):
            pixels = np.random.default_rng(index).integers(0, 2, (32, 32)).astype(np.uint8)
            Image.fromarray(100 * pixels).convert("RGB").save(root / split / f"images/{index}.png")
            Image.fromarray(pixels).save(root / split / f"masks/{index}.png")
    return root


def test_without_an_intact_state_the_message_has_a_command_that_works(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = RunFolder(Path(shutil.copytree(run.path, tmp_path / "old")))
    command = [*tiny(tmp_path, "new", *OPTIONS, "train.steps=8"), "--continue-from", str(old.path)]
    for path in old.states:
        path.write_bytes(b"")
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "is damaged" in message and run_printed(message) == 0
    for path in old.states:
        path.unlink()
    assert main(command) == 2
    assert "it has no state" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_resume_may_change_what_never_changes_an_update_and_deletes_nothing(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = RunFolder(Path(shutil.copytree(run.path, tmp_path / "short")))
    files = sorted(again.top.iterdir())
    assert len(files) == 3
    free = ["keep.top=1", "keep.metric=mAcc", "eval.every=3", "log.every=1", "data.workers=1"]
    free += ["train.save_every=2", "train.timeout=5 min"]
    assert main([*tiny(tmp_path, "short", *OPTIONS, *free), "--resume"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for key, before, now in (("keep.top", 3, 1), ("eval.every", 2, 3), ("data.workers", "auto", 1)):
        assert f"{key}: {before} in the run, {now} now" in said
    assert said.count("is no longer among the best; the file stays") == 2
    assert sorted(again.top.iterdir()) == files
    manifest = again.read_manifest()
    assert len(manifest.members) == 1 and manifest.metric == "mAcc"
    assert manifest.resumed[0].step == 6
    assert load_recipe(again.recipe).keep.top == 1
    assert "lacks" not in said
    assert main([*tiny(tmp_path, "short", *OPTIONS, *free), "--resume"]) == 0
    assert "changed in its recipe" not in capsys.readouterr().out
    one, two = load_file(run.last_state), load_file(again.last_state)
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_a_resumed_run_keeps_and_verifies_the_same_tail(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tail = ["keep.tail=3", "keep.tail_every=1", "train.ema_widths=[0.05,0.1]"]
    command = tiny(tmp_path, "tail", *OPTIONS, *tail)
    assert main(command) == 0
    again = RunFolder(tmp_path / "tail")
    assert [member.step for member in again.read_manifest().tail] == [4, 5, 6]
    state = load_file(run.last_state)  # of a run without a tail
    latest = load_file(again.tail / "step-0000006.safetensors")
    assert [key for key, value in latest.items() if not torch.equal(value, state[f"ema/{key}"])] == []
    average = load_file(again.tail / "step-0000006-width-0.1.safetensors")
    state = load_file(again.last_state)
    assert [key for key, value in average.items() if not torch.equal(value, state[f"ema_0.1/{key}"])] == []
    assert "latest: 4, 5, 6" in again.report.read_text()
    printed = capsys.readouterr().out.partition(f"latest       {again.tail}: trident ")[2].splitlines()[0]
    assert command_line(shlex.split(printed)) == 0
    found, _, member = find_checkpoint(again.path, step=5)
    assert (found.path / member.file) == again.tail / "step-0000005.safetensors"
    assert find_checkpoint(again.tail / "step-0000004.safetensors")[2].step == 4

    files = {path: path.read_bytes() for path in again.tail.iterdir()}
    again.last_state.unlink()  # so that it goes on from the state before, of update 4
    assert main([*command, "--resume"]) == 0
    assert {path: path.read_bytes() for path in again.tail.iterdir()} == files
    capsys.readouterr()
    assert main([*tiny(tmp_path, "tail", *OPTIONS, *tail, "keep.tail=1"), "--resume"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("is no longer listed; the file stays") == 2
    assert {path: path.read_bytes() for path in again.tail.iterdir()} == files

    average = again.tail / "step-0000006-width-0.1.safetensors"
    average.write_bytes(b"")
    assert main([*command, "--resume"]) == 2
    message = capsys.readouterr().err
    assert average.name in message and "mv " in message
    average.unlink()
    assert main([*command, "--resume"]) == 0
    assert "step 6 is no longer among the latest states" in " ".join(capsys.readouterr().out.split())


def test_the_commands_of_a_refused_resume_work(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its recipe says from_scratch: true, which excludes weights."""
    shutil.copytree(run.path, tmp_path / "old")
    changed = tiny(tmp_path, "old", *OPTIONS, "optimizer.lr=0.01")
    assert main([*changed, "--resume"]) == 2
    message = capsys.readouterr().err
    [typed] = re.findall(r"type (--continue-from .+) instead of --resume", message)
    assert "train.steps=" in typed  # as the run is finished, and would have nothing to go on with
    assert main([*changed, *shlex.split(typed.replace("<another name>", "another"))]) == 0
    assert run_printed(message) == 0
    assert RunFolder(tmp_path / "old-2").read_manifest().finished
