"""The doctor at the start of a run: it stops what would be wasted, and sees each state of the data once."""

import hashlib
import json
from pathlib import Path

from rich.console import Console

from engine import __version__
from engine.data import DataError
from engine.data.doctor import Diagnosis, Listing, examine, list_samples_of
from engine.recipe import Recipe
from engine.reporting.console import counted
from engine.reporting.doctor import findings_table, verdict
from engine.run_folder import write_json
from engine.training.distributed import Process, any_process

CACHE = ".doctor"  # in output.dir: one JSON file for each state of a data set


def check_data(recipe: Recipe, process: Process, console: Console) -> Diagnosis | None:
    """Examine the data of a recipe; None where `data.doctor` is off, for drawn scenes and beside rank 0.

    Raises:
        DataError: training would be wasted, in every process.
    """
    if recipe.data.doctor == "off" or recipe.data.format == "synthetic":
        return None
    diagnosis = None
    if process.is_main:
        listing = list_samples_of(recipe.data)
        diagnosis = _cached(listing, recipe, console)
        worth_saying = [found for found in diagnosis.findings if found.severity != "note"]
        if worth_saying:
            console.print(findings_table(worth_saying))
        console.print(f"Doctor: {verdict(diagnosis)}")
    if any_process(process, diagnosis is not None and diagnosis.spoils):
        raise DataError(
            "The data would spoil this training, as the findings above say. Mend it, or type "
            "data.doctor=off to train all the same."
        )
    return diagnosis


def _cached(listing: Listing, recipe: Recipe, console: Console) -> Diagnosis:
    path = Path(recipe.output.dir).expanduser() / CACHE / f"{fingerprint(listing)}.json"
    try:
        return Diagnosis.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or of another version
        pass
    diagnosis = examine(listing, counted(console, "doctor")).diagnosis
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, diagnosis.to_dict())
    return diagnosis


def fingerprint(listing: Listing) -> str:
    """Of all that the doctor looks at, without reading a file: names, sizes and times of change."""
    digest = hashlib.sha256(f"{__version__} {listing.train} {listing.scored} {listing.refused}".encode())
    digest.update(f"{listing.class_names} {listing.palette} {listing.ignore_index}".encode())
    digest.update(f"{listing.mapping.identity()} {listing.has_known_colours}".encode())
    for split, indices in listing.splits.items():
        digest.update(f"{split} {indices.tolist()}".encode())
    for sample in listing.samples:
        digest.update(f"{sample.id}\n".encode())
        for file in filter(None, (sample.image, sample.mask)):
            state = file.stat()
            digest.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
