"""trident doctor RECIPE [key.path=value ...]: what is wrong with the data, and the remedy."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.command import add_recipe, new_console, new_parser, recipe_file, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from engine.data.doctor import DataReport, Examination
    from engine.data.options import Data
    from engine.recipe import Recipe

EXAMPLES = """
examples:
  trident doctor photos                                           a folder, without a recipe
  trident doctor b2_ce_dice data.root=data/VOCdevkit/VOC2012
  trident doctor b2_ce_dice data.root=... --out doctor.json
  trident doctor b2_ce_dice data.root=mine --fix mine_fixed       a repaired copy
  trident doctor b2_ce_dice data.root=mine --show augment         what training sees

docs/doctor.md describes every check: what it finds, why it matters, and the remedy.
"""
SAMPLES_SHOWN = 6


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done; 2 findings that would ruin the training, or wrong input."""
    parser = new_parser("doctor", "Check the images and masks of a recipe before training on them.", EXAMPLES)
    add_recipe(parser, "a recipe file, the name of one that comes with Trident, or a folder of data")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the findings as JSON to a new file")
    parser.add_argument(
        "--fix", type=Path, metavar="DIR", help="write a repaired copy of the data to a new folder"
    )
    parser.add_argument(
        "--show",
        choices=["augment"],
        help="write a picture of augmented samples instead, to <recipe>-augment.png or --out FILE",
    )
    return run_command(parser, doctor, argv)


def doctor(arguments: argparse.Namespace) -> int:
    """Check the data, print the findings, and write the files that were asked for."""
    from engine.data.doctor import examine, list_samples_of
    from engine.data.doctor.fix import require_new_copy
    from engine.recipe import load_recipe
    from engine.reporting.console import counted
    from engine.reporting.doctor import command_to_fix, print_data_report
    from engine.run_folder import require_folder, require_new_file, write_json

    if Path(arguments.recipe).is_dir():
        return _of_folder(Path(arguments.recipe), arguments)
    recipe = load_recipe(recipe_file(arguments.recipe), arguments.overrides)
    out: Path | None = arguments.out or (Path(f"{recipe.name}-augment.png") if arguments.show else None)
    if out:
        require_new_file(out)
    if arguments.fix:
        require_folder(arguments.fix, "--fix")
        if recipe.data.root:
            require_new_copy(arguments.fix, Path(recipe.data.root))
    console = new_console()
    if arguments.show and out:
        _show_augment(recipe, out, counted(console, "counting labels"))
        console.print(f"written: {out}", markup=False)
        return 0
    examination = None
    if recipe.data.also or recipe.data.labels == "multi":
        report = _report_without_a_copy(recipe.data, bool(arguments.fix), console)
    else:
        examination = examine(list_samples_of(recipe.data), counted(console, "reading"))
        report = examination.report
    print_data_report(console, report)
    if examination and "auto" in (recipe.train.batch, recipe.train.accumulate):
        dry_run = shlex.join(["trident", "run", arguments.recipe, *arguments.overrides, "--dry-run"])
        said = f"auto chooses the batch when a training starts. To see which, type {dry_run}"
        console.print(said, markup=False, soft_wrap=True)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, report.to_dict())
        console.print(f"written: {out}", markup=False)
    if examination and arguments.fix:
        return _fix(examination, recipe, arguments, console)
    if examination and (command := command_to_fix(report, arguments.recipe, arguments.overrides)):
        console.print(f"For a repaired copy: {command}", markup=False, soft_wrap=True)
    return 2 if report.spoils else 0


def _report_without_a_copy(data: "Data", has_fix: bool, console: "Console") -> "DataReport":
    """Check several sets, or masks of classes that may overlap, of which no repaired copy is written."""
    from engine.data.doctor import list_samples_of, report_on
    from engine.data.doctor.several import list_sets, report_on_sets
    from engine.data.sample import require_one_class_a_pixel
    from engine.data.sets import require_one_set
    from engine.reporting.console import counted

    if has_fix:
        require_one_set(data, "--fix")
        require_one_class_a_pixel(data, "--fix", "Leave it out: the findings name the files.")
    if not data.also:
        return report_on(list_samples_of(data), counted(console, "reading"))
    reports = {
        name: report_on(listing, counted(console, f"reading {name}"))
        for name, listing in list_sets(data).items()
    }
    return report_on_sets(data, reports)


