"""The best checkpoints, and the state from which a run resumes bit for bit."""

import errno
import json
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

import engine.training.checkpoint as checkpoint
from engine.data.augment import Augment
from engine.data.batches import TrainBatches
from engine.data.options import Augment as AugmentSection
from engine.data.order import SampleOrder
from engine.data.synthetic import SyntheticScenes
from engine.recipe import RecipeError
from engine.reporting.reporter import Reporter
from engine.run_folder import DataIdentity, DiskError, Manifest, RunFolder, RunFolderError, sha256_of
from engine.training.checkpoint import (
    TopKeeper,
    disk_bytes,
    load_state,
    require_room,
    save_state,
)
from engine.training.fit import RunError, fit
from engine.training.step import SupervisedStep
from models.segformer import SegFormer

CPU = torch.device("cpu")
AUGMENT = AugmentSection(
    crop=32, scale=[0.5, 2.0], rotate_deg=10.0, flip=0.5, brightness=0.1, contrast=0.2, saturation=0.2,
    hue=0.05, blur=0.0, elastic=0.0,
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "demo")
    run.create()
    return run


def new_keeper(run: RunFolder, top: int = 3, metric: str = "mIoU", spacing: int = 0) -> TopKeeper:
    data = DataIdentity(format="voc", train="train", val="val", train_fingerprint="", val_fingerprint="")
    manifest = Manifest(
        name="demo", code_version="0", class_names=["x"], palette=[(0, 0, 0)], data=data, metric=metric,
        num_parameters=1,
    )  # fmt: skip
    run.write_manifest(manifest)
    return TopKeeper(run, manifest, top, spacing)


def resumed(keeper: TopKeeper) -> TopKeeper:
    return TopKeeper(keeper.run, keeper.run.read_manifest(), keeper.top, keeper.spacing)


def offer(keeper: TopKeeper, step: int, score: float) -> bool:
    return keeper.offer(step, {keeper.manifest.metric: score}, lambda: {"step": torch.tensor(step)})


def kept(keeper: TopKeeper) -> list[int]:
    """Steps of the members, best first, after checking that manifest and files agree."""
    manifest = keeper.run.read_manifest()
    assert manifest == keeper.manifest
    files = {member.file: member for member in manifest.members}
    assert {f"top/{path.name}" for path in keeper.run.top.iterdir()} == set(files)
    for file, member in files.items():
        assert sha256_of(keeper.run.path / file) == member.sha256
        assert load_file(keeper.run.path / file)["step"] == member.step
    return [member.step for member in manifest.members]


def test_the_best_are_kept_and_the_others_deleted(run: RunFolder) -> None:
    keeper = new_keeper(run)
    taken = [offer(keeper, step, score) for step, score in enumerate([0.1, 0.5, 0.3, 0.2, 0.05, 0.6])]
    assert taken == [True, True, True, True, False, True]
    assert kept(keeper) == [5, 1, 2]


def test_fewer_than_top_are_all_kept(run: RunFolder) -> None:
    keeper = new_keeper(run, top=5)
    offer(keeper, 10, 0.0)
    offer(keeper, 20, 0.4)
    assert kept(keeper) == [20, 10]


def test_the_earlier_one_wins_a_tie(run: RunFolder) -> None:
    keeper = new_keeper(run, top=2)
    assert [offer(keeper, step, 0.5) for step in (1, 2, 3)] == [True, True, False]
    assert kept(keeper) == [1, 2]
    assert offer(keeper, 4, 0.6)
    assert kept(keeper) == [4, 1]


def test_a_nan_score_is_never_kept(run: RunFolder) -> None:
    keeper = new_keeper(run)
    assert not offer(keeper, 1, math.nan)
    assert kept(keeper) == []


