"""Trident: the commands, one file each, and what they stand on. Imports nothing heavy: `--help` is fast.

A user's project may have a folder `models` or `losses` of its own. Once `engine` is imported, these names
mean the packages next to it, whatever comes first on `sys.path`; `trident/own_engine.py` finds `engine`.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.scoring.segmenter import Segmenter

__version__ = "0.1.0"

HOME = Path(__file__).parents[1]
OURS = ("engine", "models", "losses")


class _FindBesideEngine:
    """Finds modules before the finders that follow `sys.path`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        package, _, inner = name.partition(".")
        if package not in OURS:
            return None
        spec = PathFinder.find_spec(name, path if inner else [str(HOME)])
        if spec is None and inner:
            raise ModuleNotFoundError(
                f"no module {name!r}: in this process `{package}` is Trident's own, {HOME / package}. "
                f"Rename your `{package}`.",
                name=name,
            )
        return spec


def _refuse_others(name: str) -> None:
    """Raise ImportError if `name` was imported from elsewhere before `engine` was."""
    if name not in sys.modules:
        return
    module = sys.modules[name]
    place = Path(getattr(module, "__file__", None) or next(iter(module.__path__)))
    if (HOME / name).resolve() not in (place.resolve(), place.resolve().parent):
        raise ImportError(
            f"`{name}` was imported from {place}, but Trident needs its own `{name}` in {HOME / name}, and a "
            f"process can hold only one. Rename yours, or use Trident in a process that does not import it."
        )


for _name in OURS:
    _refuse_others(_name)
sys.meta_path.insert(0, _FindBesideEngine)


def load(
    path: str | os.PathLike[str], device: str | None = None, overrides: Sequence[str] = ()
) -> "Segmenter":
    """A trained model or ensemble, ready to use: `labels, probabilities = engine.load(path).predict(image)`.

    Args:
        path: a run folder, whose best checkpoint is taken, a file of its top/, or a saved ensemble's folder.
        device: such as "cpu"; None takes the GPU if there is one, and of several GPUs all for an ensemble.
        overrides: recipe values for how it predicts, such as ["eval.flip=true"].

    Returns:
        An `engine.scoring.segmenter.Segmenter`: `predict`, `class_names`, `palette`.

    Raises:
        ValueError: there is nothing of that kind at `path`, or it is damaged, or it was scored under a
            protocol that leaves a part of an image out (`overrides` change it).
    """
    from engine.scoring.segmenter import open_segmenter  # here, since torch takes seconds to import

    return open_segmenter(Path(path), device, overrides)