def _of_folder(folder: Path, arguments: argparse.Namespace) -> int:
    """Find out what a folder holds, and check that; there is no recipe yet."""
    from engine.data import DataError
    from engine.data.doctor import examine, list_samples_of
    from engine.data.options import Data
    from engine.data.survey import survey
    from engine.reporting.console import counted
    from engine.reporting.doctor import print_data_report

    quoted = shlex.quote(str(folder))
    if arguments.overrides or arguments.out or arguments.fix or arguments.show:
        raise DataError(f"With a folder the data is only checked. For more, first type: trident new {quoted}")
    console = new_console()
    found = survey(folder, counted(console, "reading masks"))
    for line in found.findings:
        console.print(line, markup=False)
    data = Data.model_validate(found.section)
    report = examine(list_samples_of(data), counted(console, "checking")).report
    print_data_report(console, report)
    console.print(f"Next: trident new {quoted}", markup=False, soft_wrap=True)
    return 2 if report.spoils else 0


def _show_augment(recipe: "Recipe", out: Path, progress: Callable[[int, int], None]) -> None:
    """Write a picture of a few training samples, as stored and as augmented in the first epochs."""
    import numpy as np
    import torch

    from engine.data import open_split
    from engine.data.augment import Augment
    from engine.data.batches import TrainBatches
    from engine.data.class_counts import count_classes
    from engine.data.mixing import Mixing
    from engine.data.order import SampleOrder
    from engine.data.ranges import with_range
    from engine.data.sets import shares_of_images
    from engine.reporting.augment_sheet import augment_sheet
    from engine.training.imbalance import decided

    train = open_split(recipe.data, recipe.data.train)
    with_range(recipe.data, train)
    counts = None
    if recipe.augment.copy_paste or recipe.augment.crop_on == "rare":
        counts = count_classes(train, progress)
        recipe, _ = decided(recipe, counts, train.class_names)
    shares = shares_of_images(recipe.data, train)
    mixing = Mixing(recipe.augment, recipe.seed, len(train), train.ignore_index, counts, shares)
    augment = Augment(recipe.augment, recipe.seed, train.ignore_index, train.bands)
    order = SampleOrder(len(train), 1, recipe.seed)
    batches = TrainBatches(train, order, augment, torch.device("cpu"), workers=0, mixing=mixing)
    rows = np.linspace(0, len(train) - 1, min(SAMPLES_SHOWN, len(train)), dtype=int)
    out.parent.mkdir(parents=True, exist_ok=True)
    augment_sheet(batches, rows.tolist()).save(out)


def _fix(
    examination: "Examination", recipe: "Recipe", arguments: argparse.Namespace, console: "Console"
) -> int:
    """Write the copy, then check it in the same way: the remaining findings decide the exit code."""
    from engine.data.doctor import examine, list_samples_of
    from engine.data.doctor.fix import write_fixed_copy
    from engine.recipe import load_recipe
    from engine.recipe.text import dump_value
    from engine.reporting.console import counted
    from engine.reporting.doctor import print_findings, verdict
    from engine.run_folder import naming_disk_errors

    root = Path(recipe.data.root or ".")
    facts, meaning = examination.facts, examination.meaning
    with naming_disk_errors(arguments.fix):
        copy = write_fixed_copy(facts, meaning, root, arguments.fix, counted(console, "copying"))
    for line in copy.done:
        console.print(line, markup=False)
    kept = [line for line in arguments.overrides if not line.startswith((*copy.changes,))]
    overrides = [*kept, *(f"{key}={dump_value(value)}" for key, value in copy.changes.items())]
    fixed = load_recipe(recipe_file(arguments.recipe), overrides).data
    report = examine(list_samples_of(fixed), counted(console, "reading the copy")).report
    print_findings(console, report.findings)
    console.print(verdict(report))
    command = shlex.join(["trident", "run", arguments.recipe, *overrides])
    if report.spoils:
        end = "A training on it would be spoilt by what is left: correct that first."
    elif report.findings:
        end = f"What is left does not stop a training: {command}"
    else:
        end = f"Train on it: {command}"
    console.print(f"Written: {arguments.fix}. {end}", markup=False, soft_wrap=True)
    return 2 if report.spoils else 0


if __name__ == "__main__":
    raise SystemExit(main())
