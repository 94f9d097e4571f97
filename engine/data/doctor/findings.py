"""What a check says: what is wrong, where, why it hurts, and what mends it. Knows no check."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SPOILS, HURTS, NOTE = SEVERITIES = ("spoils", "hurts", "note")  # training stops; scores suffer; good to know
NUM_NAMED = 5  # files that a finding names

FIX = "trident doctor <recipe> --fix <new folder>, then train with data.root=<new folder>"


@dataclass(frozen=True)
class DataFinding:
    """One fault, over all the files that have it.

    check: its name in docs/doctor.md. severity: spoils | hurts | note. remedy: recipe lines or a command.
    where: the first few files. num_files: how many have it; 0 where the fault is not one of files.
    """

    check: str
    severity: str
    what: str
    why: str
    remedy: str
    where: tuple[str, ...] = ()
    num_files: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As doctor.json has it."""
        return {**asdict(self), "where": list(self.where)}


def finding(
    check: str, severity: str, what: str, why: str, remedy: str, files: Sequence[Path | str] = ()
) -> DataFinding:
    """A finding that names the first few of `files` and counts all."""
    assert severity in SEVERITIES
    where = tuple(str(file) for file in files[:NUM_NAMED])
    return DataFinding(check, severity, what, why, remedy, where, len(files))
