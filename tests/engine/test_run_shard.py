"""`train.shard`: two sharded processes against two that hold the whole model, and each state in the other."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from engine.run import main
from engine.run_folder import RunFolder
from tests.engine.tiny_run import ADVERSARIAL, ROOT, tiny

VARIANT = [*ADVERSARIAL, "train.ema=0.9", "optimizer.clip_norm=1", "train.accumulate=2", "log.gradients=2"]
VARIANT += ["train.save_every=4", "eval.every=6", "keep.top=1", "log.to=[]", "log.images=0"]
MOMENTS, WEIGHTS = 1e-5, 3e-3  # largest differences; 2e-7 and 5e-4 were measured, by the order of sums


def arguments(folder: Path, name: str, shard: bool) -> list[str]:
    return tiny(folder, name, *VARIANT, f"train.shard={str(shard).lower()}")


def run_two(folder: Path, name: str, shard: bool, *more: str) -> None:
    """Two processes, with the environment that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "engine.run", *arguments(folder, name, shard), *more]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | group | {"RANK": rank, "LOCAL_RANK": rank, "CUDA_VISIBLE_DEVICES": ""},
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs "sharded" and "whole" of two processes each; in after_4/, each as it was after update 4."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in ("sharded", "whole"):
        run_two(folder, name, name == "sharded")
        earlier = RunFolder(shutil.copytree(folder / name, folder / "after_4" / name))
        earlier.previous_state.replace(earlier.last_state)
    return folder


def require_equal_ends(one: Path, two: Path) -> None:
    """Of two runs: the same tensors, with nothing between them but the order of sums."""
    states = [load_file(RunFolder(path).last_state) for path in (one, two)]
    assert states[0].keys() == states[1].keys()
    assert {key.split("/")[0] for key in states[0]} >= {"model", "ema", "discriminator", "optimizers"}
    for key, value in states[0].items():
        tolerance = MOMENTS if key.startswith("optimizers/") else WEIGHTS
        assert value.shape == states[1][key].shape and value.dtype == states[1][key].dtype
        assert (value.double() - states[1][key].double()).abs().max() <= tolerance, key
    moments = [value.abs().max() for key, value in states[0].items() if key.endswith("/exp_avg")]
    assert max(moments) > 1000 * MOMENTS
    checkpoints = [load_file(path / "top/step-0000006.safetensors") for path in (one, two)]
    assert checkpoints[0].keys() == checkpoints[1].keys()
    for key, value in checkpoints[0].items():
        assert (value.double() - checkpoints[1][key].double()).abs().max() <= WEIGHTS, key


def test_a_sharded_training_ends_as_one_that_is_not(folder: Path) -> None:
    require_equal_ends(folder / "sharded", folder / "whole")


def test_one_process_goes_on_from_the_state_of_a_sharded_training(folder: Path) -> None:
    assert main([*arguments(folder / "after_4", "sharded", False), "--resume"]) == 0
    require_equal_ends(folder / "after_4/sharded", folder / "whole")


def test_a_sharded_training_goes_on_from_a_state_that_is_whole(folder: Path) -> None:
    run_two(folder / "after_4", "whole", True, "--resume")
    require_equal_ends(folder / "after_4/whole", folder / "whole")


def test_a_model_of_other_bands_is_sharded(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, shape in (("images", (40, 40, 4)), ("masks", (40, 40))):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
            for number in range(4):
                pixels = noise.integers(0, 2 if kind == "masks" else 255, shape).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / kind / f"{number}.png")
    data = ["data.synthetic=null", "data.format=folder", f"data.root={tmp_path}/data", "data.classes=[a,b]"]
    run_two(tmp_path, "bands", True, *data, "data.bands=4", "--dry-run")


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
