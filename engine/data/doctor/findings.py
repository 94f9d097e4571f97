"""The result of a check: what is wrong, where, why it matters, and the remedy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Ruins the training; lowers the score; for information.
SPOILS, HURTS, NOTE = SEVERITIES = ("spoils", "hurts", "note")
NUM_NAMED = 5  # files listed in a finding

FIX = "trident doctor <recipe> --fix <new folder>"  # it prints how to train on what it wrote


@dataclass(frozen=True)
class DataFinding:
    """One problem, over all files that have it.

    check: its name in docs/doctor.md. severity: spoils | hurts | note. remedy: recipe lines or a command.
    where: the first few files. num_files: how many have it; 0 where it is not a problem of single files.
    classes: the names of all that `what` is about, of which it names the first few.
    """

    check: str
    severity: str
    what: str
    why: str
    remedy: str
    where: tuple[str, ...] = ()
    num_files: int = 0
    classes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As doctor.json has it."""
        return {**asdict(self), "where": list(self.where), "classes": list(self.classes)}


def finding(
    check: str,
    severity: str,
    what: str,
    why: str,
    remedy: str,
    files: Sequence[Path | str] = (),
    classes: Sequence[str] = (),
) -> DataFinding:
    """A finding that lists the first few of `files` and their number."""
    assert severity in SEVERITIES
    where = tuple(str(file) for file in files[:NUM_NAMED])
    return DataFinding(check, severity, what, why, remedy, where, len(files), (*classes,))
