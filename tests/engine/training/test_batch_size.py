"""The search for the batch that fits: by trying, by memory, and that nothing of it reaches the training."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.data import batches, open_split
from engine.data.batches import TrainBatches
from engine.data.order import SampleOrder
from engine.lr_find import main as lr_find
from engine.recipe import load_recipe
from engine.run import main
from engine.run_folder import RunFolder
from engine.training import batch_size
from engine.training.batch_size import Trial
from engine.training.distributed import Process
from engine.training.freed_memory import freed_memory_kept
from engine.training.step import SupervisedStep
from tests.engine.tiny_run import ADVERSARIAL, RECIPE, TINY, tiny

QUICK = [*ADVERSARIAL, "train.ema=0.9", "train.steps=3", "eval.every=3", "log.to=[]", "log.images=0"]
QUICK += ["data.doctor=off", "keep.top=1"]
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Searches as on a GPU, where `fits` images fit at once; gives how many images were computed."""
    supervised, sizes = SupervisedStep.supervised, list[int]()
    monkeypatch.setattr(Trial, "by_memory", Trial.by_trying)

    def fill(fits: int) -> list[int]:
        def limited(self: SupervisedStep, images: Tensor, labels: Tensor) -> tuple[Tensor, Any]:
            sizes.append(len(images))
            if len(images) > fits:
                raise FULL
            return supervised(self, images, labels)

        monkeypatch.setattr(SupervisedStep, "supervised", limited)
        return sizes

    return fill


@pytest.mark.parametrize("least", [1, 2])
def test_trying_finds_the_largest_number_in_few_tries(least: int) -> None:
    for most in range(least, 70):
        for fits in range(most + 5):
            tried: list[int] = []
            trial: Any = SimpleNamespace(
                least=least, _fits=lambda n, fits=fits, tried=tried: tried.append(n) or n <= fits
            )
            found = Trial.by_trying(trial, most)
            assert found == (0 if fits < least else min(fits, most))
            assert len(tried) == len(set(tried)) <= 13 and max(tried) <= most


@pytest.mark.parametrize(
    ("of_an_image", "most", "least", "expected"),
    [
        (
            10,
            64,
            1,
            30,
        ),  # 100 are used, 400 are available, of which 80 stay free: 20 of the weights, 30 images
        (10, 20, 1, 20),
        (10, 64, 2, 30),
        (200, 64, 1, 1),  # two would not fit, so they are not tried
        (0, 64, 1, 64),
    ],
)
def test_memory_grows_with_the_images(
    of_an_image: int, most: int, least: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "free_ram_bytes", lambda: 400)
    monkeypatch.setattr(batch_size, "_resident_set", lambda key: 100)
    trial: Any = SimpleNamespace(
        least=least, _peak=lambda n: 120 + of_an_image * n, resident_bytes=0,
        process=SimpleNamespace(world_size=1),
    )  # fmt: skip
    assert Trial.by_memory(trial, most) == expected
    if expected == 30:
        trial.resident_bytes = 50
        assert Trial.by_memory(trial, most) == 25
        trial.resident_bytes, trial.process.world_size = 0, 2
        assert Trial.by_memory(trial, most) == 14
    trial._peak = lambda n: None
    assert Trial.by_memory(trial, most) == 0


