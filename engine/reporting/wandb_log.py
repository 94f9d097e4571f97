"""A run in Weights & Biases: https://docs.wandb.ai. Needs the extra `wandb`."""

import math
import secrets
from collections.abc import Sequence
from typing import Literal

import wandb

from engine.data.batches import Batch
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Callback, Evaluation, RunContext, RunEnd
from engine.reporting.log_files import evaluation_values
from engine.reporting.pictures import sheet
from engine.run_folder import write_text


class WandbLog(Callback):
    """Numbers, scores and prediction pictures; the recipe as the configuration of the run.

    A resumed run goes on in the same run of Weights & Biases, whose id is in wandb_run_id.txt. Charts have
    "step" as their x-axis; updates that are repeated after a resume are drawn twice.

    Args:
        project, entity, tags, mode: as of `wandb.init`.
    """

    def __init__(
        self,
        project: str = "trident",
        entity: str | None = None,
        tags: Sequence[str] = (),
        mode: Literal["online", "offline", "disabled"] | None = None,
    ):
        self.project, self.entity, self.tags, self.mode = project, entity, tags, mode

    def on_start(self, run: RunContext) -> None:
        file = run.path / "wandb_run_id.txt"
        if not file.is_file():
            write_text(file, secrets.token_hex(4))
        self._context = run
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            tags=list(self.tags),
            mode=self.mode,
            name=run.recipe.name,
            id=file.read_text(),
            resume="allow",
            dir=run.path,
            config=run.recipe.model_dump(),
            reinit="create_new",  # a run that the calling program has open stays open
            settings=wandb.Settings(console="off", silent=run.console.quiet),  # output is not copied
        )
        self._run.define_metric("*", step_metric="step")

    def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self._log(step, {name if "/" in name else f"train/{name}": v for name, v in values.items()})

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        values = evaluation_values(evaluation).items()
        row: dict[str, object] = {f"val/{name}": v for name, v in values if not math.isnan(v)}
        if evaluation.pictures:
            run = self._context
            image = sheet(evaluation.pictures, run.palette, run.class_names, run.ignore_index)
            row["val/predictions"] = wandb.Image(image)
        self._log(step, row)

    def on_note(self, step: int, note: Note) -> None:
        self._run.summary[f"notes/{note.topic}"] = f"step {step}: {note.text}"

    def on_end(self, end: RunEnd) -> None:
        self._run.summary.update({f"final/{name}/mIoU": scores.mIoU for name, scores in end.scores.items()})
        self._run.finish(exit_code=int(end.status == "failed"))

    def _log(self, step: int, row: dict[str, object]) -> None:
        self._run.log({"step": step, **row})
