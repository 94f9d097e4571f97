"""What to label next: a choice by hand, and a drawn scene that is unlike all others."""

import csv
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import engine.diagnosis.next_labels as next_labels
from engine.diagnose import main
from engine.diagnosis.next_labels import Pool, choose
from engine.scoring import predictor
from engine.scoring.combining import Combination
from engine.scoring.trained import Trained, open_trained


def test_the_most_uncertain_first_and_then_what_is_unlike_it() -> None:
    """By hand: directions of 0, 0, 90 and 45 degrees, whose distances to the first are 0, 0, 1.41 and 0.77.

    After the first, image 3 has 0.5 * 0.77 = 0.38, image 2 0.3 * 1.41 = 0.42, and image 1, alike, nothing.
    """
    features = np.array([[2.0, 0], [1, 0], [0, 1], [1, 1]])
    assert choose(np.array([1.0, 0.9, 0.3, 0.5]), features, 3) == [0, 2, 3]
    assert choose(np.array([1.0, 0.9, 0.2, 0.5]), features, 2) == [0, 3]


def test_of_images_that_are_all_alike_the_most_uncertain_are_chosen() -> None:
    assert choose(np.array([0.1, 0.4, 0.2, 0.3]), np.ones((4, 3)), 3) == [1, 3, 2]


class Learnt(nn.Module):
    """Sure of what is dark or bright; of a grey in between, each of these says something else."""

    def __init__(self, opinion: int):
        super().__init__()
        self.opinion = opinion
        self.encoder = nn.AvgPool2d(4)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        small = self.encoder(images.float()).mean(dim=1)  # (B, h/4, w/4)
        labels = torch.where(small < 60, 0, torch.where(small > 190, 1, self.opinion))
        return 20.0 * nn.functional.one_hot(labels, 21).permute(0, 3, 1, 2).float()


def draw(folder: Path, **of_grey: list[int]) -> None:
    """Images of some grey values side by side."""
    folder.mkdir()
    for name, values in of_grey.items():
        pixels = np.repeat(np.array(values, np.uint8), 32)[None].repeat(32, axis=0)
        Image.fromarray(pixels).convert("RGB").save(folder / f"{name}.png")


@pytest.fixture
def two_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any run has these two."""

    def opened(path: Path, device: torch.device, overrides: Sequence[str]) -> Trained:
        members = {"a": Learnt(2).eval(), "b": Learnt(3).eval()}
        trained = open_trained(path, device, None, overrides)
        return replace(trained, members=members, combination=Combination.mean(2))

    monkeypatch.setattr(next_labels, "open_with_all_checkpoints", opened)


def test_a_scene_unlike_those_of_the_training_is_first(
    voc_run, two_members, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, out = tmp_path / "pool", tmp_path / "out"
    draw(pool, dark=[0, 20], bright=[240, 250], both=[10, 250], strange=[120, 130], partly=[0, 0, 0, 120])
    (pool / "broken.png").write_text("no picture")

    assert main([str(voc_run()), "--next", "2", "--pool", str(pool), "--out", str(out)]) == 0
    # Both members are sure, of different classes: 1 bit in each pixel, and in a quarter of the other image.
    with (out / "next.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["strange.png", "partly.png"]
    assert [float(row["uncertainty_bits"]) for row in rows] == pytest.approx([1, 0.25], abs=0.02)
    assert (out / "next.txt").read_text().splitlines() == ["strange.png", "partly.png"]
    assert Image.open(out / "next.jpg").width > 900
    printed = capsys.readouterr().out
    assert "left out: " in printed and "broken.png" in printed


@pytest.mark.parametrize(
    "views",
    [
        ["eval.protocol=slide", "eval.window=32", "eval.stride=32"],
        ["eval.scales=[0.5,1]", "eval.flip=true"],
        ["eval.protocol=slide", "eval.window=32", "eval.stride=32", "eval.flip=true"],
    ],
)
def test_features_are_of_the_whole_image(
    voc_run, two_members, tmp_path: Path, views: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of Learnt are the mean of each channel: 125 of 0 and 250, whatever is seen at once."""
    monkeypatch.setattr(predictor, "forward_px", lambda device: 1)  # a pass for each view
    draw(tmp_path / "pool", both=[0, 250], dark=[0, 0])
    pool = Pool(voc_run(), views, tmp_path / "pool", 1, tmp_path / "out", torch.device("cpu"))
    both, dark = pool.measured(lambda done, total: None)
    assert both.features == pytest.approx([125] * 3, abs=1)
    assert dark.features == pytest.approx([0] * 3)


