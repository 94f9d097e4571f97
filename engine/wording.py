"""Words of messages that depend on a number, on known names, or on paths.

Imports nothing of this project, so that every layer may use it.
"""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path


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


def not_installed(library: str | None, extra: str) -> str:
    """What to type where a library of an extra of the distribution is missing."""
    return (
        f"{library} is not installed. Type pip install 'trident-seg[{extra}]', or in a checkout "
        f"pip install -e '.[{extra}]'."
    )
