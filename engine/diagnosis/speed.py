"""Whether training waited for data."""

from dataclasses import dataclass

import numpy as np

from engine.diagnosis.findings import Finding
from engine.scoring.run import Run, series

TOPIC = "speed"
WAITING = 0.2  # of an update: more is a loss worth mending


@dataclass(frozen=True)
class Speed:
    """Medians over the log: seconds an update, and the share of it that went by before a batch was there."""

    seconds: float
    data_share: float

    @property
    def is_data_bound(self) -> bool:
        return self.data_share > WAITING

    def finding(self) -> Finding:
        verdict = "Training waits for data" if self.is_data_bound else "Training does not wait for data"
        return Finding(
            TOPIC,
            f"{verdict}: {100 * self.data_share:.0f} % of an update of {self.seconds:.2f} s goes by before "
            "its batch is there (medians over the log).",
        )


def study_speed(run: Run) -> Speed | None:
    """None where the log has no times."""
    rows = [row for row in run.train_rows if row.get("time")]
    steps, seconds = series(rows, "time")
    data_steps, data_seconds = series(rows, "data_time")
    if not len(steps) or not np.array_equal(steps, data_steps):
        return None
    return Speed(float(np.median(seconds)), float(np.median(data_seconds / seconds)))
