"""`trident lr_find` from its command line to its picture and its numbers."""

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.batches import Batch
from engine.lr_find import main
from engine.training.step import SupervisedStep

ROOT = Path(__file__).parents[2]
TINY = [
    str(ROOT / "recipes/demo.yaml"),
    "data.synthetic.size=32",
    "data.synthetic.train_samples=8",
    "data.synthetic.val_samples=2",
    "augment.crop=32",
    "train.batch=4",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder of the command, where it writes its results."""
    monkeypatch.chdir(tmp_path)


def losses_are(monkeypatch: pytest.MonkeyPatch, loss: Callable[[float, int], float]) -> None:
    """The updates have this loss, by the learning rate and the number of the update."""

    def step(step: SupervisedStep, batch: Batch) -> dict[str, torch.Tensor]:
        rate = step.lr_factor(step.count) * step.optimizers["optimizer"].param_groups[0]["initial_lr"]
        step.count += 1
        return {"loss": torch.tensor(loss(rate, step.count), dtype=torch.float64)}

    monkeypatch.setattr(SupervisedStep, "__call__", step)


def valley(rate: float, _: int = 0) -> float:
    """3 up to 1e-4, 1 from 1e-3 to 1e-2, and from there it rises."""
    return float(np.interp(math.log10(rate), [-4, -3, -2, -1], [3, 1, 1, 3]))


def test_it_suggests_a_rate_and_creates_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_are(monkeypatch, valley)
    assert main([*TINY, "--steps", "24", "train.batch=4"]) == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "lr_find/demo/lr_find.json", "lr_find/demo/lr_find.png",
    }  # fmt: skip
    printed = json.loads((tmp_path / "lr_find/demo/lr_find.json").read_text())
    assert len(printed["rates"]) == len(printed["losses"]) == 24
    assert printed["rates"][0] == pytest.approx(1e-6) and printed["rates"][-1] == pytest.approx(1e-1)
    assert 1e-3 < printed["suggestion"] < 1e-2 and printed["verdict"] == "found"
    linear = {row["batch"]: row["linear"] / printed["suggestion"] for row in printed["scaling"]}
    root = {row["batch"]: row["square_root"] / printed["suggestion"] for row in printed["scaling"]}
    assert linear == pytest.approx({2: 0.5, 4: 1, 8: 2, 16: 4})
    assert root == pytest.approx({2: 0.5**0.5, 4: 1, 8: 2**0.5, 16: 2})
    output = capsys.readouterr().out
    assert f"optimizer.lr={printed['suggestion']:.1e}" in output and printed["rule"] in output
    assert "train.batch=16" in output and "1706.02677" in output
    with Image.open(tmp_path / "lr_find/demo/lr_find.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
    assert main([*TINY, "--steps", "24"]) == 2  # nothing is overwritten
    assert "--out" in capsys.readouterr().err


def test_an_adversarial_recipe_in_the_narrow_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adversarial = ["adversarial.start=10", "adversarial.channels=8", "adversarial.layers=2"]
    assert main([*TINY, *adversarial, "train.ema=0.9", "--narrow", "--steps", "20", "--out", "here"]) in (
        0,
        1,
    )
    printed = json.loads((tmp_path / "here/lr_find.json").read_text())
    assert printed["rates"][0] == pytest.approx(5e-5) and printed["rates"][-1] == pytest.approx(5e-4)
    assert "was not used" not in capsys.readouterr().out  # adversarial training starts at update 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "1e-2", "--to", "1e-3"], "expected 0 < from < to"),
        (["--from", "0"], "expected 0 < from < to"),
        (["--steps", "5"], "at least 20 updates"),
        (["optimizer.rl=1"], "optimizer.rl"),
        (["--out", "run/inside"], "is inside the run"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list, words: str, capsys) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/manifest.json").write_text("{}")
    assert main([*TINY, *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (tmp_path / "lr_find").exists() and not (tmp_path / "run/inside").exists()


def faint(rate: float, update: int) -> float:
    """The valley, less deep than the noise of a single loss."""
    return 1 + 0.1 * valley(rate) + float(np.random.default_rng([4, update]).normal(0, 0.14))


@pytest.mark.parametrize(
    ("loss", "arguments", "words"),
    [
        (valley, ["--from", "1e-5", "--to", "3e-3"], "does not rise again"),
        (valley, ["--from", "9e-3", "--to", "1e-1"], "does not fall"),
        (faint, ["--steps", "100"], "the curve cannot tell"),
        (lambda rate, _: math.nan if rate > 0.02 else valley(rate), ["--from", "3e-2"], "becomes infinite"),
    ],
    ids=["falls to the end", "rises", "noise", "NaN at once"],
)
def test_a_curve_that_does_not_tell_suggests_nothing_and_what_is_typed_next_does(
    loss: Callable[[float, int], float],
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses_are(monkeypatch, loss)
    assert main([*TINY, *arguments]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert words in output and "optimizer.lr=" not in output and "train.batch=8 " not in output
    assert json.loads(Path("lr_find/demo/lr_find.json").read_text())["suggestion"] is None
    trident, command, *again = shlex.split(output.partition("Next: ")[2].partition(" picture")[0])
    assert (trident, command) == ("trident", "lr_find")
    assert main(again) == 0
    assert 1e-3 < json.loads(Path("lr_find/demo-2/lr_find.json").read_text())["suggestion"] < 1e-2
