"""The state from which a run resumes bit for bit, and what is said of one that is damaged."""

import errno
import os
import random
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import engine.training.checkpoint as checkpoint
from engine.data.augment import Augment
from engine.data.batches import TrainBatches
from engine.data.options import Augment as AugmentSection
from engine.data.order import SampleOrder
from engine.data.synthetic import SyntheticScenes
from engine.reporting.reporter import Reporter
from engine.run_folder import DiskError, RunFolder, RunFolderError
from engine.run_folder.manifests import saved_beside_tensors
from engine.training.checkpoint import (
    load_state,
    save_state,
)
from engine.training.fit import Hooks, SkipGuard, fit
from engine.training.step import SupervisedStep
from models import build_model
from models.segformer import SegFormer
from tests.engine.training.checkpoints import (
    assert_same,
    everything,
    kept,
    new_keeper,
    offer,
)

CPU = torch.device("cpu")
AUGMENT = AugmentSection(
    crop=32, scale=[0.5, 2.0], rotate_deg=10.0, flip=0.5, brightness=0.1, contrast=0.2, saturation=0.2,
    hue=0.05, blur=0.0, elastic=0.0,
)  # fmt: skip


def scenes_step(make_step) -> SupervisedStep:
    """A SegFormer with dropout, stochastic depth, three averages, and a discriminator from update 2 on."""
    torch.manual_seed(0)
    model = SegFormer("b0", 6, decoder_width=16, drop_path=0.2, dropout=0.2)
    adversarial = {"start": 2, "ramp": 3}
    return make_step(model, ema=0.9, widths=(0.05, 0.1), num_classes=6, adversarial=adversarial, accumulate=2)


def vit_step(make_step) -> SupervisedStep:
    """DPT on a vision transformer with all that its training may have: a frozen part, rates by depth."""
    torch.manual_seed(0)
    model = build_model("dpt", num_classes=6, encoder="tu-test_vit", decoder_width=8, checkpointing=True)
    model.segmentation_head.head[3].p = 0.3  # its dropout
    frozen, optimizer = "encoder.model.patch_embed", {"layer_decay": 0.8}
    adversarial = {"start": 2, "ramp": 3}
    return make_step(
        model,
        ema=0.9,
        num_classes=6,
        adversarial=adversarial,
        accumulate=2,
        optimizer=optimizer,
        frozen=frozen,
    )


def train(step: SupervisedStep, num_steps: int) -> None:
    scenes = SyntheticScenes("train", 5, size_px=40)
    batches = TrainBatches(scenes, SampleOrder(5, 4, seed=0), Augment(AUGMENT, 0, 255), CPU, workers=0)
    guard = SkipGuard(RunFolder(Path("run")), lambda flags: None, "stop", 1, lambda step: None)
    reporter = Reporter([], step.learning_rates, CPU)
    fit(step, batches, reporter, Hooks(guard), num_steps=num_steps, eval_every=100, log_every=100)


@pytest.mark.parametrize("build", [scenes_step, vit_step])
def test_a_resumed_run_is_bitwise_one_that_was_not_stopped(run: RunFolder, make_step, build) -> None:
    whole, first, second = (build(make_step) for _ in range(3))
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
    modules = {"model", "ema", "discriminator", "watchdog", *(f"ema_{one.width:g}" for one in whole.averages)}
    assert {name.split("/")[0] for name in names} == modules | {"optimizer"}
    assert len(whole.averages) == (2 if build is scenes_step else 0)


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
    with pytest.raises(RunFolderError, match="No state of .* is intact") as caught:
        load_state(run, make_step())
    weights, place = f"model.weights={run.path}", f"output.dir={run.path.parent}"
    command = f"trident run {run.recipe} model.from_scratch=false {weights} {place} name=demo-3"
    assert str(caught.value).endswith(f": {command}")


def test_another_safetensors_file_is_refused_as_state(run: RunFolder, make_step) -> None:
    new_keeper(run)
    save_file({"x": torch.zeros(1)}, run.last_state)
    with pytest.raises(RunFolderError, match="is damaged: it is not a state of Trident"):
        load_state(run, make_step())


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_something_else_under_the_name_of_a_state_is_said_and_not_waited_for(
    run: RunFolder, make_step, make: Callable[[Path], None]
) -> None:
    save_state(run, make_step(), "id")
    run.last_state.replace(run.previous_state)
    make(run.last_state)
    assert load_state(run, make_step(), "id") == {run.last_state: "it is a folder, a pipe or a device"}
    assert saved_beside_tensors(run.last_state, "log") is None


@pytest.mark.parametrize("header", ["[]", "3", '{"run": null, "step": 1, "optimizers": [], "scalers": []}'])
def test_a_header_of_another_form_is_a_clear_error(run: RunFolder, make_step, header: str) -> None:
    new_keeper(run)
    step = make_step()
    tensors, _ = checkpoint.copied_state(run, step, None)
    checkpoint.write_state(run, tensors, header)
    with pytest.raises(RunFolderError, match="is damaged: .* not a JSON object|does not fit the model"):
        load_state(run, step)


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
    save_file(load_file(run.last_state), run.last_state, {"trident": header})
    assert load_state(run, make_step()) == {}
    with pytest.raises(RunFolderError, match="SHA-256 is not the stored one"):
        load_state(run, make_step(), "id")


@pytest.mark.parametrize("at_once", [1, 5, 2**20])
def test_the_sha256_is_of_header_names_types_shapes_and_bytes(monkeypatch, at_once: int) -> None:
    monkeypatch.setattr(checkpoint, "HASHED_AT_ONCE", at_once)
    tensors = {"b": torch.tensor([1.0, -2.0]), "a": torch.tensor(3), "c": torch.zeros(0, 2).bool()}
    expected = (
        b"header\na torch.int64 ()\n" + struct.pack("<q", 3)
        + b"\nb torch.float32 (2,)\n" + struct.pack("<ff", 1, -2)
        + b"\nc torch.bool (0, 2)\n"
    )  # fmt: skip
    assert checkpoint._digest(tensors, "header") == sha256(expected).hexdigest()


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

    monkeypatch.setattr("safetensors.torch.save_file", save_half)


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
