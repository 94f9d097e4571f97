"""The figures that a comparison shows in addition to the scores.

To add one, add an entry to COLUMNS: the console, compare.md, .csv, .json and .html all read that listing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from engine.scoring.run import Run


@dataclass(frozen=True)
class Column:
    """One figure of a run; of a method, the mean over its runs is shown.

    heading: of the column in tables, with the unit.
    value: of a run, None where it was not measured. A metric of the best checkpoint, for example, is
        `lambda run: run.best.scores["mAcc"]`.
    text: how tables write it; compare.csv and compare.json hold the number.
    """

    heading: str
    value: Callable[[Run], float | None]
    text: Callable[[float], str]


def duration(seconds: float) -> str:
    """In seconds, in minutes from two minutes on, in hours from two hours on."""
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.3g} s"
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


COLUMNS: dict[str, Column] = {  # by its name in compare.csv and compare.json
    "update_s": Column("s/update", lambda run: run.cost.update_s, "{:.3f}".format),
    "images_per_s": Column("images/s", lambda run: run.cost.images_per_s, "{:.1f}".format),
    "memory_mb": Column("memory, MB", lambda run: run.cost.memory_mb, "{:.0f}".format),
    "training_s": Column("training", lambda run: run.cost.training_s, duration),
    "energy_j": Column("energy, kJ", lambda run: run.cost.energy_j, lambda joules: f"{joules / 1000:.1f}"),
    "num_parameters": Column("parameters", lambda run: run.manifest.num_parameters, "{:,.0f}".format),
}
