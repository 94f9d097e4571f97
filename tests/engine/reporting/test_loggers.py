"""The loggers of `log.to`: built from names and options; the real wandb and mlflow, offline."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.components import ComponentError
from engine.data.batches import Batch
from engine.recipe import Recipe, load_recipe
from engine.reporting.advisor import Note
from engine.reporting.callbacks import Callback, Evaluation, RunContext, RunEnd
from engine.reporting.loggers import LOGGERS, build_loggers, require_callbacks
from engine.scoring.baselines import Baselines
from engine.scoring.confusion import Scores

BASELINES = Baselines("ground", "ground", first=0.1, majority=0.1, uniform=0.05)

ROOT = Path(__file__).parents[3]
BATCH = Batch(torch.zeros(1), torch.zeros(1), [])


def scores(mIoU: float) -> Scores:
    iou = {"ground": mIoU, "cat, dog": float("nan")}
    return Scores({"mIoU": mIoU, "mAcc": 0.5, "aAcc": 0.5}, BASELINES, iou, {}, {}, {}, [], 1, 0)


def recipe_of(*entries: str) -> Recipe:
    return load_recipe(ROOT / "recipes/demo.yaml", [f"log.to=[{', '.join(entries)}]", "name=logged"])


def loggers_of(*entries: str) -> list[Callback]:
    return build_loggers(recipe_of(*entries).log.to)


class MyLogger(Callback):
    def __init__(self, path: str, every: int = 1):
        self.path, self.every = path, every


class NotALogger:
    pass


class NoServer(Callback):
    def __init__(self) -> None:
        raise OSError("no route to the server")


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file's logger, importable as my_package:MyLogger."""
    parts = SimpleNamespace(MyLogger=MyLogger, NoLogger=NotALogger, NoServer=NoServer)
    monkeypatch.setitem(sys.modules, "my_package", parts)


def test_the_default_is_tensorboard() -> None:
    assert load_recipe(ROOT / "recipes/demo.yaml").log.to == ["tensorboard"]


def test_a_logger_from_outside_gets_its_options(outside: None) -> None:
    csv, mine = loggers_of("csv", "{name: 'my_package:MyLogger', path: there, every: 3}")
    assert type(csv).__name__ == "CsvLog"
    assert isinstance(mine, MyLogger) and (mine.path, mine.every) == ("there", 3)


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("tensorbord", ("log.to", "tensorbord", "tensorboard")),
        ("'no_such_package:Logger'", ("log.to", "no_such_package")),
        ("'my_package:Missing'", ("log.to", "my_package:Missing")),
        ("'my_package:NoLogger'", ("log.to", "my_package:NoLogger", "trident.Callback")),
        ("{name: 'my_package:MyLogger', path: there, evry: 3}", ("log.to", "evry", "every")),
        ("{name: 'my_package:MyLogger', path: 3}", ("log.to", "path", "text")),
        ("'my_package:MyLogger'", ("log.to", "my_package:MyLogger", "path")),
        ("'my_package:NoServer'", ("log.to", "my_package:NoServer", "OSError", "no route")),
        ("csv, {name: csv}", ("log.to", "csv", "2 times")),
        ("'my-package:X'", ("log.to", "my_package:MyClass")),
    ],
)
def test_a_mistake_in_log_to_says_what_is_wrong(outside: None, entry: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        loggers_of(entry)
    assert caught.value.exit_code == 2
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.reporting.loggers.importlib.util.find_spec", lambda package: None)
    with pytest.raises(ComponentError, match=rf"pip install 'trident-seg\[{name}\]'"):
        loggers_of(name)


def test_a_callback_is_an_instance() -> None:
    require_callbacks([Callback()])
    with pytest.raises(ComponentError, match=r"Callback\(\)"):
        require_callbacks([Callback])
    with pytest.raises(ComponentError, match="trident.Callback"):
        require_callbacks([print])


def test_the_listing_and_the_extras_have_the_same_names() -> None:
    setup = (ROOT / "setup.py").read_text()
    assert all(f'"{name}": [' in setup for name in ("wandb", "mlflow") if name in LOGGERS)


def train_a_little(
    logger: Callback, folder: Path, first_step: int, steps: tuple[int, ...], end: RunEnd
) -> None:
    """The calls of a training: a log step and an evaluation at each of `steps`."""
    folder.mkdir(exist_ok=True)
    (folder / "report.html").write_text("<p>report</p>")
    palette = ((0, 0, 0), (9, 9, 9))
    names = ("ground", "cat, dog")
    context = RunContext(folder, recipe_of("csv"), None, names, palette, 255, first_step)
    logger.on_start(context)
    for step in steps:
        logger.on_step(step)
        logger.on_log(step, {"loss": 1 / step, "lr/head": 1e-3, "memory": float("nan")}, BATCH)
        logger.on_evaluation(step, Evaluation(scores(step / 100), 0.7))
        logger.on_note(step, Note("data", "It waits.", ("data.workers=8",)))
    logger.on_end(end)


FINISHED = RunEnd("finished", 40, {"step 40": scores(0.4), "mean": scores(0.45)})


def test_mlflow_gets_numbers_parameters_and_report_and_a_resume_continues_its_run(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed: no local store of mlflow")
    uri = f"sqlite:///{tmp_path}/store.db"
    client = mlflow.MlflowClient(uri)
    client.create_experiment("ours", artifact_location=(tmp_path / "artifacts").as_uri())
    for first_step, steps, end in ((0, (20,), RunEnd("stopped", 20)), (20, (40,), FINISHED)):
        [logger] = loggers_of(f"{{name: mlflow, tracking_uri: '{uri}', experiment: ours}}")
        train_a_little(logger, tmp_path / "run", first_step, steps, end)
    experiment = client.get_experiment_by_name("ours")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "logged" and run.info.status == "FINISHED"
    assert run.data.params["optimizer.lr"] == "0.002"
    history = client.get_metric_history(run.info.run_id, "val/mIoU")
    assert [(metric.step, metric.value) for metric in history] == [(20, 0.2), (40, 0.4)]
    assert run.data.metrics["train/loss"] == 1 / 40 and run.data.metrics["final/mean/mIoU"] == 0.45
    assert "train/memory" not in run.data.metrics and "val/IoU/ground" in run.data.metrics
    assert run.data.tags["notes/data"] == "step 40: It waits."
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]


def test_wandb_writes_offline_runs_with_the_same_id_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for variable in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.chdir(tmp_path)
    for first_step, steps, end in ((0, (20,), RunEnd("stopped", 20)), (20, (40,), FINISHED)):
        [logger] = loggers_of("{name: wandb, project: mine, tags: [small]}")
        train_a_little(logger, tmp_path / "run", first_step, steps, end)
        wandb.teardown()  # ends wandb's process, which writes the files
        time.sleep(1)  # wandb names its folders by the second
    run_id = (tmp_path / "run/wandb_run_id.txt").read_text()
    files = sorted((tmp_path / "run/wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert len(files) == 2
    content = b"".join(file.read_bytes() for file in files)
    for part in (b"logged", b"mine", b"small", b"train/loss", b"val/mIoU", b"val/IoU/ground", b"final/mean"):
        assert part in content
    assert not (tmp_path / "wandb").exists()
