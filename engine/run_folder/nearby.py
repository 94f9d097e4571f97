"""What to type in place of a path that is no run."""

import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path

from engine.going_on import to_go_on


def no_manifest(path: Path) -> str:
    """What is said where there is no manifest at `path`."""
    folder = path.parent
    if (folder / "combination.json").is_file():
        return f"{folder} {no_run_but_ensemble(folder)}"
    run = folder.parent.parent
    if folder.is_file() and (run / path.name).is_file():
        return f"{folder} is a file of a run. Name the run: {run}"
    return f"{_no_run(folder, path.name)}{near_runs(folder, path.name)}"


def no_model(path: Path) -> str:
    """What is said of a path that is neither a run nor a saved ensemble, where both are taken."""
    return f"{_no_run(path, 'manifest.json')}{near_runs(path, 'manifest.json', 'combination.json')}"


def _no_run(folder: Path, manifest: str) -> str:
    if folder.is_file():
        return f"{folder} is a file, not the folder of a run."
    what = f"is not a run folder: it has no {manifest}." if folder.exists() else "does not exist."
    return f"{folder} {what}"


def no_checkpoint(run: Path) -> str:
    """What is said of a run that has not been evaluated yet."""
    return (
        f"{run} has no checkpoint yet: the first is kept at the first evaluation (eval.every). "
        f"Wait for it, or, if the run was stopped, go on. {to_go_on(run)}"
    )


def no_run_but_ensemble(path: Path) -> str:
    """What is said, after its path, of a saved ensemble where a run is expected."""
    scored = f"trident evaluate {shlex.quote(str(path))}"
    return f"is a saved ensemble: name the runs of its members. To score it type {scored}"


def near_runs(path: Path, *manifests: str) -> str:
    """What to type instead of a path that is no run: the run of a similar name, or those around it.

    Args:
        manifests: the names of the files that make a folder one of those that are meant; default: of a run.
    """
    if similar := similar_run(path, *manifests):
        return f" Did you mean {similar}?"
    found = _around(path, manifests)
    if found:
        return f" Name one of these: {', '.join(map(str, found))}."
    return " Runs are written to checkpoints/, or where output.dir says."


def similar_run(path: Path, *manifests: str) -> Path | None:
    """The run, or the checkpoint of one, whose name is nearest to that of a path which is none."""
    by_name = {found.name: found for found in reversed(_around(path, manifests))}
    close = difflib.get_close_matches(path.name, by_name, n=1)
    return by_name[close[0]] if close else None


def _around(path: Path, manifests: Sequence[str]) -> list[Path]:
    if path.suffix == ".safetensors":
        return sorted(path.parent.glob("*.safetensors"))
    folders = dict.fromkeys((path, path.parent, path.parent / "checkpoints"))  # the default of output.dir
    if not path.parent.exists():  # misspelt too
        folders |= dict.fromkeys(sorted(path.parent.parent.glob("*")))
    names = manifests or ["manifest.json"]
    found = [path.parent for name in names if (path.parent / name).is_file()]  # of a folder such as top
    found += [
        file.parent for folder in folders for name in names for file in sorted(folder.glob(f"*/{name}"))
    ]
    return list(dict.fromkeys(found))
