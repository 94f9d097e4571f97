"""A score on images that the model was trained on says so, by what the images are, in every output."""

import contextlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.command import main
from tests.engine.remedies import sandbox
from tests.engine.remedies.sandbox import draw_mask, photo, save, voc, write

SEEN = "was trained on 1 of these 3 images"
LIST = "ImageSets/Segmentation"
Say = Callable[[str], str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a run whose val list holds one of the images that it trains on, and what it printed."""
    folder = tmp_path_factory.mktemp("seen")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write("r.yaml", sandbox.RECIPE)
        voc()
        write(f"voc/{LIST}/val.txt", "v0\nv1\nt0\n")
        write(f"voc/{LIST}/other.txt", "v0\nv1\n")
        for number in range(4):  # another data set whose training split has the same name
            photo(f"voc2/JPEGImages/t{number}.jpg", 500 + number)
            save(f"voc2/SegmentationClass/t{number}.png", draw_mask())
        write(f"voc2/{LIST}/train.txt", "t0\nt1\nt2\nt3\n")
        shutil.copy("voc/JPEGImages/t1.jpg", "voc/JPEGImages/again.jpg")
        shutil.copy("voc/SegmentationClass/t1.png", "voc/SegmentationClass/again.png")
        write(f"voc/{LIST}/held.txt", "again\n")
        shutil.copytree("voc", "copy")
        (Path("copy/JPEGImages/t0.jpg")).rename("copy/JPEGImages/renamed.jpg")
        (Path("copy/SegmentationClass/t0.png")).rename("copy/SegmentationClass/renamed.png")
        write(f"copy/{LIST}/mixed.txt", "v0\nrenamed\nv1\n")
        printed = printed_by("run r.yaml data.doctor=off train.steps=4 eval.every=2 log.images=0")
    return folder, printed


def printed_by(command: str) -> str:
    """What a command prints, with single spaces."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(out):
        assert main(shlex.split(command)) == 0, command
    out.seek(0)
    return " ".join(out.read().split())


@pytest.fixture
def say(runs: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.chdir(runs[0])
    return printed_by


def test_the_end_of_the_run_says_so(runs: tuple[Path, str]) -> None:
    assert SEEN in runs[1]


def test_nothing_is_chosen_on_a_copy_of_an_image_that_was_trained_on(
    say: Say, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    say(f"ensemble checkpoints/r --save {saved}")
    for command in (
        "ensemble checkpoints/r data.select=held",
        "ensemble checkpoints/r --select-split held --early-exit 0.1",
        f"evaluate {saved} data.select=held",
    ):
        assert main(shlex.split(command)) == 2
        said = capsys.readouterr().err
        assert "1 of 1 image of split 'held' is among those that members were trained on" in said, said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", SEEN),
        ("--split train", "was trained on these images"),
        ("--split other", None),
        ("data.root=voc2 --split train", None),
        ("data.root=copy --split mixed", SEEN),
        ("data.root=copy data.val=other", None),
    ],
    ids=["val", "train", "other", "train of another data set", "a copy with other names", "other of a copy"],
)
def test_evaluate_compares_the_images(say: Say, arguments: str, says: str | None) -> None:
    printed = say(f"evaluate checkpoints/r {arguments}")
    assert says in printed if says else "was trained on" not in printed


def test_splits_of_the_same_names_and_masks_are_told_apart_by_their_images(say: Say) -> None:
    """As train/images/0.png and val/images/0.png of parts that are all alike: no image was trained on."""
    for split, first in (("train", 800), ("val", 900)):
        for number in range(3):
            photo(f"parts/{split}/images/{number}.jpg", first + number)
            save(f"parts/{split}/masks/{number}.png", draw_mask(1))
    write("f.yaml", sandbox.FOLDER.replace("own", "parts").replace("name: r", "name: parts"))
    assert "was trained on" not in say("run f.yaml data.doctor=off log.images=0")
    assert "was trained on" not in say("evaluate checkpoints/parts")
    assert "was trained on these images" in say("evaluate checkpoints/parts --split train")


def test_a_run_whose_data_moved_still_knows_its_val_images(say: Say) -> None:
    Path("voc").rename("moved")
    try:
        assert SEEN in say("evaluate checkpoints/r data.root=moved")
        assert "trained on these images" in say("evaluate checkpoints/r data.root=moved --split train")
    finally:
        Path("moved").rename("voc")


def test_baselines_few_images_and_those_trained_on_are_in_every_output(
    say: Say, runs: tuple[Path, str]
) -> None:
    """Predicting only background: its share of the pixels, over two classes."""
    outputs = {
        "run": runs[1],
        "evaluate": say("evaluate checkpoints/r"),
        "ensemble": say("ensemble checkpoints/r"),
    }
    say("report checkpoints/r --out page.html")
    outputs["report"] = " ".join(Path("page.html").read_text().split())
    share = 1 - 20 * 30 / (40 * 56)
    for name, text in outputs.items():
        assert "only background" in text and f"{share / 2:.4f}" in text, name
        assert "at random" in text and "Only 3 images were scored" in text and SEEN in text, name
    scores = json.loads(Path("checkpoints/r/ensemble.json").read_text())
    gain = scores["ensembles"]["mean"]["mIoU"] - max(member["mIoU"] for member in scores["members"])
    assert f"{gain:+.4f}" in outputs["ensemble"]
    of_images = re.search(r"gains of mean in mIoU range from (\S+) to (\S+)\. ", outputs["ensemble"])
    assert of_images and float(of_images[1]) <= float(of_images[2]) and "least 75 %" in outputs["ensemble"]
