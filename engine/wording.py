"""Words of messages that depend on a number, on known names, or on what is in a folder.

Imports nothing of this project, so that every layer may use it.
"""

import difflib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

STAGES = "stages.json"  # in the folder around the runs of a recipe with stages


def quantity(number: int, noun: str, plural: str = "") -> str:
    """`1 image`, `1,200 images`, `0 classes`.

    Args:
        plural: of nouns that do not take an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def some_of(number: int, total: int, noun: str, one: str, several: str) -> str:
    """`1 of 20 images is`, `3 of 20 images are`, with the verb for one or several."""
    return f"{number:,} of {quantity(total, noun)} {one if number == 1 else several}"


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str:
    """` Did you mean a or b?`, with the `most` closest of the known names; empty where none is close."""
    close = difflib.get_close_matches(word, list(known), n=most)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def near_path(path: str | Path) -> str:
    """` Did you mean a/b?`, with what is there under a similar name; empty where nothing is."""
    typed = Path(os.path.expanduser(path))
    above = next((folder for folder in typed.parents if folder.is_dir()), typed)
    if typed.exists() or not os.access(above, os.R_OK | os.X_OK):
        return ""
    first, *rest = typed.relative_to(above).parts or [""]
    close = difflib.get_close_matches(first, os.listdir(above), n=1, cutoff=0.75)
    found = [above.joinpath(name, *rest) for name in close]
    return f" Did you mean {found[0]}?" if found and found[0].exists() else ""


def to_go_on(folder: Path) -> str:
    """What to type to go on with a run, a stage of a recipe, or all its stages, from its folder."""
    if (folder / STAGES).is_file() and not (folder / "recipe.yaml").is_file():
        return "To go on with these stages, add --resume to the command that trained them."
    if (folder.parent / STAGES).is_file():
        return (
            "To go on with this stage and those after it, add --resume to the command that trained them. "
            f"For this stage alone type {command_to_go_on(folder)}"
        )
    return f"To go on with this run type {command_to_go_on(folder)}"


def command_to_go_on(run: Path) -> str:
    """The command that goes on with a run, from its folder, which may have been moved."""
    run = run if run.name.strip(".") else run.resolve()  # of the working folder
    where = [f"output.dir={run.parent}", f"name={run.name}"]
    return shlex.join(["trident", "run", str(run / "recipe.yaml"), *where, "--resume"])


def not_installed(library: str | None, extra: str) -> str:
    """What to type where a library of an extra of the distribution is missing."""
    return (
        f"{library} is not installed. Type pip install 'trident-seg[{extra}]', or in a checkout "
        f"pip install -e '.[{extra}]'."
    )
