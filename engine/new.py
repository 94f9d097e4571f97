"""trident new FOLDER: look at a folder of images and masks, and write a recipe that trains on it."""

import argparse
import os
import re
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from engine.command import new_console, new_parser, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from engine.data.survey import Survey

EXAMPLES = """
examples:
  trident new photos                      writes photos.yaml; then: trident run photos.yaml
  trident new photos --classes background road crack
  trident new photos --out recipes/roads.yaml
  trident new --from-mmseg configs/segformer_mit-b2.py     from a configuration of MMSegmentation
"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done; 2 the folder is not understood, or its data would spoil a training."""
    parser = new_parser(
        "new", "Write a recipe for a folder of images and masks, and check its data.", EXAMPLES
    )
    parser.add_argument("folder", type=Path, nargs="?", help="the folder that holds the images and masks")
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="names of the classes by label id, or by band; void is no class",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the recipe; default: <folder>.yaml, here")
    parser.add_argument(
        "--from-mmseg",
        type=Path,
        metavar="CONFIG.py",
        help="read this instead of a folder; it is not executed",
    )
    return run_command(parser, new, argv)


def new(arguments: argparse.Namespace) -> int:
    """Write the recipe of a folder or of a configuration, and print the next command."""
    from engine.recipe import RecipeError
    from engine.run_folder import require_new_file

    source: Path | None = arguments.folder or arguments.from_mmseg
    if source is None or (arguments.folder and arguments.from_mmseg):
        raise RecipeError("Type either the folder of the images and masks, or --from-mmseg CONFIG.py.")
    if arguments.from_mmseg and arguments.classes:
        raise RecipeError("--classes is for a folder. Write the names in data.classes of the new recipe.")
    name = source.stem if arguments.from_mmseg else Path(os.path.abspath(source)).name
    out: Path = arguments.out or Path(f"{_plain(name)}.yaml")
    require_new_file(out)
    return _from_mmseg(source, out) if arguments.from_mmseg else _from_folder(arguments, out)


def _from_mmseg(config: Path, out: Path) -> int:
    from engine.recipe import RecipeError, load_recipe
    from engine.recipe.mmseg import carry_over
    from engine.run_folder import write_text

    text, not_carried = carry_over(config, _plain(out.stem))
    with TemporaryDirectory() as folder:  # so that nothing is written where a value is not valid
        draft = Path(folder) / out.name
        draft.write_text(text, encoding="utf-8")
        try:
            recipe = load_recipe(draft)
        except RecipeError as error:
            raise RecipeError(f"{config} has values that no recipe takes. {error}") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    console = new_console()
    console.print(*not_carried, sep="\n", markup=False)
    there = Path(recipe.data.root or "").is_dir()
    root = "" if there else " data.root=<the folder of the data>"
    console.print(
        f"Written: {out}. Not carried over: {len(not_carried) or 'nothing'}"
        f"{', each with its place above and at the end of the recipe' if not_carried else ''}. "
        f"Next: trident doctor {shlex.quote(str(out))}{root}",
        markup=False,
    )
    return 0


def _from_folder(arguments: argparse.Namespace, out: Path) -> int:
    """Look at the folder, write the recipe, and run the doctor."""
    import torch

    from engine.data.doctor import list_samples_of, report_on
    from engine.data.survey import survey
    from engine.data.survey.names import with_names
    from engine.recipe import load_recipe
    from engine.recipe.starter import Start, starter_text
    from engine.reporting.console import counted
    from engine.reporting.doctor import command_to_fix, print_data_report
    from engine.run_folder import write_text
    from models.sources import weights_within_reach

    console = new_console()
    found = survey(arguments.folder, counted(console, "reading masks"))
    for line in found.findings:
        console.print(line, markup=False)
    names = _names(found, arguments.classes, console)
    section = with_names(found.section, names)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    on_cpu = device == "cpu"
    weights = weights_within_reach("b0" if on_cpu else "b2", package_first=on_cpu)
    start = Start(_plain(out.stem), section, found.findings, found.num_train, found.size, weights, device)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, starter_text(start))
    if names == found.class_names and _are_numbered(found):
        blanks = " ".join(f"<name {id}>" for id in range(len(names)))
        console.print(
            f"No names that fit the classes were found: they are called {', '.join(names)}. Write their "
            f"names into data.classes of {out}; or remove it, and add to this command: --classes {blanks}",
            markup=False,
        )
    recipe = load_recipe(out)
    report = report_on(list_samples_of(recipe.data), counted(console, "checking"))
    print_data_report(console, report)
    if report.spoils:
        command = command_to_fix(report, str(out))
        again = f"Correct what the doctor found, then: trident doctor {shlex.quote(str(out))}"
        end = f"Next: {command}" if command else again
        console.print(f"Written: {out}. {end}", markup=False, soft_wrap=True)
        return 2
    console.print(f"Written: {out}. Next: trident run {shlex.quote(str(out))}", markup=False, soft_wrap=True)
    return 0


def _plain(name: str) -> str:
    """As the name of a run has to be."""
    return re.sub(r"[^a-zA-Z0-9._-]+", "_", name).strip("._-") or "own"


def _are_numbered(found: "Survey") -> bool:
    """Whether neither the data nor a file next to it has names for these classes."""
    return not found.are_named and "class_1" in found.class_names


def _names(found: "Survey", given: list[str] | None, console: "Console") -> list[str]:
    """The names of the classes: as typed with the command, as asked for in a terminal, or numbered."""
    from engine.recipe import RecipeError

    names = found.class_names
    if given is None and _are_numbered(found) and sys.stdin.isatty():
        console.print(f"Names of the {len(names)} classes by id, with commas; Enter for {', '.join(names)}:")
        given = [name.strip() for name in sys.stdin.readline().split(",") if name.strip()] or None
    if given is None:
        return names
    if found.are_named and sorted(given) != sorted(names):
        raise RecipeError(
            f"--classes: the data names its classes itself: {', '.join(names)}. Leave the option out, or "
            "type these names in another order."
        )
    if len(given) != len(names) or len({*given}) < len(given):
        raise RecipeError(
            f"--classes: expected {len(names)} different names, one for each of {', '.join(names)}."
        )
    return given


if __name__ == "__main__":
    raise SystemExit(main())
