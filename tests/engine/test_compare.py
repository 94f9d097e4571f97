"""`trident compare` from its command line to its files, on small trainings."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from engine.compare import main
from engine.comparison import runs
from engine.comparison.grid import Cell, CompareError, cells_of, load_recipes, prepare
from engine.comparison.runs import require_alike
from engine.data import DataError
from engine.data.options import Data
from engine.ensemble import main as ensemble_main
from engine.evaluate import main as evaluate_main
from engine.prepare import main as prepare_main
from engine.recipe import load_recipe
from engine.run import main as run_main
from engine.run_folder import RunFolder
from tests.engine.tiny_run import RECIPE, TINY

SMALLER = [
    *TINY,
    "data.synthetic.val_samples=6",
    "train.steps=2",
    "eval.every=1",
    "log.every=50",  # more than there are
    "log.images=0",
]
SET = [text for setting in SMALLER for text in ("--set", setting)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipes plain.yaml and dice.yaml, and their grid of two seeds in out/, all trained."""
    folder = tmp_path_factory.mktemp("compare")
    for name, loss in (("plain", "[{name: cross_entropy}]"), ("dice", "[{name: dice}]")):
        text = f"base: {RECIPE}\nname: {name}\nloss: {loss}\n"
        (folder / f"{name}.yaml").write_text(text)
    cells = cells_of(load_recipes([folder / "plain.yaml", folder / "dice.yaml"], SMALLER), 2, folder / "out")
    for cell in prepare(cells):
        assert run_main(cell.arguments) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, as the working folder of the commands."""
    monkeypatch.chdir(shutil.copytree(trained, tmp_path / "copy"))
    rewrite = (tmp_path / "copy/out/cells").glob("*.yaml")
    for file in rewrite:
        file.write_text(file.read_text().replace(str(trained), str(tmp_path / "copy")))
    return tmp_path / "copy"


def grid(*more: str) -> list[str]:
    return ["plain.yaml", "dice.yaml", "--seeds", "2", "--out", "out", *SMALLER, *more]


def test_a_finished_grid_is_compared_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(grid()) == 0
    output = capsys.readouterr().out
    assert "4 runs in out, 4 of them finished" in output
    found = json.loads((folder / "out/compare.json").read_text())
    assert [(method["name"], method["seeds"]) for method in found["methods"]] == [
        ("plain", [0, 1]),
        ("dice", [0, 1]),
    ]
    for method in found["methods"]:
        for run, value in zip(method["runs"], method["values"], strict=True):
            manifest = json.loads((folder / run / "manifest.json").read_text())
            assert value == pytest.approx(manifest["members"][0]["scores"]["mIoU"], abs=1e-12)
        assert all(method["figures"][name] > 0 for name in ("update_s", "images_per_s", "memory_mb"))
        assert method["figures"]["training_s"] > 0 and method["figures"]["energy_j"] is None
    assert any(
        "loss.0.name: dice instead of cross_entropy" in text for text in found["methods"][1]["changed"]
    )
    with (folder / "out/compare.csv").open() as file:
        [row] = [r for r in csv.DictReader(file) if (r["method"], r["quantity"]) == ("dice", "mIoU")]
    assert float(row["difference"]) == found["methods"][1]["gap"]["value"]
    assert "# Comparison on synthetic val" in (folder / "out/compare.md").read_text()
    assert (folder / "out/compare.html").read_text().count("<svg") == 5


def test_run_folders_give_the_same_comparison_as_their_grid(folder: Path) -> None:
    assert main(grid()) == 0
    of_grid = json.loads((folder / "out/compare.json").read_text())
    runs = [f"out/{name}-s{seed}" for name in ("plain", "dice") for seed in (0, 1)]
    assert main([*runs, "--out", "files"]) == 0
    of_runs = json.loads((folder / "files/compare.json").read_text())
    assert of_runs == of_grid


def test_runs_that_cannot_be_compared_leave_no_folder(folder: Path, monkeypatch, capsys) -> None:
    def refuse(methods: object) -> None:
        raise CompareError("other images")

    monkeypatch.setattr("engine.comparison.runs.require_comparable", refuse)
    assert main(["out/plain-s0", "out/dice-s0", "--out", "new"]) == 2
    assert "other images" in capsys.readouterr().err and not (folder / "new").exists()


def test_a_saved_ensemble_is_compared_with_runs_on_the_same_images(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "out/plain-s0"
    assert ensemble_main([str(run), "--save", "together"]) == 0
    of_ensemble = json.loads((run / "ensemble.json").read_text())
    capsys.readouterr()
    assert prepare_main(["pack", "plain.yaml", "--out", "own.h5", *SMALLER]) == 0
    packed = ["data.format=packed", "data.root=own.h5"]
    unused = ["eval.window=600", "data.sampler=rare", "data.synthetic.val_samples=6"]
    capsys.readouterr()
    assert main(["out/plain-s0", "together", "out/dice-s0", *packed, *unused, "--out", "found"]) == 0
    said = capsys.readouterr().out
    assert "to the first [95 %]" in said and said.count("has no effect here") == 3
    written = json.loads((folder / "found/contestants.json").read_text())
    found = written["contestants"]
    assert list(found) == ["out/plain-s0", "together", "out/dice-s0"]
    assert [one["forward_passes"] for one in found.values()] == [1, 2, 1]
    best = RunFolder(run).read_manifest().members[0].scores["mIoU"]
    assert found["out/plain-s0"]["mIoU"] == pytest.approx(best, abs=1e-12)
    assert found["together"]["mIoU"] == pytest.approx(of_ensemble["ensembles"]["mean"]["mIoU"], abs=1e-12)
    gain = found["together"]["mIoU"] - found["out/plain-s0"]["mIoU"]
    assert found["together"]["to_first"]["value"] == pytest.approx(gain, abs=1e-12)
    assert written["dataset"] == {"split": "val", "num_images": 6}

    assert main(["together"]) == 2
    said = capsys.readouterr().err
    assert evaluate_main(said.split("type trident evaluate ")[1].split()) == 0
    assert main(["together", "out/plain-s0", "--seeds", "2"]) == 2
    assert "leave them out beside a saved ensemble" in capsys.readouterr().err


def test_what_has_other_classes_is_not_scored_beside_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ensemble_main(["out/plain-s0", "--save", "together"]) == 0
    run = RunFolder(folder / "out/dice-s0")
    names = run.read_manifest().class_names
    content = json.loads(run.manifest.read_text()) | {"sha256": None}
    run.manifest.write_text(json.dumps(content | {"class_names": [*names[:-1], "other"]}))
    capsys.readouterr()
    assert main(["together", "out/dice-s0", "--out", "found"]) == 2
    said = capsys.readouterr().err
    assert "the list of classes is" in said and "other for it, and" in said
    assert "Leave one of them out" in said and not (folder / "found").exists()


def test_what_was_trained_on_other_values_is_not_scored_beside_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ensemble_main(["out/plain-s0", "--save", "together"]) == 0
    recipe = folder / "out/dice-s0/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("range: auto", "range: [0, 4095]"))
    manifest = folder / "out/dice-s0/manifest.json"
    content = json.loads(manifest.read_text()) | {"sha256": None}
    del content["files"]["recipe.yaml"]
    manifest.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["together", "out/dice-s0", "--out", "found"]) == 2
    assert ensemble_main(["out/plain-s0", "out/dice-s0", "--top", "4"]) == 2
    said = capsys.readouterr().err
    assert said.count("data.range is (0.0, 4095.0) for it, and auto") == 2
    assert not (folder / "found").exists()
    for typed in re.findall(r"^trident evaluate (.+)$", said, re.MULTILINE):
        assert evaluate_main(typed.split()) == 0


def test_missing_cells_are_trained_with_equal_results(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((folder / "out/dice-s1/ensemble.json").read_text())
    shutil.rmtree(folder / "out/dice-s1")
    assert main(grid()) == 0
    output = capsys.readouterr().out
    assert "3 of them finished" in output and "dice-s1: started" in output
    assert json.loads((folder / "out/dice-s1/ensemble.json").read_text()) == before


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training fails."""
    failing = [sys.executable, "-c", "raise SystemExit('the disk is full')"]
    monkeypatch.setattr(Cell, "command", property(lambda cell: failing))