def test_another_metric_can_be_used(run: RunFolder) -> None:
    keeper = new_keeper(run, top=1, metric="aAcc")
    for step, scores in enumerate([{"mIoU": 0.9, "aAcc": 0.1}, {"mIoU": 0.1, "aAcc": 0.9}]):
        keeper.offer(step, scores, lambda step=step: {"step": torch.tensor(step)})
    assert kept(keeper) == [1]


def test_a_step_repeated_after_a_resume_is_kept_once(run: RunFolder) -> None:
    """The run was killed between keeping step 20 and saving its state, so it reaches step 20 again."""
    keeper = new_keeper(run, top=2)
    for step, score in ((10, 0.3), (20, 0.5)):
        offer(keeper, step, score)
    keeper = resumed(keeper)
    assert offer(keeper, 20, 0.5)
    assert kept(keeper) == [20, 10]
    assert offer(keeper, 30, 0.4)
    assert kept(keeper) == [20, 30]


def test_members_from_before_a_resume_are_compared_too(run: RunFolder) -> None:
    keeper = new_keeper(run, top=2)
    for step, score in ((10, 0.3), (20, 0.5)):
        offer(keeper, step, score)
    keeper = resumed(keeper)
    assert [offer(keeper, 30, 0.2), offer(keeper, 40, 0.4)] == [False, True]
    assert kept(keeper) == [20, 40]


@given(scores=st.lists(st.sampled_from([0.1, 0.2, 0.3, math.nan]), max_size=8), top=st.integers(1, 4))
def test_the_kept_checkpoints_are_the_first_of_the_sorted_list(
    tmp_path_factory, scores: list[float], top: int
) -> None:
    run = RunFolder(tmp_path_factory.mktemp("run"))
    run.create()
    keeper = new_keeper(run, top)
    for step, score in enumerate(scores):
        offer(keeper, step, score)
    real = [step for step, score in enumerate(scores) if not math.isnan(score)]
    assert kept(keeper) == sorted(real, key=lambda step: -scores[step])[:top]  # sorted() keeps ties in order


def test_the_manifest_never_names_a_deleted_file(run: RunFolder, monkeypatch) -> None:
    """A crash at any deletion must leave a manifest whose files all exist."""
    keeper = new_keeper(run, top=1)
    offer(keeper, 1, 0.1)
    deleted = []

    def look(path: Path, missing_ok: bool = False, unlink=Path.unlink) -> None:
        named = [member.file for member in run.read_manifest().members]
        assert all((run.path / file).is_file() for file in named)
        if path.suffix == ".safetensors":
            assert f"top/{path.name}" not in named
            deleted.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", look)
    offer(keeper, 2, 0.2)
    assert deleted == ["step-0000001.safetensors"]


@pytest.mark.parametrize("outside", ["../mine.txt", "{folder}/mine.txt"])
def test_a_file_outside_the_run_is_never_deleted(run: RunFolder, tmp_path: Path, outside: str) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    keeper = new_keeper(run, top=1)
    offer(keeper, 1, 0.1)
    text = run.manifest.read_text()
    run.manifest.write_text(text.replace("top/step-0000001.safetensors", outside.format(folder=tmp_path)))
    with pytest.raises(RunFolderError, match="damaged at members.0.file: "):
        offer(resumed(keeper), 2, 0.2)
    assert mine.read_text() == "mine"


def scenes_step(make_step) -> SupervisedStep:
    """A SegFormer with dropout, stochastic depth, a moving average, and a discriminator from update 2 on."""
    torch.manual_seed(0)
    model = SegFormer("b0", 6, decoder_width=16, drop_path=0.2, dropout=0.2)
    return make_step(model, ema=0.9, num_classes=6, adversarial={"start": 2, "ramp": 3}, accumulate=2)


def train(step: SupervisedStep, num_steps: int) -> None:
    scenes = SyntheticScenes("train", 5, size_px=40)
    batches = TrainBatches(scenes, SampleOrder(5, 4, seed=0), Augment(AUGMENT, 0, 255), CPU, workers=0)
    fit(
        step,
        batches,
        Reporter([], step.learning_rates, CPU),
        num_steps=num_steps,
        eval_every=100,
        log_every=100,
        evaluate_and_keep=lambda: None,
        save_state=lambda: None,
        save_due=lambda step: False,
        stop_requested=lambda step: False,
    )