def test_images_that_were_trained_on_are_left_out(
    voc_run, voc_folder: Path, two_members, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pool = voc_run(), tmp_path / "pool"
    draw(pool, dark=[0, 20], strange=[120, 130])
    trained_on = (voc_folder / "ImageSets/Segmentation/train.txt").read_text().split()
    for name in trained_on:
        shutil.copyfile(voc_folder / f"JPEGImages/{name}.jpg", pool / f"another name of {name}.jpg")
    command = [str(run), "--pool", str(pool), "--out", str(tmp_path / "out"), "--next"]
    assert main([*command, "2"]) == 2
    said = capsys.readouterr().err
    assert "has 2 images that the run was not trained on" in said and not (tmp_path / "out").exists()
    again = re.search(r"such as --next (\d+)$", said, re.MULTILINE)
    assert again and main([*command, again[1]]) == 0
    assert (tmp_path / "out/next.txt").read_text() == "strange.png\n"
    assert f"left out: {len(trained_on)} image" in capsys.readouterr().out


def test_names_that_are_no_utf_8_keep_their_bytes(
    voc_run, two_members, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, out = tmp_path / "pool", tmp_path / "o\udce9"
    draw(pool, **{"caf\udce9": [120, 130], "dark": [0, 20]})
    assert main([str(voc_run()), "--next", "1", "--pool", str(pool), "--out", str(out)]) == 0
    assert (out / "next.txt").read_bytes() == b"caf\xe9.png\n"
    assert b",caf\xe9.png," in (out / "next.csv").read_bytes()
    assert (out / "next.jpg").is_file()
    assert "caf\\udce9.png" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pool", "photos{1}", "a{b", "{}"])
def test_of_one_image_there_is_nothing_to_choose(
    voc_run, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = tmp_path / name
    draw(pool, one=[0, 250])
    assert main([str(voc_run()), "--next", "1", "--pool", str(pool)]) == 2
    printed = capsys.readouterr().err
    assert f"{pool} has 1 image, so there is nothing to choose" in printed and "Type" not in printed


def test_checkpoints_of_a_run_choose_and_nothing_is_overwritten(
    voc_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "pool", one=[0, 250], two=[100, 30], three=[60, 90])
    command = [str(voc_run("run", 1, 2)), "--next", "1", "--pool", str(tmp_path / "pool")]
    assert main(command) == 0
    assert len((tmp_path / "run/next/next.txt").read_text().splitlines()) == 1
    assert "One model" not in capsys.readouterr().out
    assert main(command) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    file = str(tmp_path / "run/top/step-0000001.safetensors")
    assert main([file, *command[1:], "--out", str(tmp_path / "one")]) == 0
    assert "One model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--next", "1"], "--next and --pool belong together"),
        (["--pool", "{pool}"], "--next and --pool belong together"),
        (["--next", "0", "--pool", "{pool}"], "--next 0: at least 1"),
        (["--next", "3", "--pool", "{pool}"], "has 3 images, so there is nothing to choose. Type a smaller"),
        (["--next", "1", "--pool", "{pool}", "--labels"], "leave --labels"),
        (["--next", "1", "--pool", "{pool}", "--replay", "2"], "leave --labels"),
        (["--next", "1", "--pool", "nowhere"], "nowhere"),
    ],
)
def test_wrong_input_is_exit_2_and_writes_nothing(
    voc_run, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "pool", one=[0, 250], two=[100, 30], three=[60, 90])
    run = voc_run()
    assert main([str(run), *(text.format(pool=tmp_path / "pool") for text in arguments)]) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not (run / "next").exists()
