"""README.md and docs/: links lead somewhere, each page is in the navigation, and what is typed there runs."""

import re
import shlex
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from engine.command import main
from engine.data.options import Augment

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.glob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/README.md",
]
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    return [link for link in LINK.findall(CODE.sub("", page.read_text())) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Of its headings, where GitHub and the site agree."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading) for heading in headings]
    return {on_github(heading) for heading in plain} & {on_the_site(heading) for heading in plain}


def on_github(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def on_the_site(heading: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


def broken(page: Path) -> list[str]:
    found = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        outside = page.parent == DOCS and not target.is_relative_to(DOCS)  # the site has docs/ alone
        if outside or not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(f"{page.relative_to(ROOT)}: {link}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "DOCS", tmp_path / "docs")
    page, other = tmp_path / "docs/a.md", tmp_path / "docs/b.md"
    page.parent.mkdir()
    (tmp_path / "README.md").write_text("")
    other.write_text("# Two, words\n```\n# no heading\n```\n")
    page.write_text(
        "[x](b.md#two-words) [x](b.md#no-heading) [x](c.md) ![x](b.png) [x](../README.md) `[x](d.md)`"
    )
    assert broken(page) == [
        f"docs/a.md: {link}" for link in ("b.md#no-heading", "c.md", "b.png", "../README.md")
    ]


def entries(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for inner in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(inner)


def test_every_page_is_once_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(entries(nav)) == sorted(page.name for page in DOCS.glob("*.md"))


def test_each_operator_of_the_augmentation_has_a_picture() -> None:
    shown = [link for link in links(DOCS / "augmentation.md") if link.startswith("images/")]
    assert sorted(shown) == sorted(
        f"images/augment_{key}.webp"
        for key in Augment.model_fields
        if key not in ("category_max_ratio", "crop_on", "progressive")
    )
    assert sum((DOCS / link).stat().st_size for link in shown) < 300_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which somebody has drawn images, a run of docs/start.md, and its other commands."""
    here = tmp_path_factory.mktemp("start")
    noise = np.random.default_rng(0)
    for number in range(20):
        labels = np.zeros((64, 72), np.uint8)
        labels[10 + number : 40, 10:40], labels[45:60, 30:70] = 1, 2
        photo = (labels[..., None] * 90 + noise.integers(0, 60, (64, 72, 3))).astype(np.uint8)
        for place, pixels in ((f"images/{number}.jpg", photo), (f"masks/{number}.png", labels)):
            (here / "data/mine" / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(here / "data/mine" / place)
    (here / "photos").mkdir()
    Image.fromarray(photo).save(here / "photos/a.jpg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr("models.sources.weights_within_reach", lambda *_, **__: "none")
        for command in commands(DOCS / "start.md"):
            run(command)
            if command.startswith("trident new"):
                shorten("mine.yaml")
    return here


def commands(page: Path) -> list[str]:
    lines = [line.partition(" # ")[0] for block in blocks(page, "sh") for line in block.splitlines()]
    assert lines and all(line.startswith("trident ") for line in lines), lines
    return lines


def run(command: str) -> None:
    assert main(shlex.split(command)[1:]) == 0, command


def shorten(recipe: str) -> None:
    """Two updates, as the page's own length would take minutes."""
    text = re.sub(r"steps: [^,}#\n]+", "steps: 2 ", Path(recipe).read_text())
    text = re.sub(r"every: [^,}#\n]+", "every: 1 ", text)
    text = re.sub(r"batch: \d+", "batch: 2", text).replace("log:\n", "log:\n  to: []\n")
    Path(recipe).write_text(text)


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return folder


def test_the_commands_of_start_run(in_folder: Path) -> None:
    for made in ("checkpoints/mine/report.html", "scored/worst.png", "predicted/labels/a.png"):
        assert (in_folder / made).is_file(), made


def test_the_blocks_of_python_run(in_folder: Path) -> None:
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks(DOCS / "python.md", "python")):
        exec(compile(block, f"block {number} of docs/python.md", "exec"), namespace)
    assert namespace["share"].keys() == {"a.jpg"} and namespace["values"]["loss"].isfinite()
    assert (in_folder / "checkpoints/second/report.html").is_file()


def test_the_commands_of_symptoms_run(in_folder: Path) -> None:
    names = {"<recipe>": "mine.yaml", "<run>": "checkpoints/mine", "STEP": "1", "=50": "=1"}
    text = "\n".join(commands(DOCS / "symptoms.md"))
    for name, value in names.items():
        text = text.replace(name, value)
    for command in sorted({*text.splitlines()} - {*commands(DOCS / "start.md")}):
        run(command)


def test_the_recipe_of_a_unet_script_trains(in_folder: Path) -> None:
    for path in Path("data/mine/masks").iterdir():  # black and white
        there = Path("data/white", path.name)
        there.parent.mkdir(exist_ok=True)
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * 255).save(there)
    [block] = blocks(DOCS / "from_unet_script.md", "yaml")
    for page, test in (
        ("weights: smp:imagenet", "from_scratch: true"),
        ("encoder: resnet34", "encoder: tu-test_efficientnet"),
        ("crop: 256", "crop: 64"),
        ("{values: binary", "{images: mine/images, masks: white, values: binary"),
        ("root: data/mine", "root: data"),
    ):
        assert page in block
        block = block.replace(page, test)
    Path("unet.yaml").write_text(block)
    shorten("unet.yaml")
    for command in commands(DOCS / "from_unet_script.md"):
        run(command)


def test_the_command_for_a_configuration_of_mmsegmentation_runs(in_folder: Path) -> None:
    Path("configs").mkdir()
    head = "dict(type='UPerHead', num_classes=2)"
    Path("configs/mine.py").write_text(f"model = dict(backbone=dict(type='ResNet'), decode_head={head})")
    Path("mine.yaml").rename("other.yaml")
    for command in commands(DOCS / "from_mmsegmentation.md"):
        run(command)
    Path("other.yaml").rename("mine.yaml")
