"""The latest states of a training: which are due, kept, listed and deleted."""

import errno
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from engine.recipe import Recipe, load_recipe
from engine.run_folder import DiskError, Manifest, RunFolder, sha256_of
from engine.training.checkpoint import save_weights
from engine.training.schedule import factor
from engine.training.tail import TailKeeper
from tests.engine.tiny_run import RECIPE
from tests.engine.training.checkpoints import new_keeper

WIDTHS = (0.05, 0.1)


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe(RECIPE, ["schedule.warmup=0", *overrides]).in_steps(16)


def new_tail(
    run: RunFolder, length: int, every: int, num_steps: int, manifest: Manifest | None = None
) -> TailKeeper:
    recipe = recipe_of(f"keep.tail={length}", f"keep.tail_every={every}", f"train.steps={num_steps}")
    return TailKeeper(run, manifest or new_keeper(run).manifest, recipe)


def keep_from(tail: TailKeeper, first: int, last: int) -> None:
    """Each state with two averages, whose value is the step over the width."""
    for step in range(first + 1, last + 1):
        if tail.is_due(step):
            averages = {width: {"step": torch.tensor(step / width)} for width in WIDTHS}
            tail.keep(step, {"step": torch.tensor(step)}, averages)


def kept(run: RunFolder) -> list[int]:
    """Steps of the tail, after checking that manifest and files agree."""
    tail = run.read_manifest().tail
    listed = {file: sha256 for member in tail for file, sha256 in member.files.items()}
    assert {f"tail/{path.name}" for path in run.tail.glob("*")} == listed.keys()
    assert all(sha256_of(run.path / file) == sha256 for file, sha256 in listed.items())
    for member in tail:
        assert [average.width for average in member.averages] == [*WIDTHS]
        for average in member.averages:
            assert load_file(run.path / average.file)["step"] == pytest.approx(member.step / average.width)
        assert load_file(run.path / member.file)["step"] == member.step
        assert member.scores == {}
    return [member.step for member in tail]


def test_the_latest_states_are_kept_and_the_last_update_is_one_of_them(run: RunFolder) -> None:
    tail = new_tail(run, length=3, every=4, num_steps=22)
    assert [step for step in range(1, 23) if tail.is_due(step)] == [2, 6, 10, 14, 18, 22]
    keep_from(tail, 0, 13)
    assert kept(run) == [2, 6, 10]
    keep_from(tail, 13, 22)
    assert kept(run) == [14, 18, 22]


def test_without_a_tail_nothing_is_due(run: RunFolder) -> None:
    tail = TailKeeper(run, new_keeper(run).manifest, recipe_of("train.steps=9"))
    assert not any(map(tail.is_due, range(10)))
    assert not run.tail.exists()


@given(length=st.integers(1, 4), every=st.integers(1, 6), data=st.data())
def test_wherever_a_run_was_killed_the_end_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, length: int, every: int, data: st.DataObject
) -> None:
    """It goes on from a state that was saved before, so later states of the tail are written again."""
    num_steps = 24
    run = RunFolder(tmp_path_factory.mktemp("run"))
    run.create()
    tail = new_tail(run, length, every, num_steps)
    killed = data.draw(st.integers(0, num_steps))
    keep_from(tail, 0, killed)
    goes_on = TailKeeper(
        run,
        run.read_manifest(),
        recipe_of(f"keep.tail={length}", f"keep.tail_every={every}", "train.steps=24"),
    )
    keep_from(goes_on, data.draw(st.integers(0, killed)), num_steps)
    due = [step for step in range(1, num_steps + 1) if (num_steps - step) % every == 0]
    assert kept(run) == due[-length:]


def test_the_manifest_never_names_a_deleted_state(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = new_tail(run, length=1, every=1, num_steps=2)
    keep_from(tail, 0, 1)
    deleted: list[str] = []

    def look(path: Path, missing_ok: bool = False, unlink=Path.unlink) -> None:
        assert all((run.path / file).is_file() for one in run.read_manifest().tail for file in one.files)
        if path.suffix == ".safetensors":
            deleted.append(path.name)
            assert [member.step for member in run.read_manifest().tail] == [2]
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", look)
    keep_from(tail, 1, 2)
    assert kept(run) == [2]
    assert deleted == [f"step-0000001{of}.safetensors" for of in ("", "-width-0.05", "-width-0.1")]


@pytest.mark.parametrize("num_written", [0, 1, 2])
def test_a_full_disk_between_the_files_of_a_state_leaves_the_earlier_states(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, num_written: int
) -> None:
    tail = new_tail(run, length=2, every=1, num_steps=3)
    keep_from(tail, 0, 2)
    room = iter(range(num_written))

    def full(*arguments: object) -> None:
        if next(room, None) is None:
            raise DiskError("tail", errno.ENOSPC)
        save_weights(*arguments)

    with monkeypatch.context() as patch, pytest.raises(DiskError):
        patch.setattr("engine.training.tail.save_weights", full)
        keep_from(tail, 2, 3)
    members = run.read_manifest().tail
    assert [member.step for member in members] == [1, 2]
    for file, sha256 in (item for member in members for item in member.files.items()):
        assert sha256_of(run.path / file) == sha256
    keep_from(new_tail(run, 2, 1, 3, run.read_manifest()), 2, 3)  # what a resume does
    assert kept(run) == [2, 3]


@pytest.mark.parametrize(("length", "steps"), [(8, 1200), (3, 1000), (8, 10), (1, 3)])
def test_auto_spreads_the_states_over_the_last_quarter(length: int, steps: int) -> None:
    every = recipe_of(f"keep.tail={length}", f"train.steps={steps}", "eval.every=1").keep.tail_every
    assert every == max(1, math.floor(steps / 4 / length))


def test_the_distances_of_checkpoints_become_updates() -> None:
    recipe = recipe_of("keep={tail: 2, tail_every: 5%, spacing: 20%}", "train.steps=200")
    assert (recipe.keep.tail_every, recipe.keep.spacing) == (10, 40)


@pytest.mark.parametrize("warmup", ["4", "1 epoch"])
@pytest.mark.parametrize(("cycles", "steps"), [(3, 34), (5, 48), (1, 20)])
def test_the_states_of_a_cyclic_schedule_are_those_before_the_rate_rises_again(
    run: RunFolder, warmup: str, cycles: int, steps: int
) -> None:
    schedule = f"schedule={{name: cyclic, cycles: {cycles}, warmup: {warmup}}}"
    recipe = recipe_of(schedule, f"keep.tail={cycles}", f"train.steps={steps}", "eval.every=1")
    rates = [factor(recipe.schedule, recipe.optimizer.lr, step, steps) for step in range(steps)]
    first = int(recipe.schedule.warmup)
    rises = [step for step in range(first + 1, steps) if rates[step] > rates[step - 1]]
    tail = TailKeeper(run, new_keeper(run).manifest, recipe)
    assert [step for step in range(steps + 1) if tail.is_due(step)] == [*rises, steps]
    assert len(rises) == cycles - 1
