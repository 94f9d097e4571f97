"""Imports the `engine` next to this package, since a user's project may have an `engine` of its own."""

import sys
from pathlib import Path

__all__ = ["engine"]

HOME = Path(__file__).parents[1]

sys.path.insert(0, str(HOME))
try:
    import engine
finally:
    sys.path.remove(str(HOME))

place = Path(getattr(engine, "__file__", None) or next(iter(engine.__path__)))
if place.resolve() != (HOME / "engine/__init__.py").resolve():
    raise ImportError(
        f"`engine` was imported from {place}, but Trident needs its own in {HOME / 'engine'}, and a process "
        "can hold only one. Rename yours, or use Trident in a process that does not import it."
    )
