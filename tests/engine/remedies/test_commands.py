"""Every command, flag and recipe line in messages, help texts, README and docs is one that Trident takes."""

import argparse
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from engine.command import COMMANDS, main
from engine.export import SUBCOMMANDS
from engine.recipe import RecipeError, load_stages, shipped_recipes
from engine.run_folder import require_trained_alike
from tests.engine.remedies.collecting import FLAG, GAP, ROOT, messages, overrides_in, texts_of

PLAIN = ROOT / "recipes/b2_adv.yaml"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IN_CODE = re.compile(r"^(?:    |\$ )?(?:[A-Z_]+=\S+ )*((?:trident|python -m|torchrun) .*)$")
NO_COMMAND = {"python -m engine.recipe"}  # has no parser
OF_OTHER_PROGRAMS = {"--nproc-per-node", "--head", "--logdir", "--local-dir", "--series-"}


class Parsed(Exception):
    """Stops a command where it would begin."""


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], argparse.Namespace]:
    """Parses a command line with the parser of its command, and runs nothing."""

    def stop(parser: argparse.ArgumentParser, _: object, argv: list[str] | None) -> int:
        raise Parsed(parser.parse_intermixed_args(argv))

    for command in COMMANDS:
        monkeypatch.setattr(importlib.import_module(f"engine.{command}"), "run_command", stop)

    def parse(argv: list[str]) -> argparse.Namespace:
        try:
            main(argv)
        except Parsed as parsed:
            return parsed.args[0]
        raise AssertionError(f"trident {shlex.join(argv)} was not parsed")

    return parse


def commands_on(page: Path) -> Iterator[str]:
    """The commands of the code blocks of a page, without comments; a line may go on after a backslash."""
    blocks = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", page.read_text(), re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        if found := IN_CODE.match(line.rstrip()):
            yield found[1]


def commands_in_help() -> Iterator[str]:
    for command in COMMANDS:
        for text in texts_of(ROOT / f"engine/{command}.py"):
            yield from re.findall(r"^  (trident [a-z_]+.*)$", text, re.MULTILINE)


def as_trident(line: str) -> list[str] | None:
    """The arguments of `trident`; None for commands of other programs."""
    line = re.split(r"  +| \| | > | &&|;", line.partition(" #")[0].strip())[0]
    words = shlex.split(re.sub(r"<[^>]*>", "mine", line.replace("<recipe>", "b2_adv").replace("STEP", "1")))
    if words[0] == "torchrun":
        if "-m" not in words:  # a line that goes on
            return None
        words = words[words.index("-m") :]
        return [words[1].removeprefix("engine."), *words[2:]]
    if words[0] == "python":
        if f"python -m {words[2]}" in NO_COMMAND or not words[2].startswith(("engine.", "trident")):
            return None
        return [words[2].removeprefix("engine."), *words[3:]] if words[2] != "trident" else words[3:]
    return words[1:]


EVERY_COMMAND = sorted({*commands_in_help(), *(line for page in PAGES for line in commands_on(page))})


@pytest.mark.parametrize("line", [line for line in EVERY_COMMAND if as_trident(line)])
def test_every_command_in_help_and_docs_is_accepted(line: str, parse, capsys) -> None:
    """By the parser of its command; its recipe is one that exists, and takes its recipe lines."""
    argv = as_trident(line) or []
    if "WHAT" in argv or argv[-1] in ("--help", "--version") or set(argv) & {"voc2012", "coco2017", "zoo"}:
        return
    arguments = parse(argv)
    values = [value if isinstance(value, list) else [value] for value in vars(arguments).values()]
    words = [str(word) for value in values for word in value]
    overrides = [word for word in words if re.match(r"[a-z_]+(\.\w+)*=", word)]
    recipe = getattr(arguments, "recipe", None)
    if recipe in shipped_recipes() or recipe is None:
        load_stages(recipe or PLAIN, [filled(text) for text in overrides])
    else:
        assert (
            recipe.endswith(".yaml") or argv[0] in ("doctor", "benchmark") or argv[:2] == ["prepare", "masks"]
        ), f"no recipe {recipe}"
    if argv[0] in ("evaluate", "predict", "export", "serve"):
        require_trained_alike(overrides)


def filled(override: str) -> str:
    """With a value where a message or a page leaves it to the reader."""
    return override.replace("=...", "=data")


@cache
def flags_of_trident() -> set[str]:
    """All flags of all commands, as their help prints them."""
    lines = [[command] for command in COMMANDS]
    lines += [["prepare", "pack"], ["prepare", "voc2012"]]
    lines += [["export", what] for what in SUBCOMMANDS]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for line in lines:
            main([*line, "--help"])
    return {*FLAG.findall(printed.getvalue())} | {"--version", "--help"}


EVERY_TEXT = [(file, text) for file, texts in messages().items() for text in texts]


def test_every_flag_in_a_message_exists() -> None:
    known = flags_of_trident() | OF_OTHER_PROGRAMS
    unknown = [(file, flag) for file, text in EVERY_TEXT for flag in FLAG.findall(text) if flag not in known]
    unknown = [(file, flag) for file, flag in unknown if not file.startswith("engine/benchmark")]
    assert len(known) > 40 and unknown == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_on_a_page_exists(page: Path) -> None:
    known = flags_of_trident() | OF_OTHER_PROGRAMS
    code = re.findall(r"`((?:trident |--)[^`\n]+)`", page.read_text())
    assert [flag for line in code for flag in FLAG.findall(line) if flag not in known] == []


def test_every_command_in_a_message_exists() -> None:
    named = [(file, name) for file, text in EVERY_TEXT for name in re.findall(r"\btrident ([a-z_]+)", text)]
    assert len(named) > 20
    prose = {("engine/benchmarks/job.py", "less")}  # "trident less its ..."
    assert [(file, name) for file, name in named if name not in COMMANDS and (file, name) not in prose] == []


LINES = sorted({line for _, text in EVERY_TEXT for line in overrides_in(text) if "'" not in line})


@pytest.mark.parametrize("line", LINES)
def test_every_recipe_line_in_a_message_is_accepted(line: str) -> None:
    """What is filled in later, or by the reader, is left out: its key has to exist at least."""
    key, _, value = line.partition("=")
    if GAP in key:
        return
    is_open = GAP in value or "<" in value or "[those" in value or value in ("", "...")
    given = ["data.format=folder", "data.classes=[a, b]"] if key.startswith("data.folder") else []
    given += ["data.labels=multi", "adversarial=null"] if key == "data.folder.missing_masks" else []
    given += ["data.format=labelme", "data.classes=[a, b]"] if key.startswith("data.polygons") else []
    given += ["model.weights=null"] if key == "model.from_scratch" else []
    given += ["data.unlabelled.root=photos"] if key.startswith("data.unlabelled.") else []
    given += ["distill.teacher=checkpoints/r"] if key.startswith("distill.") else []
    given += ["schedule.name=wsd"] if key == "schedule.decay" else []
    given += ["keep.tail=8"] if key == "train.ema_widths" else []
    try:
        recipe = "b2_full" if key.startswith("stages.") else PLAIN
        load_stages(recipe, [*given, f"{key}=null" if is_open else line])
    except RecipeError as error:
        problem = str(error).split("\n  ")[1]
        assert is_open and "unknown key" not in problem, problem
