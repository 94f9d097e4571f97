"""What to type in place of a path that is no run."""

import difflib
import shlex
from pathlib import Path


def no_manifest(path: Path) -> str:
    """What is said where there is no manifest at `path`."""
    folder = path.parent
    if (folder / "combination.json").is_file():
        return f"{folder} {no_run_but_ensemble(folder)}"
    no_run = f"is not a run folder: it has no {path.name}." if folder.exists() else "does not exist."
    return f"{folder} {no_run}{near_runs(folder, path.name)}"


def no_run_but_ensemble(path: Path) -> str:
    """What is said, after its path, of a saved ensemble where a run is expected."""
    scored = f"trident evaluate {shlex.quote(str(path))}"
    return f"is a saved ensemble: name the runs of its members. To score it type {scored}"


def near_runs(path: Path, manifest: str = "manifest.json") -> str:
    """What to type instead of a path that is no run: the run of a similar name, or those around it."""
    if similar := similar_run(path, manifest):
        return f" Did you mean {similar}?"
    found = _around(path, manifest)
    if found:
        return f" Name one of these: {', '.join(map(str, found))}."
    return " Runs are written to checkpoints/, or where output.dir says."


def similar_run(path: Path, manifest: str = "manifest.json") -> Path | None:
    """The run, or the checkpoint of one, whose name is nearest to that of a path which is none."""
    by_name = {found.name: found for found in reversed(_around(path, manifest))}
    close = difflib.get_close_matches(path.name, by_name, n=1)
    return by_name[close[0]] if close else None


def _around(path: Path, manifest: str) -> list[Path]:
    if path.suffix == ".safetensors":
        return sorted(path.parent.glob("*.safetensors"))
    folders = dict.fromkeys((path, path.parent, path.parent / "checkpoints"))  # the default of output.dir
    if not path.parent.exists():  # misspelt too
        folders |= dict.fromkeys(sorted(path.parent.parent.glob("*")))
    found = [file.parent for folder in folders for file in sorted(folder.glob(f"*/{manifest}"))]
    return list(dict.fromkeys(found))
