"""docs/extending.md: each example runs unchanged, and changes as few files as the page says.

A block that begins with `# name` is a file; `sh` blocks are commands, run in the folder of those files;
`diff` blocks are applied to a copy of the sources, which then runs the commands that follow.
"""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from engine.run_folder import read_log
from tests.processes import python

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text()
SOURCES = ("engine", "models", "losses", "trident", "recipes")


@dataclass(frozen=True)
class Block:
    language: str
    text: str


def sections() -> dict[str, list[Block]]:
    """The blocks of the page by heading, those before the first heading under ""."""
    found: dict[str, list[Block]] = {}
    for part in re.split(r"^## ", "\n" + PAGE, flags=re.MULTILINE):
        heading = part.partition("\n")[0].strip()
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL)
        found[heading] = [Block(language, text) for language, text in blocks]
    return found


SECTIONS = sections()
TASKS = [heading for heading in SECTIONS if heading]


def files_of(diff: str) -> set[str]:
    return set(re.findall(r"^\+\+\+ b/(\S+)$", diff, flags=re.MULTILINE))


def work_through(heading: str, folder: Path) -> str:
    """Write the files of a section, apply its changes to a copy of the sources, run its commands."""
    message, sources = "", ROOT
    for block in [*SECTIONS[""], *SECTIONS[heading]]:
        first = block.text.partition("\n")[0]
        if block.language in ("python", "yaml") and re.fullmatch(r"# [\w.]+", first):
            (folder / first.removeprefix("# ")).write_text(block.text)
        elif block.language == "diff":
            sources = folder / "sources"
            if not sources.exists():
                ignored = shutil.ignore_patterns("__pycache__")
                for name in SOURCES:
                    shutil.copytree(ROOT / name, sources / name, ignore=ignored)
            applied = subprocess.run(
                ["git", "apply", "--unidiff-zero", "-"],
                cwd=sources,
                input=block.text,
                text=True,
                capture_output=True,
            )
            assert applied.returncode == 0, applied.stderr
        elif block.language == "sh":
            for line in block.text.splitlines():
                message += run(line, folder, sources)
        elif block.language == "python":
            message += execute(["-c", block.text], folder, sources)
    return message


def run(line: str, folder: Path, sources: Path) -> str:
    program, *arguments = line.split()
    assert program == "trident", line
    return execute(["-m", "trident", *arguments], folder, sources)


