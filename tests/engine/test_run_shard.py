"""`train.shard`: two sharded processes against two that hold the whole model, and each state in the other."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from engine.run import main
from engine.run_folder import RunFolder, read_log
from tests.engine.tiny_run import ADVERSARIAL, tiny
from tests.engine.two_processes import BROKEN, run_two

VARIANT = [*ADVERSARIAL, "train.ema=0.9", "optimizer.clip_norm=1", "train.accumulate=2", "log.gradients=2"]
VARIANT += ["keep.tail=1", "keep.tail_every=1", "train.ema_widths=[0.1]"]
VARIANT += ["train.save_every=4", "eval.every=6", "keep.top=1", "log.to=[]", "log.images=0"]
QUICK = ["train.shard=true", "train.steps=4", "eval.every=4", "keep.top=1", "log.to=[]", "log.images=0"]
SMP = ["model.arch=linknet", "model.encoder=tu-test_efficientnet", "model.variant=b2"]
VIT = ["model.arch=dpt", "model.encoder=tu-test_vit"]
MOMENTS, WEIGHTS = 1e-5, 3e-3  # largest differences; 2e-7 and 5e-4 were measured, by the order of sums


def arguments(folder: Path, name: str, shard: bool) -> list[str]:
    return tiny(folder, name, *VARIANT, f"train.shard={str(shard).lower()}")


def four_bands(root: Path) -> list[str]:
    """Four images of noise for each split, with masks, and what reads them."""
    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, shape in (("images", (40, 40, 4)), ("masks", (40, 40))):
            (root / split / kind).mkdir(parents=True)
            for number in range(4):
                pixels = noise.integers(0, 2 if kind == "masks" else 255, shape).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / kind / f"{number}.png")
    lines = ["data.synthetic=null", "data.format=folder", "data.classes=[a,b]", "data.bands=4"]
    return [*lines, f"data.root={root}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes each; in after_4/, "sharded" and "whole" as they were after update 4."""
    folder = tmp_path_factory.mktemp("checkpoints")
    longer = [*arguments(folder, "longer", True), "train.steps=8"]
    run_two(
        *(arguments(folder, name, name == "sharded") for name in ("sharded", "whole")),
        [*longer, "--continue-from", str(folder / "sharded")],
        [BROKEN, *tiny(folder, "broken", *QUICK, *SMP)],
        tiny(folder, "half", *QUICK, *VIT, "train.precision=fp16"),
        [*tiny(folder, "bands", *QUICK, *SMP), *four_bands(folder / "data"), "train.steps=2", "eval.every=2"],
    )
    for name in ("sharded", "whole"):
        earlier = RunFolder(shutil.copytree(folder / name, folder / "after_4" / name))
        earlier.previous_state.replace(earlier.last_state)
    return folder


def require_equal_ends(one: Path, two: Path) -> None:
    """Of two runs: the same tensors, with nothing between them but the order of sums."""
    states = [load_file(RunFolder(path).last_state) for path in (one, two)]
    assert states[0].keys() == states[1].keys()
    assert {key.split("/")[0] for key in states[0]} >= {
        "model",
        "ema",
        "ema_0.1",
        "discriminator",
        "optimizers",
    }
    for key, value in states[0].items():
        tolerance = MOMENTS if key.startswith("optimizers/") else WEIGHTS
        assert value.shape == states[1][key].shape and value.dtype == states[1][key].dtype
        assert (value.double() - states[1][key].double()).abs().max() <= tolerance, key
    moments = [value.abs().max() for key, value in states[0].items() if key.endswith("/exp_avg")]
    assert max(moments) > 1000 * MOMENTS
    for name in ("top/step-0000006", "tail/step-0000006-width-0.1"):
        checkpoints = [load_file(path / f"{name}.safetensors") for path in (one, two)]
        assert checkpoints[0].keys() == checkpoints[1].keys()
        for key, value in checkpoints[0].items():
            assert (value.double() - checkpoints[1][key].double()).abs().max() <= WEIGHTS, key


def test_a_sharded_training_ends_as_one_that_is_not(folder: Path) -> None:
    require_equal_ends(folder / "sharded", folder / "whole")


def test_one_process_goes_on_from_the_state_of_a_sharded_training(folder: Path) -> None:
    assert main([*arguments(folder / "after_4", "sharded", False), "--resume"]) == 0
    require_equal_ends(folder / "after_4/sharded", folder / "whole")


def test_a_sharded_training_goes_on_from_a_state_that_is_whole(folder: Path) -> None:
    run_two([*arguments(folder / "after_4", "whole", True), "--resume"])
    require_equal_ends(folder / "after_4/whole", folder / "whole")


def test_a_sharded_training_goes_on_from_another_run(folder: Path) -> None:
    origin = json.loads((folder / "longer/manifest.json").read_text())["continued_from"]
    assert origin["step"] == 6 and [change["key"] for change in origin["changes"]] == ["train.steps"]
    assert num_updates(folder / "longer") == {8}


def test_an_update_with_an_infinite_gradient_in_one_shard_is_left_out_by_all_processes(folder: Path) -> None:
    rows = read_log(RunFolder(folder / "broken").log)
    assert [row["step"] for row in rows if row["split"] == "skipped"] == [3]
    assert num_updates(folder / "broken") == {3}  # of 4
    assert all(
        value.isfinite().all() for value in load_file(RunFolder(folder / "broken").last_state).values()
    )


def test_a_vision_transformer_is_sharded_in_half_precision(folder: Path) -> None:
    rows = read_log(RunFolder(folder / "half").log)
    assert [row["step"] for row in rows if row["split"] == "train"] == [2, 4]
    assert not [row for row in rows if row["split"] == "skipped"]
    with safe_open(RunFolder(folder / "half").last_state, framework="pt") as file:
        header = json.loads(file.metadata()["trident"])
    [made] = num_updates(folder / "half")
    assert header["scalers"]["optimizer"]["scale"] == 2.0 ** (16 - (4 - made))  # half after each left out


def num_updates(path: Path) -> set[int]:
    """That the optimiser of the model has made, as it counts them by parameter."""
    state = load_file(RunFolder(path).last_state)
    return {int(value) for key, value in state.items() if re.fullmatch("optimizers/optimizer/.*/step", key)}


def test_a_model_of_other_bands_is_sharded(folder: Path) -> None:
    assert num_updates(folder / "bands") == {2}


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("optimizer.name=lion", "optimizer.name=adamw"), ("train.compile=true", "train.compile=auto")],
)
def test_what_cannot_be_sharded_is_refused_before_the_folder_exists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str, remedy: str
) -> None:
    assert main([*arguments(tmp_path, "refused", True), value]) == 2
    message = capsys.readouterr().err
    assert "train.shard" in message and remedy.partition("=")[2] in message
    assert not (tmp_path / "refused").exists()
