"""The package `trident`: what it exports, and its functions on a small training."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

import trident
from engine.command import main
from engine.data.batches import Batch

ROOT = Path(__file__).parents[2]
TINY = [
    "model.arch=linknet", "model.encoder=tu-test_efficientnet", "data.synthetic.size=32",
    "data.synthetic.train_samples=8", "data.synthetic.val_samples=4", "augment.crop=32", "train.batch=4",
    "train.steps=4", "schedule.warmup=1", "eval.every=2", "log.every=1", "log.images=1",
]  # fmt: skip
EXPORTED = {
    "Boundary", "Callback", "CrossEntropy", "Dice", "Evaluation", "Focal", "Jaccard", "Lovasz", "Recipe",
    "Run", "RunContext", "RunEnd", "RunStopped", "SegFormer", "Tversky", "__version__", "build_loss",
    "build_model", "evaluate", "load", "load_recipe", "train",
}  # fmt: skip


class Recorder(trident.Callback):
    """Remembers which events came, with their step."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def on_start(self, run: trident.RunContext) -> None:
        self.context = run
        self.events.append(("start", run.first_step))

    def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
        self.events.append(("log", step))

    def on_evaluation(self, step: int, evaluation: trident.Evaluation) -> None:
        self.events.append(("evaluation", step))

    def on_checkpoint(self, step: int, path: Path) -> None:
        assert path.is_file()
        self.events.append(("checkpoint", step))

    def on_end(self, end: trident.RunEnd) -> None:
        self.end = end
        self.events.append(("end", end.step))


class Failing(trident.Callback):
    def __init__(self, method: str):
        setattr(self, method, self.fail)

    def fail(self, *arguments: object) -> None:
        raise RuntimeError("my own mistake")


