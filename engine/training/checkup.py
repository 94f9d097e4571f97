"""The doctor at the start of a run: bad data stops the run, and unchanged data is checked only once."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from engine import __version__
from engine.data import DataError
from engine.data.doctor import DataReport, Listing, report_on
from engine.data.doctor.copies import trained_and_scored
from engine.data.doctor.findings import NOTE, SPOILS
from engine.data.doctor.several import list_sets, naming_sets, report_on_sets
from engine.data.formats.files import FileDataset
from engine.data.sets import sets_of
from engine.recipe import Recipe
from engine.reporting.console import counted
from engine.reporting.doctor import print_findings, verdict
from engine.run_folder import read_sealed, write_sealed
from engine.training.distributed import Process, any_process, wait_for_all

CACHE = ".doctor"  # in output.dir: one JSON file for each state of a data set


def check_data(recipe: Recipe, process: Process, console: Console) -> DataReport | None:
    """Check the data of a recipe; None if `data.doctor` is off, for drawn scenes, and on ranks above 0.

    Raises:
        DataError: on every rank, if the data would spoil the training.
    """
    sets = sets_of(recipe.data)
    if recipe.data.doctor == "off" or all(one.format == "synthetic" for one in sets.values()):
        found = {
            name: [
                trained_and_scored(one, split)
                for split in {one.val, one.select} - {None}
                if split == one.train
            ]
            for name, one in sets.items()
        }
        print_findings(console, naming_sets(found))
        return None
    report, problem = None, ""
    if process.is_main:
        try:
            listings = list_sets(recipe.data)
            reports = {name: _cached(listing, recipe, console) for name, listing in listings.items()}
        except DataError as error:  # the reader would refuse them too, with or without the doctor
            problem = str(error)
        else:
            [report] = reports.values() if len(reports) == 1 else [report_on_sets(recipe.data, reports)]
            problem = _report(report, console)
    wait_for_all(process)  # as the main process may have read all data
    if any_process(process, bool(problem)):
        raise DataError(
            problem or "The data cannot be trained on; the message of the first process says why."
        )
    return report


def _report(report: DataReport, console: Console) -> str:
    """Print the important findings; returns why the training must not start, or an empty string."""
    important = [
        found
        for found in report.findings
        if found.severity != NOTE and found.check != "rare_classes"  # the training itself reports those
    ]
    print_findings(console, important)
    console.print(f"Doctor: {verdict(report)}")
    worst = [f"{f.check}: {f.what}. Remedy: {f.remedy}" for f in important if f.severity == SPOILS]
    if not worst:
        return ""
    lines = ["The data would spoil this training.", *worst]
    if report.readable:  # else the training would stop as well, at the first such file
        lines.append("Type data.doctor=off to train anyway.")
    return "\n  ".join(lines)


def _cached(listing: Listing, recipe: Recipe, console: Console) -> DataReport:
    path = Path(recipe.output.dir) / CACHE / f"{fingerprint(listing)}.json"
    if saved := read_sealed(path):
        with suppress(KeyError, TypeError):  # written by another version
            return DataReport.from_dict(saved)
    report = report_on(listing, counted(console, "doctor"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, report.to_dict())
    return report


def fingerprint(listing: Listing) -> str:
    """Hash of everything that the doctor examines, by file names, sizes and modification times.

    A pack, or a data set of the user's own that has no files, says by its own fingerprint what it holds.
    """
    digest = hashlib.sha256(f"{__version__} {listing.train} {listing.scored} {listing.refused}".encode())
    digest.update(f"{listing.class_names} {listing.palette} {listing.ignore_index}".encode())
    digest.update(f"{listing.may_skip} {listing.takes_ids} {listing.notes}".encode())
    digest.update(f"{listing.encoding.identity()} {listing.has_known_colours} {listing.value_range}".encode())
    digest.update(f"{find_spec('rasterio') is not None}".encode())  # without it, TIFFs may be unreadable
    if listing.bands is not None:
        digest.update(repr(listing.bands).encode())
    for split, indices in listing.splits.items():
        digest.update(f"{split} {indices.tolist()}".encode())
    for sample in listing.samples:
        digest.update(f"{sample.id}\n".encode())
        for file in filter(None, (sample.image, *sample.mask_files)):
            digest.update(f"{file} {_state(file)}\n".encode())
    if not listing.has_files:
        for split, dataset in listing.opened.items():
            digest.update(f"{split} {dataset.fingerprint()}\n".encode())
    if listing.unlabelled:
        for id, file in zip(listing.unlabelled.ids, _files(listing.unlabelled), strict=True):
            digest.update(f"unlabelled {id} {file} {_state(file)}\n".encode())
    return digest.hexdigest()


def _files(dataset: FileDataset) -> Iterator[Path]:
    return map(dataset.image_path, range(len(dataset)))


def _state(file: Path) -> str:
    """Size and modification time."""
    try:
        state = file.stat()
    except OSError as error:  # a broken link, which the doctor reports
        return str(error.errno)
    return f"{state.st_size} {state.st_mtime_ns}"
