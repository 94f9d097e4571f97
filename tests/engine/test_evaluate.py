"""`trident evaluate` from its command line to what it prints and writes, on a run that the test writes."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import engine.data
from engine.command import paths_and_overrides
from engine.evaluate import OUTPUTS, main
from engine.recipe import load_recipe
from engine.run_folder import (
    CombinationValues,
    DataIdentity,
    EnsembleManifest,
    EnsembleMember,
    Manifest,
    Member,
    RunFolder,
    sha256_of,
)
from engine.scoring.confusion import Scores
from engine.scoring.options import PROTOCOLS
from engine.scoring.scores_file import read_scores
from models import build_model

RECIPE = """
name: tiny
data: {format: synthetic, synthetic: {size: 32, train_samples: 2, val_samples: 3, seed: 0}}
model: {variant: b0, decoder_width: 16, from_scratch: true}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of two checkpoints and an ensemble of both."""
    folder = tmp_path_factory.mktemp("trained")
    run = RunFolder(folder / "run")
    run.create()
    run.recipe.write_text(RECIPE)
    recipe = load_recipe(run.recipe)
    val = engine.data.open_split(recipe.data, "val")
    members = []
    for step, score in ((2, 0.4), (1, 0.3)):
        torch.manual_seed(step)
        path = run.top / f"step-{step}.safetensors"
        save_file(build_model(recipe.model, val.class_names).state_dict(), path)
        file = str(path.relative_to(run.path))
        members.append(Member(file=file, step=step, scores={"mIoU": score}, sha256=sha256_of(path)))
    data = DataIdentity(
        format="synthetic",
        train="train",
        val="val",
        train_fingerprint="",
        val_fingerprint=val.fingerprint(),
    )
    common = {"code_version": "0", "class_names": list(val.class_names), "palette": list(val.palette)}
    run.write_manifest(
        Manifest(name="tiny", data=data, metric="mIoU", num_parameters=1, members=members, **common)
    )
    ensemble = EnsembleManifest(
        name="both",
        method="mean",
        data=data,
        members=[
            EnsembleMember(name=f"step {m.step}", file=m.file, recipe="recipe.yaml", sha256=m.sha256)
            for m in members
        ],
        combination=CombinationValues(space="probability", weights=((0.5,), (0.5,)), temperatures=(1.0, 1.0)),
        scores={},
        **common,
    )
    shutil.copytree(run.path, folder / "both", ignore=shutil.ignore_patterns("manifest.json"))
    (folder / "both/combination.json").write_text(ensemble.model_dump_json())
    return folder


def test_the_scores_and_the_card_are_printed_and_the_run_is_unchanged(trained: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert main([str(trained / "run")]) == 0
    message = capsys.readouterr().out
    assert "tiny step 2 on val, 3 images\n" in message
    for text in ("precision", "recall", "F1", "boundary IoU", "mIoU", "mAcc", "aAcc", "ECE"):
        assert text in message
    for text in (
        "native",
        "resize",
        "pad",
        "window",
        "scales",
        "flip",
        "split",
        "classes absent",
        "void pixels",
    ):
        assert text in message
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_the_written_scores_agree_with_the_counts_by_image(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep/scored"
    checkpoint = trained / "run/top/step-1.safetensors"
    assert main([str(checkpoint), "--out", str(out), "--worst", "2", "eval.flip=true"]) == 0
    of_overlapping = {"precision_recall.png"}
    assert {path.name for path in out.iterdir()} == set(OUTPUTS) - of_overlapping
    output = json.loads((out / "evaluate.json").read_text())
    assert output["name"] == "tiny step 1"
    [(name, result)] = output["protocols"].items()
    card = result["card"]
    assert (name, card["flip"], card["split"], card["num_images"]) == ("native", True, "val", 3)
    counts = read_scores(out / "scores.h5")
    assert Scores.of(counts.confusion["native"].sum(axis=0), tuple(counts.class_names)).mIoU == pytest.approx(
        result["scores"]["mIoU"]
    )
    num_pixels = card["num_pixels"]
    for rows in (counts.boundary, counts.edges):
        assert rows["native"].sum() == num_pixels
    pixels, sum_of_confidence, right = counts.reliability["native"].sum(axis=0)
    assert pixels.sum() == num_pixels
    assert result["calibration"]["ece"] == pytest.approx(abs(sum_of_confidence - right).sum() / num_pixels)
    assert len(result["worst"]) == 2 and result["worst"][0][0] <= result["worst"][1][0]
    sheet = np.asarray(Image.open(out / "worst.png"))
    assert (sheet == (232, 48, 62)).all(axis=2).sum() > 1000  # what is wrong is red


def test_all_protocols_side_by_side(trained: Path, tmp_path: Path, capsys) -> None:
    arguments = ["--protocol", "all", "eval.window=16", "eval.stride=8", "eval.scales=[0.1]"]
    assert main([str(trained / "run"), *arguments, "--out", str(tmp_path / "all")]) == 0
    message = capsys.readouterr().out
    assert all(name in message for name in PROTOCOLS)
    output = json.loads((tmp_path / "all/evaluate.json").read_text())["protocols"]
    assert list(output) == list(PROTOCOLS)
    assert set(read_scores(tmp_path / "all/scores.h5").confusion) == set(PROTOCOLS)
    assert output["slide"]["card"]["window"] == "16 px, stride 8 px"


def test_a_saved_ensemble_is_scored_as_one_predictor(trained: Path, tmp_path: Path) -> None:
    assert main([str(trained / "both"), "--out", str(tmp_path / "out")]) == 0
    output = json.loads((tmp_path / "out/evaluate.json").read_text())
    assert output["name"] == "both"
    assert list(read_scores(tmp_path / "out/scores.h5").confusion) == ["native"]


def test_a_step_takes_another_kept_checkpoint(trained: Path, capsys) -> None:
    assert main([str(trained / "run"), "--step", "1"]) == 0
    assert "tiny step 1 on val" in capsys.readouterr().out


def test_another_split_is_marked_as_such(trained: Path, capsys) -> None:
    assert main([str(trained / "run"), "--split", "train"]) == 0
    message = capsys.readouterr().out
    assert "on train, 2 images. The model was trained on these images" in message
    assert "Only 2 images were scored" in " ".join(message.split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run"], "tiny step 2 is a single model"),
        (["both", "--protocol", "all", "eval.window=16", "eval.stride=8"], "several protocols"),
        (["both", "--tile", "32"], "with --tile"),
    ],
)
def test_it_is_said_where_a_selection_split_has_no_effect(
    trained: Path, arguments: list[str], reason: str, capsys
) -> None:
    arguments = [str(trained / arguments[0]), *arguments[1:]]
    assert main([*arguments, "data.select=train"]) == 0
    printed = capsys.readouterr().out
    assert f"data.select has no effect here: {reason}" in printed and "mIoU" in printed
    assert main([*arguments, "data.select=null"]) == 0
    assert "no effect" not in capsys.readouterr().out


def test_values_that_change_nothing_are_named(trained: Path, capsys) -> None:
    """Of the data and of the protocol; those that change something are not."""
    unused = ["data.sampler=rare", "data.doctor=off", "eval.every=5", "eval.window=384"]
    used = ["eval.flip=true", "data.workers=0", "data.on_error=skip", "data.synthetic.val_samples=2"]
    assert main([str(trained / "run"), *unused, *used]) == 0
    said = re.findall(r"(\S+) has no effect here", capsys.readouterr().out)
    assert sorted(said) == sorted(text.partition("=")[0] for text in unused)
    slides = ["--protocol", "slide", "eval.window=16", "eval.stride=16", "eval.protocol=paddle"]
    assert main([str(trained / "run"), *slides]) == 0
    said = capsys.readouterr().out
    assert said.count("no effect") == 1 and "eval.protocol has no effect here: --protocol slide" in said


def test_no_split_to_fit_the_temperature_on_is_no_mistake(trained: Path, capsys) -> None:
    assert main([str(trained / "both"), "data.select=null"]) == 0
    printed = capsys.readouterr().out
    assert "without a temperature. No split is named" in printed and "no effect" not in printed


def test_images_that_chose_the_checkpoints_are_marked_as_such(
    voc_run: Callable[..., Path], voc_folder: Path, capsys
) -> None:
    run = RunFolder(voc_run())
    (voc_folder / "ImageSets/Segmentation/held.txt").write_text("val_000001\n")
    recipe = run.recipe.read_text()
    run.recipe.write_text(recipe.replace("train: train", "train: train, select: held"))
    assert main([str(run.path), "--split", "held"]) == 0
    assert "on held, 1 image; its checkpoints were chosen on them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{t}/nowhere"], "nowhere does not exist"),
        (["{t}/run", "{t}/both"], "got 2"),
        (["eval.flip=true"], "got 0"),
        (["{t}/run", "model.variant=b1"], "cannot be changed"),
        (["{t}/run", "eval.stride=600"], "eval.stride"),
        (["{t}/run", "--worst", "3"], "--out <folder>"),
        (["{t}/run", "--worst", "-1", "--out", "x"], "--worst -1"),
        (["{t}/run", "--protocol", "window"], "invalid choice"),
        (["{t}/run", "--out", "{t}/taken"], "exists already"),
        (["{t}/run", "--out", "{t}/run/recipe.yaml"], "recipe.yaml is a file"),
        (["{t}/run", "--out", "{t}/run/recipe.yaml/out"], "recipe.yaml is a file"),
        (["{t}/run", "--split", "test"], "test"),
        (["{t}/run", "--step", "3"], "Steps kept: 2, 1"),
        (["{t}/both", "--step", "1"], "leave the step 1 out"),
        (["{t}/run", "--overlap", "8"], "such as --tile 1024"),
        (["{t}/run", "--tile", "32", "--overlap", "17"], "half a tile, 16 px"),
        (["{t}/run", "--tile", "32", "--protocol", "all"], "--protocol=native"),
        (["{t}/run", "--tile", "32", "--worst", "3", "--out", "x"], "leave one of them out"),
        (["{t}/run", "--max-pixels", "many"], "such as 400000000"),
    ],
)
def test_wrong_input_is_exit_2(trained: Path, arguments: list[str], message: str, capsys) -> None:
    (trained / "taken").mkdir(exist_ok=True)
    (trained / "taken/scores.h5").write_text("theirs")
    assert main([text.format(t=trained) for text in arguments]) == 2
    output = capsys.readouterr().err
    assert message in output and "Traceback" not in output
    assert (trained / "taken/scores.h5").read_text() == "theirs"


def test_by_tiles_all_files_but_the_picture_are_written(trained: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "scored"
    assert main([str(trained / "run"), "--tile", "16", "--overlap", "4", "--out", str(out)]) == 0
    assert "16 px, which overlap by 4 px" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {*OUTPUTS} - {"worst.png", "precision_recall.png"}
    scores = read_scores(out / "scores.h5")
    [confusion] = scores.confusion.values()
    [result] = json.loads((out / "evaluate.json").read_text())["protocols"].values()
    assert confusion.sum() == result["card"]["num_pixels"] == 3 * 32 * 32 - result["card"]["num_void"]


def test_tiles_need_rasterio(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    out = tmp_path / "out"
    assert main([str(trained / "run"), "--tile", "16", "--out", str(out)]) == 2
    assert "rasterio is not installed. Type pip install" in capsys.readouterr().err
    assert not out.exists()


def test_a_path_may_have_an_equals_sign_in_it(tmp_path: Path) -> None:
    folder = str(tmp_path / "lr=0.1")
    assert paths_and_overrides([folder, "eval.flip=true"]) == ([], [folder, "eval.flip=true"])
    Path(folder).mkdir()
    assert paths_and_overrides([folder, "eval.flip=true"]) == ([folder], ["eval.flip=true"])


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths_and_overrides(["~/run", "a~b"]) == ([str(tmp_path / "run"), "a~b"], [])


def test_an_interrupted_evaluation_leaves_no_half_file(trained: Path, tmp_path: Path, monkeypatch) -> None:
    def stop(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.reporting.console.counted", lambda console, what: stop)
    assert main([str(trained / "run"), "--out", str(tmp_path / "out")]) == 1
    assert list((tmp_path / "out").iterdir()) == []