def execute(command: list[str], folder: Path, sources: Path) -> str:
    environment = {"PYTHONPATH": str(sources), "WANDB_MODE": "offline"}
    done = python(*command, folder=folder, environment=environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def log_of(folder: Path, run: str) -> list[dict[str, Any]]:
    return read_log(folder / "checkpoints" / run / "log.jsonl")


def losses_of(folder: Path, run: str) -> list[float]:
    return [row["loss"] for row in log_of(folder, run) if row["split"] == "train"]


def keys_of_log(folder: Path, run: str, split: str = "train") -> set[str]:
    """Of the last row of a split."""
    return set([row for row in log_of(folder, run) if row["split"] == split][-1])


def draw_numbered(folder: Path) -> None:
    """The data that the data format of the page reads: 4 images to train on and 2 for val."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        (folder / "numbered" / split).mkdir(parents=True)
        for number in range(count):
            labels = np.zeros((48, 48), np.uint8)
            labels[10:30, 12:40] = 1
            pixels = (rng.integers(0, 60, (48, 48, 3)) + 150 * labels[..., None]).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"numbered/{split}/{number:02d}.png")
            Image.fromarray(labels).save(folder / f"numbered/{split}/{number:02d}_mask.png")


def loss_is_logged(folder: Path, message: str) -> None:
    assert "decode.loss_brier" in keys_of_log(folder, "brier")


def format_is_read(folder: Path, message: str) -> None:
    manifest = json.loads((folder / "checkpoints/numbered/manifest.json").read_text())
    assert manifest["data"]["format"] == "my_data:open_numbered"
    assert manifest["class_names"] == ["ground", "box"]


def architecture_is_trained(folder: Path, message: str) -> None:
    manifest = json.loads((folder / "checkpoints/tiny/manifest.json").read_text())
    assert manifest["num_parameters"] == 8 * (3 * 49 + 1) + 6 * (8 + 1)
    assert "mIoU" in message


def metric_is_logged(folder: Path, message: str) -> None:
    assert "fwIoU" in keys_of_log(folder, "weighted", "val")
    manifest = json.loads((folder / "checkpoints/weighted/manifest.json").read_text())
    assert manifest["metric"] == "fwIoU"
    ranked = [member["scores"]["fwIoU"] for member in manifest["members"]]
    assert ranked == sorted(ranked, reverse=True) and "fwIoU" in message


def augmentation_is_applied(folder: Path, message: str) -> None:
    run("trident run small.yaml name=plain", folder, ROOT)
    plain, inverted = (losses_of(folder, name) for name in ("plain", "inverted"))
    assert plain != inverted and len(plain) == len(inverted)
    assert list(folder.glob("**/*.png"))


def schedule_is_followed(folder: Path, message: str) -> None:
    """4 updates without warm-up: the last one has 1 - sqrt(3 / 4) of the peak."""
    last = [row for row in log_of(folder, "rooted") if row["split"] == "train"][-1]
    assert last["base_lr"] == pytest.approx(6e-5 * (1 - math.sqrt(3 / 4)))


def optimisers_are_used(folder: Path, message: str) -> None:
    assert len(losses_of(folder, "lion")) == len(losses_of(folder, "signs")) == 2
    with safe_open(folder / "checkpoints/signs/last/state.safetensors", "np") as file:
        assert any(key.endswith("mean") for key in file.keys())  # noqa: SIM118 - not iterable


def state_holds_the_count(folder: Path, message: str) -> None:
    with safe_open(folder / "checkpoints/small/last/state.safetensors", "np") as file:
        assert file.get_tensor("seen/images") == 4 * 4


def column_is_written(folder: Path, message: str) -> None:
    content = json.loads((folder / "compared/compare.json").read_text())
    assert [method["figures"]["updates"] for method in content["methods"]] == [4]
    assert "updates" in (folder / "compared/compare.md").read_text()


def loggers_write(folder: Path, message: str) -> None:
    rises = (folder / "checkpoints/best/rises.txt").read_text().splitlines()
    assert rises[0].startswith("2 ")
    assert (folder / "checkpoints/best/log_val.csv").is_file()
    assert "2 " in (folder / "checkpoints/watched/best.txt").read_text() and "step" in message


# by heading: the maximum number of changed files, and the check afterwards
CHECKS: dict[str, tuple[int, Callable[[Path, str], None]]] = {
    "A loss": (0, loss_is_logged),
    "A data format": (0, format_is_read),
    "An architecture": (0, architecture_is_trained),
    "An augmentation": (2, augmentation_is_applied),
    "A metric on val": (2, metric_is_logged),
    "A schedule": (1, schedule_is_followed),
    "An optimiser": (0, optimisers_are_used),
    "What a checkpoint holds": (1, state_holds_the_count),
    "A column in compare": (1, column_is_written),
    "A logger": (0, loggers_write),
}


def test_every_task_of_the_page_is_checked() -> None:
    assert set(TASKS) == set(CHECKS)


@pytest.mark.parametrize("heading", CHECKS)
def test_the_example_works_and_touches_few_files(heading: str, tmp_path: Path) -> None:
    most, check = CHECKS[heading]
    draw_numbered(tmp_path)
    message = work_through(heading, tmp_path)
    changed = {
        name for block in SECTIONS[heading] if block.language == "diff" for name in files_of(block.text)
    }
    assert len(changed) <= most
    check(tmp_path, message)


def body_of(name: str) -> str:
    """A file of the page, without its first line, which names it."""
    blocks = [block.text for own in SECTIONS.values() for block in own]
    return next(text.partition("\n")[2] for text in blocks if text.startswith(f"# {name}\n"))


INSIDE = {  # a file of the package: what it is made from, its listing, a line there, what comes before it
    "losses/brier.py": (
        "my_losses.py",
        "losses/terms.py",
        '    "boundary": Term(',
        '    "brier": Term("loss_brier", "losses.brier:Brier", DiceOptions),\n',
    ),
    "engine/data/formats/numbered.py": (
        "my_data.py",
        "engine/data/formats/__init__.py",
        '    "packed": Format(',
        '    "numbered": Format("engine.data.formats.numbered:open_numbered", "numbered pictures"),\n',
    ),
    "models/tiny.py": (
        "my_nets.py",
        "models/architectures.py",
        '    "segformer": Architecture(',
        '    "tiny": Architecture("models.tiny:Tiny", TinyOptions),\n',
    ),
    "engine/reporting/best_only.py": (
        "my_loggers.py",
        "engine/reporting/loggers.py",
        '    "csv": ',
        '    "best": "engine.reporting.best_only:BestOnly",\n',
    ),
}
TINY_OPTIONS = """@dataclass(frozen=True, kw_only=True, config=STRICT)
class TinyOptions:
    width: Annotated[int, Field(ge=4, description="channels of Tiny")] = 16


"""


def test_inside_a_component_is_one_file_and_an_entry_in_its_listing(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    for name in SOURCES:
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file, (example, listing, line, entry) in INSIDE.items():
        text = body_of(example).replace("digits: int = 3", "digits: int = 2")
        options = 'per_image: bool = False, class_weights: str = "none", power:'  # as DiceOptions has them
        text = text.replace("power:", options)
        (sources / file).write_text(text)
        listed = (sources / listing).read_text()
        assert listed.count(line) == 1, f"{listing} has no line {line!r}"
        (sources / listing).write_text(listed.replace(line, entry + line))
    architectures = sources / "models/architectures.py"
    text = architectures.read_text()
    architectures.write_text(text.replace("class Architecture(", TINY_OPTIONS + "class Architecture("))
    draw_numbered(tmp_path)
    (tmp_path / "inside.yaml").write_text(
        "data: {format: numbered, root: numbered, train: train, val: val, classes: [ground, box]}\n"
        "augment: {crop: 48}\nschedule: {warmup: 0}\ntrain: {steps: 2, batch: 4}\neval: {every: 2}\n"
        "model: {arch: tiny, width: 8, from_scratch: true}\nlog: {every: 1, images: 1, to: [best]}\n"
        "loss: [{name: cross_entropy}, {name: brier}]\n"
    )
    run("trident run inside.yaml", tmp_path, sources)
    assert "decode.loss_brier" in keys_of_log(tmp_path, "inside")
    assert (tmp_path / "checkpoints/inside/best.txt").is_file()