def everything(step: SupervisedStep) -> dict[str, Tensor]:
    tensors = {
        f"{name}/{key}": value
        for name, module in step.modules.items()
        for key, value in module.state_dict().items()
    }
    for name, optimizer in step.optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{slot}": value for slot, value in slots.items()}
    return {key: value.clone() for key, value in tensors.items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [key for key, value in expected.items() if not torch.equal(found[key], value)] == []


def test_a_resumed_run_is_bitwise_one_that_was_not_stopped(run: RunFolder, make_step) -> None:
    whole, first, second = (scenes_step(make_step) for _ in range(3))
    train(whole, 6)
    train(first, 3)
    save_state(run, first)
    torch.rand(7)  # another process would have drawn other numbers
    load_state(run, second)
    assert second.count == 3
    assert_same(everything(second), everything(first))
    train(second, 6)
    assert_same(everything(second), everything(whole))
    names = set(everything(whole))
    assert {"discriminator/0/exp_avg", "optimizer/0/exp_avg_sq", "optimizer/0/step"} <= names
    modules = {"model", "ema", "discriminator", "watchdog"}
    assert {name.split("/")[0] for name in names} == modules | {"optimizer"}


class Counting(torch.optim.SGD):
    """Its state holds, besides tensors, numbers, None, lists, tuples, dicts, and another dtype."""

    def __init__(self, params, lr: float, weight_decay: float):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.param_groups[0]["calls"] = 0

    def step(self, closure: Callable | None = None) -> None:
        self.param_groups[0]["calls"] += 1
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                state["count"] = state.get("count", 0) + 1
                state["norm"] = state.get("norm", 0.1) / 3 + p.grad.norm().item()
                state["half"] = p.grad.double().mul(1 / 3)
                state["nested"] = {"pair": (p.grad.sum(), None), 7: [2, True, p.grad.clone()]}
                p.data.add_(state["half"].float(), alpha=-group["lr"] * (1 + state["norm"]) / state["count"])


OPTIMIZERS = [
    "adamw", "sgd", "lion", "muon", "adopt", "lamb", "adan", "nadamlegacy", "adafactor", "adafactorbv",
    "adagrad", f"{__name__}:Counting",
]  # fmt: skip


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this file importable by a name, which pytest does not."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or ModuleType(__name__))
    monkeypatch.setattr(sys.modules[__name__], "Counting", Counting, raising=False)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.usefixtures("importable")
def test_the_state_of_any_optimiser_is_restored_bit_for_bit(
    run: RunFolder, make_step, draw_batch, name: str
) -> None:
    whole, second = (make_step(optimizer={"name": name}) for _ in range(2))
    for seed in range(3):
        whole(draw_batch(seed=seed))
    save_state(run, whole)
    load_state(run, second)
    before, after = (step.optimizers["optimizer"].state_dict() for step in (whole, second))
    assert_equal(after["state"], before["state"])
    assert_equal(after["param_groups"], before["param_groups"])
    for seed in (3, 4):
        assert torch.equal(whole(draw_batch(seed=seed))["loss"], second(draw_batch(seed=seed))["loss"])
    assert_same(second.model.state_dict(), whole.model.state_dict())


def assert_equal(found: Any, expected: Any) -> None:
    """Equal in value, type and dtype, through lists, tuples and dicts."""
    assert type(found) is type(expected)
    if isinstance(expected, Tensor):
        assert found.dtype == expected.dtype and torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_equal(*pair)
    else:
        assert found == expected


def test_a_state_that_cannot_be_saved_is_named(run: RunFolder, make_step, draw_batch) -> None:
    step = make_step()
    step(draw_batch())
    step.optimizers["optimizer"].state[step.model.head.weight]["odd"] = object()
    with pytest.raises(RunError, match="odd is a object"):
        save_state(run, step)


def test_a_state_of_0_1_0_counts_unused_parameters_too(run: RunFolder, make_step, draw_batch, toy) -> None:
    """Its optimiser contained them, without a state; here "encoder.bias" (number 1 of 6) is unused."""
    step, other = (make_step(toy(), frozen="encoder.bias") for _ in range(2))
    step(draw_batch())
    names = [name for group in step.optimizers["optimizer"].param_groups for name in group["params"]]
    numbers = [0, 2, 3, 4, 5]
    assert len(names) == len(numbers)
    tensors = {f"model/{key}": value for key, value in step.model.state_dict().items()}
    for number, parameter in zip(numbers, names, strict=True):
        slots = step.optimizers["optimizer"].state[parameter]
        tensors |= {f"optimizer.state/{number}/{slot}": value for slot, value in slots.items()}
    header = {"step": 1, "scalers": {"optimizer": {}}}
    checkpoint.save_file(tensors, run.last_state, metadata={"trident": json.dumps(header)})
    load_state(run, other)
    assert_same(everything(other), everything(step))


def test_frozen_parameters_resume(run: RunFolder, make_step, draw_batch) -> None:
    whole, first, second = (make_step(frozen=["encoder", "norm"], ema=0.9) for _ in range(3))
    for step in (whole, first):
        step(draw_batch())
    save_state(run, first)
    load_state(run, second)
    for step in (whole, second):
        step(draw_batch(seed=1))
    assert_same(everything(second), everything(whole))
    assert sum("exp_avg_sq" in key for key in everything(whole)) == 2  # of the head alone


def test_a_state_from_before_the_first_update_can_be_loaded(run: RunFolder, make_step, draw_batch) -> None:
    fresh, other = make_step(), make_step()
    save_state(run, fresh)
    other(draw_batch())
    load_state(run, other)
    assert other.count == 0
    assert_same(everything(other), everything(fresh))


def test_the_loss_scale_of_fp16_is_restored(run: RunFolder, make_step, draw_batch) -> None:
    step, other = make_step(precision="fp16"), make_step(precision="fp16")
    step(draw_batch())
    step.scalers["optimizer"].update(1024.0)
    save_state(run, step)
    load_state(run, other)
    assert other.scalers["optimizer"].get_scale() == 1024.0


@pytest.mark.parametrize("content", [b"", b"garbage that is no header", None])
def test_a_damaged_state_is_a_clear_error(run: RunFolder, make_step, content: bytes | None) -> None:
    keeper = new_keeper(run)
    save_state(run, make_step())
    whole = run.last_state.read_bytes()
    run.last_state.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(RunFolderError, match="state.safetensors is damaged: ") as caught:
        load_state(run, make_step())
    assert str(caught.value).endswith(f": trident run {run.recipe} output.dir={run.path.parent} name=demo-2")
    (run.path.parent / "demo-2").mkdir()
    offer(keeper, 1, 0.5)
    with pytest.raises(RunFolderError, match="no state is intact") as caught:
        load_state(run, make_step())
    weights, place = f"model.weights={run.path}", f"output.dir={run.path.parent}"
    command = f"trident run {run.recipe} model.from_scratch=false {weights} {place} name=demo-3"
    assert str(caught.value).endswith(f": {command}")


def test_another_safetensors_file_is_refused_as_state(run: RunFolder, make_step) -> None:
    new_keeper(run)
    checkpoint.save_file({"x": torch.zeros(1)}, run.last_state)
    with pytest.raises(RunFolderError, match="is damaged: it is not a state of Trident"):
        load_state(run, make_step())


def test_two_states_are_kept_and_the_newest_intact_one_is_loaded(
    run: RunFolder, make_step, draw_batch
) -> None:
    step, copies = make_step(), []
    for seed in range(3):
        step(draw_batch(seed=seed))
        save_state(run, step, "id")
        copies.append(everything(step))
    assert run.states == [run.last_state, run.previous_state]
    other = make_step()
    assert load_state(run, other, "id") == {}
    assert_same(everything(other), copies[2])
    run.last_state.write_bytes(b"")
    other = make_step()
    assert [*load_state(run, other, "id")] == [run.last_state]
    assert other.count == 2
    assert_same(everything(other), copies[1])


def test_a_kill_between_two_states_leaves_the_one_before(run: RunFolder, make_step, monkeypatch) -> None:
    """The newer state gets its name after the older one was moved."""
    save_state(run, make_step(), "id")
    run.last_state.replace(run.previous_state)
    assert load_state(run, make_step(), "id") == {}


def test_an_altered_byte_of_a_state_is_noticed_or_changes_nothing(run: RunFolder, make_step, toy) -> None:
    new_keeper(run)
    step, noticed = make_step(), 0
    save_state(run, step, "id")
    whole, draw = run.last_state.read_bytes(), random.Random(0)
    for _ in range(100):
        content = bytearray(whole)
        content[draw.randrange(len(whole))] ^= draw.randrange(1, 256)
        run.last_state.write_bytes(content)
        other = make_step(toy(seed=1))
        try:
            load_state(run, other, "id")
        except RunFolderError as error:
            assert f"{run.last_state} is damaged" in str(error)
            noticed += 1
        else:
            assert_same(everything(other), everything(step))
    assert noticed > 50


def test_the_state_of_another_run_is_not_loaded(run: RunFolder, make_step) -> None:
    new_keeper(run)
    save_state(run, make_step(), "one")
    for run_id in ("other", None):
        with pytest.raises(RunFolderError, match="it is the state of another run"):
            load_state(run, make_step(), run_id)


def test_a_state_without_sha256_is_loaded_in_a_run_of_0_1_0_only(run: RunFolder, make_step) -> None:
    new_keeper(run)
    save_state(run, make_step())
    with safe_open(run.last_state, framework="pt") as file:
        header = file.metadata()["trident"]
    checkpoint.save_file(load_file(run.last_state), run.last_state, {"trident": header})
    assert load_state(run, make_step()) == {}
    with pytest.raises(RunFolderError, match="SHA-256 is not the stored one"):
        load_state(run, make_step(), "id")


def test_the_state_of_another_model_is_a_clear_error(run: RunFolder, make_step, toy) -> None:
    save_state(run, make_step())
    model = toy()
    model.head = torch.nn.Conv2d(8, 5, 1)
    with pytest.raises(
        RunFolderError, match="does not fit the model of this recipe.*--resume needs the recipe"
    ):
        load_state(run, make_step(model))


def test_a_recipe_with_an_added_discriminator_or_average_is_a_clear_error(run: RunFolder, make_step) -> None:
    save_state(run, make_step())
    for change in ({"adversarial": {}}, {"ema": 0.9}):
        with pytest.raises(RunFolderError, match="--resume needs the recipe"):
            load_state(run, make_step(**change))


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def save_half(tensors: dict[str, Tensor], path: Path, metadata: dict) -> None:
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", save_half)


FULL_DISK = [
    OSError(errno.ENOSPC, "No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]
FULL = r"{name}: No space left on device\. Free some space"


@pytest.mark.parametrize("error", FULL_DISK)
def test_a_full_disk_is_one_clear_message_and_the_old_state_is_kept(
    run: RunFolder, make_step, draw_batch, monkeypatch, error: Exception
) -> None:
    step = make_step()
    save_state(run, step)
    before = everything(step)
    step(draw_batch())
    fill_the_disk(monkeypatch, error)
    with pytest.raises(DiskError, match=FULL.format(name="state.safetensors")):
        save_state(run, step)
    assert [path.name for path in run.last_state.parent.iterdir()] == ["state.safetensors"]
    other = make_step()
    load_state(run, other)
    assert_same(everything(other), before)


@pytest.mark.parametrize("error", FULL_DISK)
def test_a_full_disk_leaves_the_kept_checkpoints_intact(
    run: RunFolder, monkeypatch, error: Exception
) -> None:
    keeper = new_keeper(run, top=1)
    offer(keeper, 1, 0.1)
    fill_the_disk(monkeypatch, error)
    with pytest.raises(DiskError, match=FULL.format(name="step-0000002.safetensors")):
        offer(keeper, 2, 0.2)
    assert kept(keeper) == [1]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENXIO, "No such device"), SafetensorError("a tensor is not contiguous")]
)
def test_an_error_that_is_not_of_the_disk_is_not_changed(
    run: RunFolder, make_step, monkeypatch, error: Exception
) -> None:
    fill_the_disk(monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        save_state(run, make_step())
    assert caught.value is error


def test_the_disk_space_required_is_enough(run: RunFolder, make_step, draw_batch) -> None:
    step = make_step(ema=0.9, adversarial={})
    step(draw_batch())
    keeper = new_keeper(run, top=2)
    for count in range(3):
        keeper.offer(count, {"mIoU": float(count)}, step.evaluated.state_dict)
    save_state(run, step)
    one = (run.top / "step-0000002.safetensors").stat().st_size
    headers = 3 * 2 + 3 * 20  # kB: the names of the tensors, which are not counted
    needed = 3 * one + 3 * run.last_state.stat().st_size
    assert needed - 1000 * headers < disk_bytes(step, top=2) <= needed


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.usefixtures("importable")
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
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(RunFolderError, match="0 MB free; .*output.dir=<folder>.*keep.top=1"):
        require_room(run, step, top=3)


def test_weights_are_copied_only_if_the_checkpoint_is_kept(run: RunFolder) -> None:
    keeper = new_keeper(run, top=1)
    offer(keeper, 1, 0.5)

    def refuse() -> dict[str, Tensor]:
        raise AssertionError("not kept, so not copied")

    for score in (0.4, 0.5, math.nan):
        assert not keeper.offer(2, {"mIoU": score}, refuse)


def test_weights_that_share_memory_are_kept(run: RunFolder) -> None:
    shared = torch.arange(4.0)
    new_keeper(run).offer(1, {"mIoU": 0.5}, lambda: {"a": shared, "b": shared, "c": shared[1:]})
    found = load_file(run.top / "step-0000001.safetensors")
    assert_same(found, {"a": shared, "b": shared, "c": shared[1:]})


def test_of_each_span_only_the_best_is_kept(run: RunFolder) -> None:
    keeper = new_keeper(run, top=3, spacing=30)
    scores = {10: 0.1, 20: 0.3, 30: 0.2, 40: 0.5, 50: 0.6, 60: 0.55, 70: 0.4, 80: 0.45, 90: 0.7, 100: 0.35}
    for step, score in scores.items():
        offer(keeper, step, score)
        keeper = resumed(keeper)
    # Spans end at 30, 60, 90, 120; their best are 20, 50, 90, 100, of which three are kept.
    assert kept(keeper) == [90, 50, 100]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 4), st.integers(0, 50))
def test_spacing_keeps_the_best_of_the_best_of_each_span(scores: list[float], top: int, spacing: int) -> None:
    with TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        run.create()
        keeper = new_keeper(run, top, spacing=spacing)
        best: dict[int, tuple[float, int]] = {}
        for number, score in enumerate(scores, start=1):
            step = 10 * number
            offer(keeper, step, score)
            span = (step - 1) // spacing if spacing else step
            best[span] = max(best.get(span, (-1.0, 0)), (score, -step))
        ranked = sorted(best.values(), reverse=True)
        assert kept(keeper) == [-step for _, step in ranked[:top]]