def test_an_update_is_tried_with_the_images_that_are_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image with three of a mosaic and one each of copy-paste and CutMix: six are read and augmented."""
    mixed = ["augment.mosaic=1", "augment.copy_paste=1", "augment.cutmix=1", "train.batch=auto"]
    recipe = load_recipe(RECIPE, [*TINY, *mixed])
    trial = Trial(recipe, [open_split(recipe.data, "train")], Process(0, 1, torch.device("cpu")))
    read, pad = list[int](), batches._pad
    monkeypatch.setattr(
        batches, "_pad", lambda samples, void: read.append(len(samples)) or pad(samples, void)
    )
    trial.update(2)
    assert read == [12, 12]


def test_of_the_first_updates_that_with_the_most_pixels_is_tried() -> None:
    """A wide image is in one of 25 updates of 4, whose images are all padded to its size."""
    sizes = [(10, 10)] * 100
    sizes[77] = (10, 30)
    reader = TrainBatches(Sized(sizes), SampleOrder(100, 1, 0), Any, torch.device("cpu"), workers=0)  # type: ignore[arg-type]
    trial: Any = SimpleNamespace(
        batches=reader, sizes=sizes, recipe=SimpleNamespace(train=SimpleNamespace(steps=25)),
        _order=lambda n: SampleOrder(100, n, 0),
    )  # fmt: skip
    assert 77 in [draw.index for draw in Trial._largest(trial, 4)]
    assert reader.num_pixels(Trial._largest(trial, 4), sizes) == 4 * 10 * 30


class Sized:
    """As much of a data set as is asked for without reading an image."""

    def __init__(self, sizes: list[tuple[int, int]]):
        self.ids = [str(number) for number in range(len(sizes))]


@pytest.mark.skipif(not batch_size.CLEAR_REFS.exists(), reason="Linux says how much memory a process had")
def test_the_peak_of_an_update_is_measured() -> None:
    trial: Any = SimpleNamespace(_runs=lambda megabytes: torch.ones(megabytes << 18).sum() > 0)
    with freed_memory_kept():  # as in a training
        peaks = [
            Trial._peak(trial, megabytes) for megabytes in (200, 100)
        ]  # a smaller one after a larger one
    assert peaks[0] and peaks[1] and 80 < (peaks[0] - peaks[1]) / 2**20 < 120


def test_a_system_that_does_not_count_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batch_size, "CLEAR_REFS", tmp_path / "none" / "clear_refs")
    assert main(tiny(tmp_path, "one", *QUICK, "train.batch=auto")) == 2
    assert "Type numbers: train.batch=16 train.accumulate=1" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()
    assert load_recipe(RECIPE, ["train.batch=16", "train.accumulate=1"])


UNLABELLED = "data.unlabelled={root: photos}"


@pytest.mark.parametrize(
    ("asked", "fits", "num_processes", "chosen"),
    [
        (["train.batch=auto"], 5, 1, {"train.batch": 5}),
        (["train.batch=auto", "train.accumulate=2"], 5, 2, {"train.batch": 20}),
        (["train.batch=auto"], 1000, 1, {"train.batch": 64}),
        (["train.batch=auto", "train.accumulate=4"], 1000, 2, {"train.batch": 96}),  # of 100 images
        (["train.batch=12", "train.accumulate=auto"], 5, 1, {"train.accumulate": 3}),
        (["train.batch=12", "train.accumulate=auto"], 5, 2, {"train.accumulate": 2}),
        (["train.batch=96", "train.accumulate=auto"], 1000, 1, {"train.accumulate": 1}),
        (["train.batch=7", "train.accumulate=auto"], 6, 1, {"train.accumulate": 7}),
        (["train.batch=auto", UNLABELLED], 5, 1, {"train.batch": 4}),  # of which each two are a pair
        (["train.batch=auto", UNLABELLED], 3, 2, {"train.batch": 4}),
        (["train.batch=auto", f"{UNLABELLED[:-1]}, ratio: 0.4}}"], 12, 1, {"train.batch": 10}),
        (["train.batch=auto", f"{UNLABELLED[:-1]}, ratio: 0.3}}"], 5, 1, {"train.batch": 5}),  # refused later
    ],
)
def test_the_number_follows_from_what_fits(
    asked: list[str], fits: int, num_processes: int, chosen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = SimpleNamespace(least=2, search=lambda most: min(most, fits), message=str)
    monkeypatch.setattr(batch_size, "Trial", lambda *_: trial)
    monkeypatch.setattr(batch_size, "smallest", lambda process, value: value)
    process: Any = SimpleNamespace(world_size=num_processes, device=torch.device("cpu"), heartbeat=None)
    recipe, found = batch_size.with_batch(load_recipe(RECIPE, asked), [range(100)], process)  # type: ignore[list-item]
    assert found == chosen
    assert all(getattr(recipe.train, key.removeprefix("train.")) == value for key, value in chosen.items())


@pytest.mark.parametrize(
    ("asked", "chosen", "at_once"),
    [
        (["train.batch=auto"], {"train.batch": 5}, 5),
        (["train.batch=6", "train.accumulate=auto"], {"train.accumulate": 2}, 3),
    ],
    ids=["batch", "accumulate"],
)
def test_the_training_is_bit_for_bit_that_with_the_number(
    asked: list[str], chosen: dict[str, int], at_once: int, tmp_path: Path,
    fill: Callable[[int], list[int]], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    sizes = fill(5)
    assert main(tiny(tmp_path, "auto", *QUICK, *asked)) == 0
    assert set(sizes[-3:]) == {at_once}
    [(key, value)] = chosen.items()
    assert f"{key} auto: {value}" in capsys.readouterr().out
    typed = [line for line in asked if "auto" not in line]
    assert main(tiny(tmp_path, "typed", *QUICK, *typed, f"{key}={value}")) == 0
    runs = [RunFolder(tmp_path / name) for name in ("auto", "typed")]
    states = [load_file(run.last_state) for run in runs]
    assert states[0].keys() == states[1].keys() and len(states[0]) > 100
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    manifest = runs[0].read_manifest()
    assert manifest.environment[key] == f"{value}, chosen by auto"
    assert load_recipe(runs[0].recipe).train == load_recipe(runs[1].recipe).train


def test_a_resume_takes_the_number_of_the_run(
    tmp_path: Path, fill: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(5)
    command = tiny(tmp_path, "one", *QUICK, "train.batch=auto")
    assert main(command) == 0
    fill(3)  # another machine; it does not search
    assert main([*command, "--resume"]) == 0
    assert load_recipe(RunFolder(tmp_path / "one").recipe).train.batch == 5


def test_the_fewest_images_that_do_not_fit_are_a_message(
    tmp_path: Path, fill: Callable[[int], list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(0)
    assert main(tiny(tmp_path, "one", *QUICK, "train.batch=auto", "augment.crop=64")) == 1
    message = capsys.readouterr().err
    assert "Out of memory on cpu in an update" in message and "of 64 px" in message
    assert "Type the same command with augment.crop=32" in message and "Traceback" not in message
    assert not (tmp_path / "one").exists()


def test_the_number_is_said_without_a_run(
    tmp_path: Path, fill: Callable[[int], list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(5)
    assert main(tiny(tmp_path, "one", *QUICK, "train.batch=auto", "--dry-run")) == 0
    assert "train.batch auto: 5, 5 images at once on cpu; optimizer.lr is 0.002" in capsys.readouterr().out
    out = tmp_path / "lr"
    assert (
        lr_find([*tiny(tmp_path, "one", *QUICK, "train.batch=auto"), "--steps", "20", "--out", str(out)]) == 0
    )
    printed = capsys.readouterr().out
    assert "train.batch: 5" in printed and "train.batch=10" in printed  # and the rate for twice of it
