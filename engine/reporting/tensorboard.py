"""A run as TensorBoard events. Knows nothing of how training works."""

import math
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from engine.data.sample import Palette
from engine.reporting.pictures import Picture, sheet
from engine.scoring.confusion import Scores


class TensorBoard:
    """Listens to a journal; `train/*`, `val/*`, `adv/*` and one sheet of pictures an evaluation.

    Args:
        folder: where the event file goes.
        resume_at: events after this step, of a run that was cut off, are hidden.
    """

    def __init__(
        self, folder: Path, palette: Palette, class_names: tuple[str, ...], ignore_index: int, resume_at: int
    ):
        self._writer = SummaryWriter(str(folder), purge_step=resume_at + 1 if resume_at else None)
        self._palette, self._class_names, self._ignore_index = palette, class_names, ignore_index

    def tick(self, step: int) -> None:
        """Updates between log steps are not written."""

    def update(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name if "/" in name else f"train/{name}", value, step)

    def scoring(self, done: int, total: int) -> None:
        """Progress is not written."""

    def evaluation(self, step: int, scores: Scores, log_loss: float, pictures: list[Picture]) -> None:
        values = {"mIoU": scores.mIoU, "mAcc": scores.mAcc, "aAcc": scores.aAcc, "loss": log_loss}
        values |= {f"IoU/{name}": value for name, value in scores.IoU.items() if not math.isnan(value)}
        for name, value in values.items():
            self._writer.add_scalar(f"val/{name}", value, step)
        if pictures:
            image = sheet(pictures, self._palette, self._class_names, self._ignore_index)
            self._writer.add_image("val/predictions", np.asarray(image), step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
