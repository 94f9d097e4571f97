"""A run on three sets in three layouts: its scores by set, its resume, and every command after it."""

import json
import re
import shlex
import shutil
import socket
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import trident
from engine.command import main as command_line
from engine.run_folder import RunFolder, read_log
from engine.scoring.run import Run
from tests.drawn_sets import three_sets
from tests.engine.test_run_resume import STOPS_ITSELF
from tests.processes import Python, python

REST = """
name: own
model: {arch: segformer, variant: b0, from_scratch: true}
augment: {crop: 32, mosaic: 0.5, copy_paste: 0.5}
schedule: {warmup: 0}
train: {steps: 4, batch: 4}
eval: {every: 2}
log: {every: 2, images: 2, to: [csv]}
output: {dir: runs}
"""
WEIGHTS = ["data.weight=2", "data.also.0.weight=1", "data.also.1.weight=1", "data.sampler=rare"]


def command(*arguments: object) -> int:
    return command_line([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    with chdir(made):
        Path("own.yaml").write_text(three_sets(Path("sets")) + REST)
        assert command("run", "own.yaml", *WEIGHTS) == 0
    return made


@pytest.fixture
def finished(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run, in a copy of its folder, which is the working folder."""
    shutil.copytree(made_once, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("runs/own")


def test_each_set_is_scored_and_logged_apart(finished: Path) -> None:
    rows = read_log(finished / "log.jsonl")
    scored = [(row["step"], row["split"]) for row in rows if row["split"].endswith("val")]
    assert scored == [(step, split) for step in (2, 4) for split in ("val", "coco/val", "lorries/val")]
    of_coco = [row for row in rows if row["split"] == "coco/val"]
    assert of_coco[1]["IoU"].keys() == {"background", "cat", "sofa"}
    assert Run(finished).curve("mIoU", "coco/val")[1].tolist() == [row["mIoU"] for row in of_coco]
    columns = (finished / "log_val.csv").read_text().splitlines()[0].split(",")
    assert {"mIoU", "coco/mIoU", "lorries/mIoU", "coco/IoU/sofa", "lorries/loss"} <= {*columns}

    ensemble = json.loads((finished / "ensemble.json").read_text())
    assert ensemble["further"].keys() == {"coco/val", "lorries/val"}
    last = ensemble["further"]["coco/val"]["step 4"]
    assert last["mIoU"] == pytest.approx(of_coco[1]["mIoU"], abs=1e-6)
    assert ensemble["further"]["lorries/val"]["mean"]["IoU"]["sofa"] in (None, 0.0)
    report = (finished / "report.html").read_text()
    assert "mIoU on coco/val" in report and "Scores of own on other sets" in report
    best = RunFolder(finished).read_manifest().members[0]
    assert best.scores["mIoU"] == max(row["mIoU"] for row in rows if row["split"] == "val")


def test_evaluate_scores_each_set_or_the_one_that_is_asked_for(finished: Path, capsys) -> None:
    assert command("evaluate", finished, "--out", "scored") == 0
    said = capsys.readouterr().out
    assert [f"on {split}, " in said for split in ("val", "coco/val", "lorries/val")] == [True] * 3
    of_coco = json.loads(Path("scored/coco/evaluate.json").read_text())
    [[_, by_protocol]] = of_coco["protocols"].items()
    assert by_protocol["card"]["num_images"] == 2
    assert Path("scored/evaluate.json").is_file() and Path("scored/lorries/scores.h5").is_file()
    Path("scored/evaluate.json").unlink()
    for name in ("scores.h5", "reliability.png"):
        Path("scored", name).unlink()
    assert command("evaluate", finished, "--out", "scored") == 2
    assert "scored/coco/evaluate.json exists already" in capsys.readouterr().err
    again = trident.evaluate(finished, split="coco/val").mIoU
    assert again == pytest.approx(by_protocol["scores"]["mIoU"])
    assert command("evaluate", finished, "--split", "val") == 0
    assert "The sets are voc, coco, lorries" in capsys.readouterr().out
    assert command("evaluate", finished, "--split", "train") == 0
    assert "15 images. The model was trained on these images" in capsys.readouterr().out


def test_tiles_as_large_as_the_images_score_each_set_as_whole_images(finished: Path) -> None:
    pytest.importorskip("rasterio")
    assert command("evaluate", finished, "--out", "whole") == 0
    assert command("evaluate", finished, "--tile", 64, "--out", "tiled") == 0
    for name in ("", "coco", "lorries"):
        scores = []
        for out in ("whole", "tiled"):
            content = json.loads(Path(out, name, "evaluate.json").read_text())
            scores.append(content["protocols"]["native"]["scores"])
        assert scores[0]["IoU"] == scores[1]["IoU"] and scores[0]["num_void"] == scores[1]["num_void"]


def test_every_command_works_on_several_sets(finished: Path, capsys) -> None:
    for line in (
        ["ensemble", finished, "--save", "together"],
        ["evaluate", "together"],
        ["report", finished],
        ["diagnose", finished, "--labels"],
        ["diagnose", finished, "--labels", "--split", "train", "--out", "of_train"],
        ["predict", finished, "sets/voc/JPEGImages", "--out", "masks"],
        ["doctor", "own.yaml", "--out", "doctor.json"],
        ["doctor", "own.yaml", "--show", "augment"],
        ["run", "own.yaml", *WEIGHTS, "--resume"],
        ["run", "own.yaml", *WEIGHTS, "name=dry", "--dry-run"],
        ["run", "own.yaml", *WEIGHTS, "--explain"],
        ["lr_find", "own.yaml"],
        ["diagnose", finished, "--replay", "2"],
    ):
        capsys.readouterr()
        assert command(*line) == 0, (line, capsys.readouterr())


def test_a_stopped_run_ends_as_the_whole(finished: Path) -> None:
    line = ["own.yaml", *WEIGHTS, "output.dir=again"]
    stopped = python("-c", STOPS_ITSELF, *line, folder=Path.cwd())
    assert stopped.returncode == 1, stopped.stderr
    assert command("run", *line, "--resume") == 0
    again = Path("again/own")
    for name in ("last/state.safetensors", "top/step-0000004.safetensors"):
        one, two = load_file(finished / name), load_file(again / name)
        assert [key for key in one if not torch.equal(one[key], two[key])] == []
    scores = [
        [row for row in read_log(run / "log.jsonl") if row["split"].endswith("val")]
        for run in (finished, again)
    ]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_two_processes_train_on_the_same_images_and_score_each_set(finished: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = ["-m", "engine.run", "own.yaml", *WEIGHTS, "output.dir=two"]
    processes = []
    for rank in range(2):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank}
        place |= {"WORLD_SIZE": 2, "CUDA_VISIBLE_DEVICES": ""}
        environment = {key: str(value) for key, value in place.items()}
        processes.append(Python(*line, folder=Path.cwd(), environment=environment))
    assert [process.end().returncode for process in processes] == [0, 0]
    alone, two = (
        [row for row in read_log(Path(run) / "log.jsonl") if row["step"] <= 4]
        for run in (finished, "two/own")
    )
    assert [row["split"] for row in two][:8] == [row["split"] for row in alone][:8]
    for one, other in zip(alone[:8], two[:8], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_moved_sets_go_on_with_their_names(finished: Path, capsys) -> None:
    shutil.move("sets/coco", "elsewhere")
    moved = ["data.also.0.root=elsewhere"]
    assert command("run", "own.yaml", *WEIGHTS, *moved, "--resume") == 2
    assert "data.also.0.name: coco in the run, elsewhere now" in capsys.readouterr().err
    assert command("run", "own.yaml", *WEIGHTS, *moved, "data.also.0.name=coco", "--resume") == 0


def test_the_doctor_names_the_set_and_what_sets_share(finished: Path, capsys) -> None:
    shutil.copy("sets/voc/JPEGImages/000002.jpg", "sets/coco/val/1100.png")
    mask = Path("sets/lorries/train/masks/2001.png")
    mask.write_bytes(mask.read_bytes()[:40])
    assert command("doctor", "own.yaml", "--out", "doctor.json") == 2
    findings = json.loads(Path("doctor.json").read_text())["findings"]
    leak = next(found for found in findings if found["check"] == "leak")
    assert "of coco/val is also in voc/train" in leak["what"] and leak["where"] == ["1100"]
    assert any(
        found["what"].startswith("set lorries: ") and found["severity"] == "spoils" for found in findings
    )
    assert command("run", "own.yaml", *WEIGHTS, "name=b") == 2
    assert "set lorries: " in capsys.readouterr().err
    assert not Path("runs/b").exists()
    assert command("doctor", "own.yaml", "--fix", "mended") == 2
    assert "data.also=[]" in capsys.readouterr().err


def test_the_lines_for_classes_without_a_place_can_be_pasted(finished: Path, capsys) -> None:
    text = (
        Path("own.yaml").read_text().replace("map: {other: void}", "").replace("{couch: sofa}", "{cat: cat}")
    )
    Path("own.yaml").write_text(text)
    assert command("run", "own.yaml", "name=b", "--dry-run") == 2
    said = capsys.readouterr().err
    lines = [word for word in shlex.split(said.replace("\n", " ")) if re.match(r"data\.also\.\d\.map=", word)]
    lines = [line.rstrip(",") for line in lines]
    assert len(lines) >= 1
    for _ in range(2):  # the next set is checked after the first
        if command("run", "own.yaml", "name=b", *lines, "--dry-run") == 0:
            break
        more = shlex.split(capsys.readouterr().err.replace("\n", " "))
        lines += [word.rstrip(",") for word in more if re.match(r"data\.also\.\d\.map=", word)]
    assert command("run", "own.yaml", "name=b", *lines, "--dry-run") == 0