@pytest.mark.usefixtures("broken")
def test_a_cell_that_fails_is_exit_1_and_the_others_are_compared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "out/dice-s1")
    assert main(grid()) == 1
    output = capsys.readouterr().out
    assert "dice-s1: failed" in output and "the disk is full" in output and "same command" in output
    found = json.loads((folder / "out/compare.json").read_text())
    assert [method["seeds"] for method in found["methods"]] == [[0, 1], [0]]


@pytest.mark.usefixtures("broken")
def test_without_the_first_method_nothing_is_compared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        shutil.rmtree(folder / f"out/plain-s{seed}")
    assert main(grid()) == 1
    assert "No run of plain has finished" in capsys.readouterr().out
    assert not (folder / "out/compare.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml"),
        (["plain.yaml", "out"], "not both: plain.yaml"),
        (["b0_ce", "out"], "not both: b0_ce is a recipe"),
        (["nowhere", "out"], "file or folder nowhere"),
        (["plain.yaml", "--seeds", "0"], "--seeds and --jobs"),
        (["plain.yaml", "--jobs", "0"], "--seeds and --jobs"),
        (["plain.yaml", "--set", "train.stepps=3"], "did you mean"),
        (["plain.yaml", "train.stepps=3"], "did you mean"),
        (["plain.yaml", "seed=3"], "seed=3"),
        (["train.steps=3"], "recipes"),
        (["out", "train.steps=3"], "for recipes"),
        (["out/cells"], "No run in"),
        (["plain.yaml", "dice.yaml", "--out", "out", *SET, "--set", "optimizer.lr=0.1"], "optimizer.lr"),
    ],
)
def test_wrong_input_is_exit_2(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr().err
    assert message in output and "Traceback" not in output
    assert not (folder / "out/compare.json").exists()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("eval: {scales: [0.5]}", "it is scored in another way (scales [0.5], not [1.0])"),
        ("data: {synthetic: {val_samples: 5}}", "1 val image of one of them only: "),
        ("data: {format: folder, root: own, train: train, val: val, synthetic: null, classes: [a, b]}",
         "its classes are a, b, not background, "),
    ],
)  # fmt: skip
def test_recipes_that_cannot_be_compared_are_not_trained(
    folder: Path, values: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            Path("own", split, kind).mkdir(parents=True)
            Image.new("L", (8, 8)).save(f"own/{split}/{kind}/1.png")
    sizes = "data: {synthetic: {size: 32, train_samples: 8, val_samples: 6}}\n"
    Path("first.yaml").write_text(f"base: plain.yaml\nname: first\n{sizes}")
    Path("other.yaml").write_text(f"base: first.yaml\nname: other\n{values}\n")
    settings = [one for one in TINY if "synthetic" not in one]
    assert main(["first.yaml", "other.yaml", "--out", "new", *settings]) == 2
    assert f"other cannot be compared with first: {reason}" in capsys.readouterr().err
    assert not Path("new").exists()


def test_recipes_of_other_labels_by_the_same_names_are_not_trained(folder: Path) -> None:
    for root, label in (("one", 0), ("copy", 0), ("other", 1)):
        for split in ("train", "val"):
            for kind, value in (("images", 0), ("masks", label)):
                Path(root, split, kind).mkdir(parents=True)
                Image.new("L", (8, 8), value).save(f"{root}/{split}/{kind}/1.png")

    def alike(*values: str) -> None:
        recipes = [
            load_recipe("plain.yaml", [f"name={name}", *of_folder, *more], trains=True)
            for name, more in (("first", ()), ("second", values))
        ]
        require_alike(recipes, opens_data=True)

    of_folder = ["data.format=folder", "data.synthetic=null", "data.classes=[a, b]", "data.root=one"]
    alike("data.root=copy", "data.resident=ram")
    for values in ("data.root=other", "data.ids={0: 1, 1: 0}"):
        with pytest.raises(CompareError, match="second cannot .* first: its val images or labels differ"):
            alike(values)


def test_data_that_is_missing_is_reported_before_a_run_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(data: Data, split: str) -> None:
        raise DataError(f"{split} is gone")

    monkeypatch.setattr(runs, "open_split", gone)
    for recipes in (["plain.yaml"], ["plain.yaml", "dice.yaml"]):
        assert main([*recipes, "--seeds", "1", "--out", "new"]) == 2
        assert "is gone" in capsys.readouterr().err and not Path("new").exists()
    require_alike(load_recipes(["plain.yaml", "dice.yaml"], []), opens_data=False)
    monkeypatch.setattr(RunFolder, "is_finished", True)
    assert main(["plain.yaml", "dice.yaml", "--seeds", "1", "--out", "new"]) == 2
    assert "is gone" not in capsys.readouterr().err


def test_data_is_opened_once_where_all_recipes_have_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    original = runs.open_split
    monkeypatch.setattr(runs, "open_split", lambda data, split: opened.append(split) or original(data, split))
    Path("sampled.yaml").write_text("base: plain.yaml\nname: sampled\ndata: {sampler: uniform}\n")
    require_alike(load_recipes(["plain.yaml", "dice.yaml"], []), opens_data=True)
    assert opened == ["train", "val"]
    require_alike(load_recipes(["plain.yaml", "sampled.yaml"], []), opens_data=True)
    assert opened == ["train", "val"] * 3
