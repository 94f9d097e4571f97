"""The disk space that a run needs, before it starts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import engine.training.disk_space as disk_space
from engine.recipe import RecipeError, load_recipe
from engine.run_folder import RunFolder, RunFolderError
from engine.training.checkpoint import save_state
from engine.training.disk_space import disk_bytes, require_room
from engine.training.tail import TailKeeper
from tests.engine.tiny_run import RECIPE
from tests.engine.training.checkpoints import (
    OPTIMIZERS,
    assert_same,
    new_keeper,
)


def test_the_disk_space_required_is_enough(run: RunFolder, make_step, draw_batch) -> None:
    step = make_step(ema=0.9, adversarial={})
    step(draw_batch())
    keeper = new_keeper(run, top=2)
    for count in range(3):
        keeper.offer(count, {"mIoU": float(count)}, step.evaluated().state_dict)
    save_state(run, step)
    one = (run.top / "step-0000002.safetensors").stat().st_size
    headers = 3 * 2 + 3 * 20  # kB: the names of the tensors, which are not counted
    needed = 3 * one + 3 * run.last_state.stat().st_size
    assert needed - 1000 * headers < disk_bytes(step, top=2) <= needed


def test_latest_states_with_their_averages_need_room_too(run: RunFolder, make_step, draw_batch) -> None:
    """Two of them, and the third, which is complete before the oldest is deleted."""
    step = make_step(widths=(0.05, 0.1))
    step(draw_batch())
    recipe = load_recipe(RECIPE, ["keep.tail=3", "keep.tail_every=1", "train.steps=3"]).in_steps(8)
    tail = TailKeeper(run, new_keeper(run).manifest, recipe)
    for count in (1, 2, 3):
        tail.keep(count, step.evaluated().state_dict(), step.averaged())
    files = list(run.tail.iterdir())
    assert len(files) == 9
    needed = sum(file.stat().st_size for file in files)
    more = disk_bytes(step, top=1, tail=2) - disk_bytes(step, top=0)
    assert needed - 1000 * len(files) < more <= needed


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_disk_space_is_known_before_the_first_update(make_step, draw_batch, name: str) -> None:
    step = make_step(optimizer={"name": name}, frozen="norm.bias")
    weights = {name: value.clone() for name, value in step.model.state_dict().items()}
    before = disk_bytes(step, top=1)
    assert_same(step.model.state_dict(), weights)
    step(draw_batch())
    assert before == disk_bytes(step, top=1)


def test_an_optimiser_that_cannot_make_an_update_is_refused_at_the_start(make_step) -> None:
    step = make_step()
    step.optimizers["optimizer"] = torch.optim.AdamW(step.model.parameters(), capturable=True)  # a GPU's
    with pytest.raises(RecipeError, match=r"optimizer.name: AdamW .*capturable.*optimizer.name=adamw"):
        disk_bytes(step, top=1)


def test_a_full_disk_is_refused_before_training(tmp_path: Path, make_step, monkeypatch) -> None:
    step = make_step()
    run = RunFolder(tmp_path / "not" / "yet" / "there")
    require_room(run, step, top=3)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(RunFolderError, match="0 MB free; .*output.dir=<folder>.*keep.top=1"):
        require_room(run, step, top=3)
