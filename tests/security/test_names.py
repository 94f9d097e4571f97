"""Names of classes, images and runs that contain markup, control characters or line breaks.

A console shows them as they are, a page escapes them, and nothing of them is executed or leaves its folder.
"""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.command import main as command_line
from engine.data.formats.files import NOT_IN_NAMES
from engine.run_folder import RunFolder
from tests.engine.tiny_run import RECIPE

CLASSES = [
    "[bold red]sky[/]",
    "[/nothing]",
    "<script>alert(1)</script>",
    "a\"b'c&d",
    "[link=file:///etc]x[/link]",
]
IMAGES = [
    "[red]a",
    "<img src=x onerror=alert(1)>",
    "a&b;$(touch canary)`touch canary`",
    "=1+1",
    "-rf",
    "[blink][link]",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and masks of both splits under these names."""
    root = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for name in IMAGES:
            name = f"{name}_{split}"
            pixels = draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / "images" / f"{name}.png")
            labels = draw.integers(0, len(CLASSES), (32, 32), dtype=np.uint8)
            Image.fromarray(labels).save(root / split / "masks" / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on them."""
    folder = tmp_path_factory.mktemp("runs")
    classes = ", ".join(
        f'"{name}"' if '"' not in name else f"'{name.replace(chr(39), chr(39) * 2)}'" for name in CLASSES
    )
    recipe = folder / "r.yaml"
    recipe.write_text(
        f"base: {RECIPE}\nname: run\n"
        f"data: {{format: folder, root: {data}, classes: [{classes}], doctor: 'off', synthetic: null}}\n"
        "model: {arch: linknet, encoder: tu-test_efficientnet, variant: b2}\naugment: {crop: 32}\n"
        "train: {steps: 2, batch: 2}\nschedule: {warmup: 1}\neval: {every: 1}\n"
        "log: {every: 1, images: 2, to: [csv]}\n"
    )
    assert command_line(["run", str(recipe), f"output.dir={folder / 'runs'}"]) == 0
    return folder / "runs/run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # where a name that a shell runs would create the canary
    run = RunFolder(Path(shutil.copytree(trained, tmp_path / "[red]run<b>")))
    run.write_manifest(run.read_manifest().model_copy(update={"name": "[/red]<script>alert(1)</script>"}))
    return run.path


class Tags(HTMLParser):
    """The tags and the names of attributes in a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        assert not any(
            "javascript:" in (value or "") or value == "x" for name, value in attrs if name in ("src", "href")
        )


def require_harmless_page(path: Path) -> None:
    page = Tags(path.read_text())
    assert page.tags.count("script") <= 1
    assert not {name for name in page.attributes if name.startswith("on")}


COMMANDS = {
    "evaluate": ["evaluate", "{run}", "--worst", "2", "--out", "{out}"],
    "ensemble": ["ensemble", "{run}"],
    "report": ["report", "{run}"],
    "diagnose": ["diagnose", "{run}"],
    "suspects": ["diagnose", "{run}", "--labels", "--out", "{out}"],
    "compare": ["compare", "{run}", "{other}", "--out", "{out}"],
    "predict": ["predict", "{run}", "{images}", "--out", "{out}"],
    "doctor": ["doctor", "{run}/recipe.yaml"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_shows_them_and_executes_nothing(
    run: Path, data: Path, tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    places = {"run": run, "out": tmp_path / "out", "images": data / "val/images"}
    if command == "compare":
        places["other"] = shutil.copytree(run, tmp_path / "other")
    outside = sorted(path for path in tmp_path.parent.iterdir())
    assert command_line([part.format(**places) for part in COMMANDS[command]]) in (0, 2)
    said = capsys.readouterr()
    assert "Traceback" not in said.err and "MarkupError" not in said.err
    assert "\x1b" not in said.out  # no colour of theirs
    if command in ("evaluate", "ensemble"):
        assert all(name in said.out for name in CLASSES)
    for page in tmp_path.rglob("*.html"):
        require_harmless_page(page)
    assert sorted(path for path in tmp_path.parent.iterdir()) == outside


def test_predictions_have_the_names_of_their_images(run: Path, data: Path, tmp_path: Path) -> None:
    assert command_line(["predict", str(run), str(data / "val/images"), "--out", str(tmp_path / "out")]) == 0
    found = {path.name for path in (tmp_path / "out").rglob("*.png")}
    assert all(any(f"{name}_val" in file for file in found) for name in IMAGES)


ODD = ["new\nline", "return\r", "escape\x1b[2J", "bell\x07", "tab\t", "direction\u202egnp", "bytes\udcff"]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_control_character_in_the_name_of_a_file_is_no_traceback(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    image = tmp_path / "photos" / f"{name}.png"
    image.parent.mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(image)
    assert command_line(["predict", str(run), str(image.parent), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert not re.search(r"\x1b\[2J|\x07", said.out + said.err)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_data_set_with_one_is_refused_by_all_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            path = tmp_path / "data" / split / kind / f"{name}{split}.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    arguments = [
        "data.format=folder", f"data.root={tmp_path / 'data'}", "data.classes=[a, b]", "data.synthetic=null",
        f"output.dir={tmp_path / 'runs'}",
    ]  # fmt: skip
    for command in ("doctor", "run"):
        code = command_line([command, RECIPE, *arguments, *["train.steps=1"] * (command == "run")])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert not re.search(r"\x1b\[2J|\x07|\udcff", said.out + said.err)
        if NOT_IN_NAMES.search(name):
            assert code == 2
            assert "in the name" in said.out + said.err and "Rename" in said.out + said.err
            assert not (tmp_path / "runs/demo").exists()
