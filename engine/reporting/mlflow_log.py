"""A run in MLflow: https://mlflow.org. Needs the extra `mlflow`."""

import math
import re
import time

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from engine.data.batches import Batch
from engine.recipe.differences import explain
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Callback, Evaluation, RunContext, RunEnd
from engine.reporting.log_files import evaluation_values
from engine.run_folder import RunFolder, write_text

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
NOT_IN_A_NAME = re.compile(r"[^\w\-. /:]")
MAX_PARAMS = 100  # of one request
MAX_VALUE = 6000  # characters of a parameter


class MlflowLog(Callback):
    """Numbers and scores as metrics, the recipe's values as parameters, and report.html as an artifact.

    A resumed run goes on in the same run of MLflow, whose id is in mlflow_run_id.txt. A metric has the values
    of updates that are repeated after a resume twice.

    Args:
        tracking_uri: of the server or database, such as http://host:5000 or sqlite:///runs.db; without it,
            MLFLOW_TRACKING_URI, or what MLflow chooses.
        experiment: is created where it does not exist.
    """

    def __init__(self, tracking_uri: str | None = None, experiment: str = "trident"):
        self.tracking_uri, self.experiment = tracking_uri, experiment

    def on_start(self, run: RunContext) -> None:
        self._client = MlflowClient(self.tracking_uri)
        self._report = RunFolder(run.path).report
        file = run.path / "mlflow_run_id.txt"
        if file.is_file():
            self._id = file.read_text()
            self._client.update_run(self._id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(self.experiment)
        self._id = self._client.create_run(experiment, run_name=run.recipe.name).info.run_id
        write_text(file, self._id)
        values = [(_name(key), str(value)[:MAX_VALUE]) for key, value, _ in explain(run.recipe)]
        for start in range(0, len(values), MAX_PARAMS):
            parameters = [Param(*pair) for pair in values[start : start + MAX_PARAMS]]
            self._client.log_batch(self._id, params=parameters)

    def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self._log(step, {name if "/" in name else f"train/{name}": v for name, v in values.items()})

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        self._log(step, {f"val/{name}": value for name, value in evaluation_values(evaluation).items()})

    def on_note(self, step: int, note: Note) -> None:
        self._client.set_tag(self._id, _name(f"notes/{note.topic}"), f"step {step}: {note.text}")

    def on_end(self, end: RunEnd) -> None:
        self._log(end.step, {f"final/{name}/mIoU": scores.mIoU for name, scores in end.scores.items()})
        if end.status == "finished":
            self._client.log_artifact(self._id, str(self._report))
        self._client.set_terminated(self._id, STATUS[end.status])

    def _log(self, step: int, values: dict[str, float]) -> None:
        now = round(time.time() * 1000)
        metrics = [Metric(_name(n), v, now, step) for n, v in values.items() if not math.isnan(v)]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)


def _name(text: str) -> str:
    """MLflow takes letters, digits, "_", "-", ".", " ", "/" and ":" only."""
    return NOT_IN_A_NAME.sub("_", text)