def tiny(folder: Path, *more: str) -> list[str]:
    return [*TINY, f"output.dir={folder}/runs", "name=tiny", *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[trident.Run, Recorder]:
    """Trained in another thread than the main one, with a callback that fails beside."""
    folder, recorder = tmp_path_factory.mktemp("trained"), Recorder()
    with ThreadPoolExecutor(1) as pool:
        callbacks = [Failing("on_log"), recorder]
        return pool.submit(trident.train, "demo", tiny(folder), callbacks).result(), recorder


def test_exports_what_it_should_and_each_can_be_used() -> None:
    assert set(trident.__all__) == set(dir(trident)) == EXPORTED
    assert all(getattr(trident, name) is not None for name in EXPORTED)
    with pytest.raises(AttributeError, match="trane"):
        trident.trane  # noqa: B018


def test_the_import_loads_no_torch_and_a_callback_neither() -> None:
    code = (
        "import sys, trident, trident.__main__\n"
        "light = {'torch', 'numpy', 'pydantic', 'yaml'} & sys.modules.keys()\n"
        "class Mine(trident.Callback): pass\n"
        "trident.load_recipe\n"
        "sys.exit(bool(light) or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_python_m_trident_is_the_command() -> None:
    command = [sys.executable, "-m", "trident", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"trident {trident.__version__}"


def test_train_returns_the_finished_run(trained: tuple[trident.Run, Recorder]) -> None:
    run, _ = trained
    assert isinstance(run, trident.Run) and run.manifest.finished
    assert run.best.path.is_file() and run.scores is not None
    assert "4 images" in repr(run.scores) and "\n" not in repr(run.scores)
    labels, _ = run.load("cpu").predict(torch.zeros(3, 40, 50, dtype=torch.uint8))
    assert labels.shape == (40, 50)


def test_a_callback_sees_the_whole_training(trained: tuple[trident.Run, Recorder]) -> None:
    run, recorder = trained
    kept = {member.step for member in run.manifest.members}
    steps = [(1, False), (2, True), (3, False), (4, True)]
    expected = [("start", 0)]
    for step, evaluates in steps:
        expected += [("log", step)] + [("evaluation", step), ("checkpoint", step)] * evaluates
    assert recorder.events == [*expected, ("end", 4)]
    assert kept == {2, 4}
    assert recorder.end.status == "finished" and list(recorder.end.scores)[-1] == "mean"
    assert recorder.context.path == run.path and recorder.context.recipe.train.steps == 4


def test_a_failing_callback_is_in_the_log_and_the_training_went_on(
    trained: tuple[trident.Run, Recorder],
) -> None:
    [note] = [row for row in trained[0].rows if row.get("topic") == "callback"]
    assert note["step"] == 1
    assert all(part in note["text"] for part in ("Failing.on_log", "RuntimeError", "my own mistake"))


def test_evaluate_gives_the_scores_of_the_best_checkpoint(trained: tuple[trident.Run, Recorder]) -> None:
    run, _ = trained
    scores = trident.evaluate(run.path)
    assert scores.mIoU == pytest.approx(run.best.scores["mIoU"], abs=1e-6)
    assert trident.evaluate(run).mIoU == scores.mIoU  # a run is a path, too
    assert trident.evaluate(run.path, split="train").num_pixels > scores.num_pixels


def test_a_dict_is_no_recipe_and_what_the_message_says_makes_one() -> None:
    values = {"name": "mine", "train": {"steps": 3}}
    with pytest.raises(ValueError, match=r"got a dict\. trident\.Recipe\(\*\*values\) makes one"):
        trident.train(values)  # type: ignore[arg-type]
    assert trident.Recipe(**values).train.steps == 3


def test_a_recipe_object_with_overrides_trains_and_quiet_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = trident.load_recipe(ROOT / "recipes/demo.yaml", tiny(tmp_path, "train.steps=2"))
    run = trident.train(recipe, ["name=other", "log.to=[]"], quiet=True)
    assert run.path == tmp_path / "runs/other"
    assert capsys.readouterr().out == ""
    assert list(run.path.glob("events.*")) == []


def test_a_run_whose_loss_is_not_there_any_more_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a training in a notebook, whose classes are in `__main__`."""
    monkeypatch.setattr("__main__.MyLoss", trident.Dice, raising=False)
    overrides = tiny(tmp_path, "train.steps=2", "loss=[{name: '__main__:MyLoss', per_image: true}]")
    run = trident.train("demo", overrides, quiet=True)
    monkeypatch.delattr("__main__.MyLoss")
    assert trident.evaluate(run.path).mIoU == pytest.approx(run.best.scores["mIoU"], abs=1e-6)
    for command in ("report", "diagnose", "ensemble"):
        assert main([command, str(run.path)]) == 0


def test_torch_is_set_as_before_the_training(tmp_path: Path) -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    trident.train("demo", tiny(tmp_path, "train.steps=2", "train.deterministic=true"), quiet=True)
    assert (torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()) == before


@pytest.mark.parametrize(
    ("overrides", "callbacks", "message"),
    [
        (["data.resident=gpu"], [], "data.resident"),
        (["log.to=[tensorbord]"], [], "log.to"),
        (["train.bacth=3"], [], "train.bacth"),
        ([], [Recorder], r"Recorder\(\)"),
    ],
)
def test_wrong_input_is_a_value_error_and_leaves_nothing(
    tmp_path: Path, overrides: list[str], callbacks: list[object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        trident.train("demo", tiny(tmp_path, *overrides), callbacks)
    assert list(tmp_path.iterdir()) == []


def test_a_single_override_needs_no_list() -> None:
    with pytest.raises(ValueError, match=r"override train.bacth=3\): unknown key"):
        trident.train("demo", "train.bacth=3")


@pytest.mark.parametrize(
    "place",
    [
        "engine.training.start.write_text",
        "engine.reporting.log_files.JsonLog.on_start",
        "engine.training.step.SupervisedStep.__call__",
    ],
)
@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()])
def test_a_start_that_fails_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(place, fail)
    recorder = Recorder()
    with pytest.raises(type(error)):
        trident.train("demo", tiny(tmp_path), [recorder], quiet=True)
    assert list(tmp_path.iterdir()) == []
    assert recorder.events in ([], [("end", 0)], [("start", 0), ("end", 0)])


def test_a_start_that_fails_leaves_a_folder_that_was_there_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs/tiny").mkdir(parents=True)
    (tmp_path / "runs/other").mkdir()
    monkeypatch.setattr("engine.training.train._introduction", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trident.train("demo", tiny(tmp_path), quiet=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["other", "runs", "tiny"]


def test_callbacks_that_fail_at_the_start_and_the_end_do_not_lose_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = [Failing("on_start"), Failing("on_end")]
    run = trident.train("demo", tiny(tmp_path, "train.steps=2"), failing)
    assert run.manifest.finished
    printed = capsys.readouterr().out
    for method in ("on_start", "on_end"):
        assert printed.count(f"Failing.{method}") == 2  # when it happens, and at the end


def test_a_run_that_is_stopped_is_an_exception_and_goes_on_with_resume(tmp_path: Path) -> None:
    class Interrupting(Recorder):
        def on_log(self, step: int, values: dict[str, float], batch: Batch) -> None:
            signal.raise_signal(signal.SIGINT)

    stopping = Interrupting()
    with pytest.raises(trident.RunStopped, match="resume"):
        trident.train("demo", tiny(tmp_path), [stopping], quiet=True)
    assert stopping.end.status == "stopped" and stopping.end.step == 1
    recorder = Recorder()
    assert trident.train("demo", tiny(tmp_path), [recorder], resume=True, quiet=True).manifest.finished
    assert recorder.events[0] == ("start", 1)


def test_the_building_blocks_work_by_themselves() -> None:
    model = trident.build_model("segformer", num_classes=3, variant="b0")
    loss = trident.build_loss([{"name": "cross_entropy"}, {"name": "dice"}], 3)
    logits = model(torch.zeros(1, 3, 64, 64))
    assert isinstance(model, trident.SegFormer) and isinstance(trident.Dice(), nn.Module)
    loss(logits, torch.zeros(1, 64, 64, dtype=torch.int64))["loss"].backward()
