"""`trident lr_find` from its command line to its picture and its numbers."""

import json
from pathlib import Path

import pytest
from PIL import Image

from engine.lr_find import main

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


def test_it_suggests_a_rate_and_creates_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--steps", "24", "train.batch=4"]) == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "lr_find/demo/lr_find.json", "lr_find/demo/lr_find.png",
    }  # fmt: skip
    printed = json.loads((tmp_path / "lr_find/demo/lr_find.json").read_text())
    assert len(printed["rates"]) == len(printed["losses"]) == 24
    assert printed["rates"][0] == pytest.approx(1e-6) and printed["rates"][-1] == pytest.approx(1e-1)
    assert 1e-6 < printed["suggestion"] < 1e-1
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
    assert main([*TINY, *adversarial, "train.ema=0.9", "--narrow", "--steps", "20", "--out", "here"]) == 0
    printed = json.loads((tmp_path / "here/lr_find.json").read_text())
    assert printed["rates"][0] == pytest.approx(5e-5) and printed["rates"][-1] == pytest.approx(5e-4)
    assert "took no part" not in capsys.readouterr().out  # adversarial training starts at update 10


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
