"""A recipe of two stages as one run: its folders, its resume, what reads its parent, and mistakes in it."""

import errno
import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import trident
from engine import load
from engine.diagnose import main as diagnose
from engine.diagnosis.label_check import open_with_all_checkpoints
from engine.evaluate import main as evaluate
from engine.recipe import Recipe, RecipeError, load_recipe, load_stages
from engine.run import main
from engine.run_folder import RunFolder, read_log
from engine.scoring.run import Run
from engine.training.adversarial import AdversarialStep
from engine.training.distributed import Process
from engine.training.stage_checks import check_stages
from engine.training.stages import dry_run_stages, train_stages
from models.errors import ModelError
from tests.engine.tiny_run import RECIPE, TINY, run_printed
from tests.engine.two_processes import run_two

COMMON = [text for text in TINY if not text.startswith("train.steps")]
STAGES = """
stages:
  - name: first
    train.steps: 2
  - {name: second, train: {steps: 4}, adversarial: {start: 2, ramp: 1, channels: 8, layers: 2}}
"""


def write(folder: Path, text: str = STAGES) -> str:
    path = folder / "two.yaml"
    path.write_text(f"base: {RECIPE}\n{text}")
    return str(path)


def command(folder: Path, *more: str, text: str = STAGES) -> list[str]:
    return [write(folder, text), *COMMON, "log.to=[]", "log.images=0", f"output.dir={folder / 'runs'}", *more]


def full(*_: object) -> None:
    """An update during which the disk is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Seen(trident.Callback):
    def __init__(self) -> None:
        self.ended: list[str] = []

    def on_start(self, run: trident.RunContext) -> None:
        self.name = run.recipe.name

    def on_end(self, end: trident.RunEnd) -> None:
        self.ended.append(self.name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the recipe and, in runs/two, its stages, trained from Python."""
    folder, seen = tmp_path_factory.mktemp("stages"), Seen()
    recipe, *overrides = command(folder)
    run = trident.train(recipe, overrides, [seen], quiet=True)
    assert run.path == folder / "runs/two/second"
    assert seen.ended == ["first", "second"]
    return folder


def test_each_stage_starts_from_the_best_checkpoint_of_the_one_before(trained: Path) -> None:
    parent = trained / "runs/two"
    first, second = (RunFolder(parent / name).read_manifest() for name in ("first", "second"))
    assert first.finished and second.finished
    assert second.weights and second.weights["file"] == str(parent / "first" / first.members[0].file)
    assert load_recipe(parent / "first/recipe.yaml").adversarial is None
    assert load_recipe(parent / "second/recipe.yaml").adversarial is not None
    page = (parent / "report.html").read_text()
    assert "first" in page and "second" in page


def test_the_parent_stands_for_its_last_stage(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent = trained / "runs/two"
    assert evaluate([str(parent)]) == 0
    assert "second step" in capsys.readouterr().out
    assert load(parent, "cpu").name.startswith("second step")
    assert Run(parent).path == parent / "second"
    device = torch.device("cpu")
    kept = RunFolder(parent / "second").read_manifest().members
    assert len(open_with_all_checkpoints(parent, device, []).members) == len(kept)


def test_what_to_try_next_is_typed_with_the_recipe_of_the_last_stage(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Path] = []
    monkeypatch.setattr(
        "engine.reporting.diagnosis.print_diagnosis", lambda console, diagnosis, run: told.append(run)
    )
    assert diagnose([str(trained / "runs/two")]) == 0
    assert [load_recipe(run / "recipe.yaml").name for run in told] == ["second"]


def test_after_a_stage_that_failed_the_command_with_resume_goes_on_with_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunFolder(trained / "runs/two/second")
    with monkeypatch.context() as patched:
        patched.setattr(AdversarialStep, "__call__", full)
        assert main(command(tmp_path)) == 1
    assert "No space left" in capsys.readouterr().err
    before = (tmp_path / "runs/two/first/manifest.json").read_bytes()
    for said in ("first is finished", "second is finished"):
        assert main(command(tmp_path, "--resume")) == 0
        assert said in capsys.readouterr().out
    assert (tmp_path / "runs/two/first/manifest.json").read_bytes() == before
    one, two = load_file(RunFolder(tmp_path / "runs/two/second").last_state), load_file(whole.last_state)
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_two_processes_train_the_stages_like_one(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_two(command(tmp_path))
    assert main(command(tmp_path, "--resume")) == 0
    assert "second is finished" in capsys.readouterr().out
    parents = [folder / "runs/two" for folder in (trained, tmp_path)]
    files = [sorted(path.name for path in parent.iterdir()) for parent in parents]
    assert files[0] == files[1]
    for stage in ("first", "second"):
        rows = [read_log(RunFolder(parent / stage).log) for parent in parents]
        one, two = ([row["loss"] for row in log if row["split"] == "train"] for log in rows)
        assert one == pytest.approx(two, rel=3e-3)


def test_another_recipe_of_a_finished_stage_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(trained, "stages.first.train.steps=3", "--resume")) == 2
    said = capsys.readouterr().err
    assert "train.steps: 2 in the run, 3 now" in said and "with name=<another name>" in said
    assert main(command(trained, "stages.first.train.steps=3", "name=again", "--dry-run")) == 0
    swapped = STAGES.replace("first", "x").replace("second", "first").replace("x", "second")
    assert main(command(trained, "--resume", text=swapped)) == 2
    assert "is finished, but was not stage 1" in capsys.readouterr().err
    assert main(command(trained)) == 2
    assert "Add --resume" in capsys.readouterr().err


def test_a_stage_that_an_earlier_version_finished_is_not_trained_again_for_keys_that_are_new(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = shutil.copytree(trained / "runs/two", tmp_path / "runs/two")
    saved = json.loads((parent / "stages.json").read_text().replace(str(trained), str(tmp_path)))
    for stage in saved["stages"]:
        del stage["values"]["model.encoder_drop_path"], stage["values"]["keep.smooth"]
    (parent / "stages.json").write_text(json.dumps(saved))
    assert main(command(tmp_path, "--resume", "model.drop_path=0.5")) == 2
    said = capsys.readouterr().err
    assert "model.drop_path: 0.0 in the run, 0.5 now" in said and "absent" not in said
    assert main(command(tmp_path, "--resume")) == 0
    assert "second is finished" in capsys.readouterr().out


def test_a_refused_resume_of_a_stage_says_how_to_go_on_from_its_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    update = AdversarialStep.__call__
    with monkeypatch.context() as patched:
        patched.setattr(
            AdversarialStep,
            "__call__",
            lambda self, *rest: update(self, *rest) if self.count < 3 else full(),
        )
        assert main(command(tmp_path)) == 1
    changed = "stages.second.optimizer.lr=1e-3"
    assert main(command(tmp_path, changed, "--resume")) == 2
    said = capsys.readouterr().err
    found = re.search(r"type (stage=.*) name=<another name> instead of --resume", said)
    assert found, said
    assert main(command(tmp_path, changed, *shlex.split(found[1]), "name=other")) == 0
    manifest = RunFolder(tmp_path / "runs/other/second").read_manifest()
    assert manifest.finished and manifest.continued_from
    assert {change.key for change in manifest.continued_from.changes} >= {"optimizer.lr"}


def test_the_folders_of_stages_are_answered_with_what_goes_on_with_all_of_them(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = shutil.copytree(trained / "runs/two", tmp_path / "moved/here")
    assert main([str(parent)]) == 2
    assert "To go on with these stages, add --resume to the command that trained" in capsys.readouterr().err
    assert main([str(parent / "second")]) == 2
    said = capsys.readouterr().err
    assert "this stage and those after it, add --resume to the command that trained them" in said
    monkeypatch.chdir(tmp_path)  # where the folder of the recipe does not lead to the run
    assert run_printed(said) == 0
    assert not (tmp_path / "checkpoints").exists() and "moved/here/second" in capsys.readouterr().out
    for stage in ("first", "second"):
        run = RunFolder(parent / stage)
        shutil.rmtree(run.top)
        run.write_manifest(run.read_manifest().model_copy(update={"members": []}))
    assert evaluate([str(parent)]) == 2
    said = capsys.readouterr().err
    assert "here/first has no checkpoint yet" in said
    assert "this stage and those after it, add --resume to the command that trained them" in said


def test_the_folder_of_a_run_is_not_that_of_stages(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs/two").mkdir(parents=True)
    shutil.copy(trained / "runs/two/first/manifest.json", tmp_path / "runs/two/manifest.json")
    assert main(command(tmp_path)) == 2
    assert "two is the folder of a run. Train the stages with name=<another name>." in capsys.readouterr().err


def test_a_dry_run_covers_all_stages_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "first: what it would cost" in said and "second: what it would cost" in said
    assert not (tmp_path / "runs").exists()


SECOND = "stages.second."


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["model.variant=b1"], "these look like b0 weights.*model.variant=b0"),
        (["model.encoder=resnet18"], r"two/first fills 0.0% of the encoder"),
        (["model.encoder=resnet43", "model.weights=smp:imagenet"], "resnet43.*Did you mean"),
        (["model.weights=none.pth"], "none.pth"),
        (["model.auxiliary={layer: encoder.stages.9}"], "model.auxiliary.layer=encoder.stages"),
        (["model.freeze=[nothing]"], "model.freeze"),
        (["loss=[{name: dice, class_weights: [1, 2]}]"], "class_weights has 2 numbers"),
        (["train.batch=auto", "model.variant=b1"], "these look like b0 weights"),
        (["train.batch=auto", "model.freeze=[nothing]"], "model.freeze"),
        (["train.accumulate=auto", "model.auxiliary={layer: encoder.stages.9}"], "model.auxiliary.layer"),
        (["train.accumulate=auto", "train.steps=1 epochs", "schedule.warmup=9"], "schedule.warmup=5%"),
        (["optimizer.name=adamww"], "adamww"),
        (["train.batch=auto", "loss=[{name: dice, class_weights: [1, 2]}]"], "class_weights has 2 numbers"),
        (["train.batch=6", "train.accumulate=4"], "train.batch=8"),
        (["train.batch=1", "model.encoder=resnet18", "model.arch=deeplabv3"], "Type train.batch=2"),
        (
            ["train.batch=1", "keep.top=1", "model.auxiliary={layer: encoder.stages.3}"],
            "model.auxiliary.*Type train.batch=2",
        ),
        (["train.steps=1 epochs", "schedule.warmup=9"], "schedule.warmup=5%"),
        (["distill={teacher: nowhere}"], "distill.teacher: nowhere does not exist"),
        (["data.unlabelled={root: nowhere}"], "data.unlabelled.root: no folder nowhere"),
        (["data.fold=nowhere.txt"], "nowhere.txt"),
        (["data.val=vall"], "vall"),
        (["augment.crop_on=[99]"], "99 is no class.* Type augment.crop_on=rare"),
    ],
)
def test_what_would_stop_a_later_stage_stops_the_command_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], said: str
) -> None:
    assert main(command(tmp_path, *(f"{SECOND}{line}" for line in lines))) == 2
    printed = capsys.readouterr().err
    assert "Stage second: " in printed and f"{SECOND}<key>=<value>" in printed
    assert re.search(said, printed, re.DOTALL), printed
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_finds_it_too_and_what_is_said_is_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{SECOND}train.steps=2 epochs", f"{SECOND}schedule.warmup=9", "--dry-run"]
    assert main(command(tmp_path, *lines)) == 2
    [typed] = re.findall(r"Type (schedule\.warmup=\S+)", capsys.readouterr().err)
    assert main(command(tmp_path, *lines, f"{SECOND}{typed}")) == 0
    assert not (tmp_path / "runs").exists()


CHAIN = """
stages:
  - {name: first, train.steps: 2}
  - {name: second, model.weights: WEIGHTS, distill.teacher: TEACHER, train.steps: 2}
"""


def test_a_stage_may_learn_from_an_earlier_one_that_is_not_trained_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = str(tmp_path / "runs/two/first")
    text = CHAIN.replace("WEIGHTS", first).replace("TEACHER", first)
    assert main(command(tmp_path, "--dry-run", text=text)) == 0
    assert "second: timed without its teacher" in capsys.readouterr().out
    no_teacher = [*command(tmp_path, text=text), f"{SECOND}distill.teacher={tmp_path / 'runs/two/second'}"]
    assert main(no_teacher) == 2
    assert "Stage second: distill.teacher: " in capsys.readouterr().err


FILE = "step-0000002.safetensors"


def checked(folder: Path, weights: str, teacher: str, *more: str) -> None:
    """Check the stages of CHAIN, the second of which names files of the first."""
    text = CHAIN.replace("WEIGHTS", weights).replace("TEACHER", teacher)
    recipe, *overrides = command(folder, *more, text=text)
    check_stages(load_stages(recipe, overrides), Process(0, 1, torch.device("cpu")))


@pytest.mark.parametrize(
    ("weights", "teacher"),
    [
        (f"first/top/{FILE}", f"first/top/{FILE}"),
        ("first/tail/step-0000002-width-0.1.safetensors", f"first/tail/{FILE}"),
        ("first/last/state.safetensors", "."),
    ],
)
def test_a_stage_may_name_a_file_that_an_earlier_one_will_save(
    tmp_path: Path, weights: str, teacher: str
) -> None:
    parent = tmp_path / "runs/two"
    checked(tmp_path, str(parent / weights), str(parent / teacher))
    with pytest.raises(ModelError, match=f"Stage second: .*{weights} fills 0.0% of the encoder"):
        checked(tmp_path, str(parent / weights), str(parent / teacher), f"{SECOND}model.encoder=resnet18")


@pytest.mark.parametrize("file", [f"top/{FILE}", f"second/top/{FILE}", "first/last/state.safetensors"])
def test_a_file_that_no_earlier_stage_will_save_is_not_a_teacher(tmp_path: Path, file: str) -> None:
    parent = tmp_path / "runs/two"
    with pytest.raises(RecipeError, match="Stage second: distill.teacher: "):
        checked(tmp_path, str(parent / "first"), str(parent / file))


@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_wrong_with_the_data_is_said_by_one_process(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the split of the training is scored, too."""
    monkeypatch.setattr("engine.training.stages.train", lambda *_, **__: None)
    monkeypatch.setattr("engine.training.stages.write_report", lambda *_: None)
    monkeypatch.setattr("engine.training.stages.read_runs", lambda *_: None)
    monkeypatch.setattr("engine.training.stages._table", lambda *_: "")
    recipe, *overrides = command(tmp_path, "data.val=train")
    console = Console(file=io.StringIO())
    with console.capture() as said:
        train_stages(load_stages(recipe, overrides), Process(rank, 1, torch.device("cpu")), console)
    assert ("both trained on and scored" in said.get()) == (rank == 0)


@pytest.mark.parametrize(
    ("finished", "rank", "printed"),
    [(True, 0, ""), (False, 0, "second: timed without its teacher"), (False, 1, "")],
)
def test_a_dry_run_says_once_that_a_teacher_is_not_trained_yet(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished: bool,
    rank: int,
    printed: str,
) -> None:
    first, timed, console = tmp_path / "runs/two/first", list[Recipe](), Console(file=io.StringIO())
    if finished:
        shutil.copytree(trained / "runs/two/first", first)
    monkeypatch.setattr("engine.training.stages.dry_run", lambda recipe, *_: timed.append(recipe))
    text = CHAIN.replace("WEIGHTS", str(first)).replace("TEACHER", str(first))
    recipe, *overrides = command(tmp_path, text=text)
    with console.capture() as said:
        dry_run_stages(load_stages(recipe, overrides), Process(rank, 1, torch.device("cpu")), console)
    assert said.get().startswith(printed) and bool(said.get()) == bool(printed)
    assert [bool(recipe.distill) for recipe in timed] == [False, finished]
    assert (timed[1].model.weights == str(first)) == finished


@pytest.mark.parametrize(
    ("of_the_file", "of_the_stage", "weights", "from_scratch"),
    [
        ("from_scratch: true", "train.steps: 1", "checkpoints/two/first", False),
        ("from_scratch: false, weights: a.pth", "train.steps: 1", "checkpoints/two/first", False),
        ("from_scratch: true", "model.weights: b.pth", "b.pth", False),
        ("from_scratch: false, weights: a.pth", "model.weights: b.pth", "b.pth", False),
        ("from_scratch: false, weights: a.pth", "model.from_scratch: true", None, True),
        ("from_scratch: false, weights: a.pth", "model: {from_scratch: true}", None, True),
        ("from_scratch: true", "model.from_scratch: false", "checkpoints/two/first", False),
        ("weights: a.pth", "model.from_scratch: false", "a.pth", False),
        ("from_scratch: false, weights: a.pth", "model: {from_scratch: false}", "a.pth", False),
    ],
)
def test_a_stage_starts_from_what_it_says_instead(
    tmp_path: Path, of_the_file: str, of_the_stage: str, weights: str | None, from_scratch: bool
) -> None:
    stages = f"stages: [{{name: first}}, {{name: second, {of_the_stage}}}]"
    path = write(tmp_path, f"model: {{{of_the_file}}}\n{stages}")
    second = load_recipe(path, ["stage=second"], trains=True).model
    assert (second.weights, second.from_scratch) == (weights, from_scratch)


def test_the_first_stage_may_name_its_start(tmp_path: Path) -> None:
    for of_the_file, of_the_stage, expected in (
        ("from_scratch: true", "model.weights: b.pth", ("b.pth", False)),
        ("from_scratch: false, weights: a.pth", "model.from_scratch: true", (None, True)),
        ("from_scratch: true", "model.weights: null", (None, True)),
    ):
        path = write(tmp_path, f"model: {{{of_the_file}}}\nstages: [{{name: first, {of_the_stage}}}]")
        first = load_recipe(path, ["stage=first"], trains=True).model
        assert (first.weights, first.from_scratch) == expected


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("stages: 3", [], "expected a list of sections"),
        ("stages: []", [], "expected a list of sections"),
        ("stages: [{train.steps: 3}]", [], r"stages.0 .*two.yaml:2.*expected a section with a name"),
        ("stages: [{name: a}, {name: a}]", [], r"stages.1.name .*a is the name of another stage"),
        ("stages: [{name: a}, {name: A}]", [], r"stages.1.name .*A is the name of another stage"),
        ("stages: [{name: 7}]", [], r"stages.0.name .*expected text, got 7; .* name: '7'"),
        ("stages: [{name: ../a}]", [], "name .*expected a folder name"),
        ("stages: [{name: a, base: demo}]", [], "stages.0.base .*a stage cannot change this"),
        ("stages: [{name: a, train.stepps: 3}]", [], r"train.stepps .*two.yaml:2.*did you mean.*steps"),
        ("stages: [{name: a, tran: {steps: 3}}]", [], "tran .*two.yaml:2"),
        (STAGES, ["stage=third"], "no such stage. Its stages: first, second"),
        (STAGES, ["train.steps=3"], "every stage sets train.steps itself; type stages.first.train.steps=3"),
        (STAGES, ["stages.third.train.steps=3"], "stages is a list; its places are: first, second"),
        ("", ["stage=first"], "has no stages; leave this out"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?is){message}"):
        load_stages(write(tmp_path, text), overrides)


def test_a_command_for_one_recipe_asks_for_a_stage_and_takes_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has the stages first, second. For one of them add stage=first"):
        load_recipe(write(tmp_path))
    recipe = load_recipe(write(tmp_path), ["stage=second", "name=mine"])
    assert (recipe.name, recipe.output.dir, recipe.train.steps) == ("second", "checkpoints/mine", 4)
    assert recipe.model.weights == "checkpoints/mine/first"


def test_one_run_is_not_continued_by_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path, "--continue-from", str(tmp_path / "x"), "stages.first.train.steps=2")) == 2
    assert "add stage=<name>" in capsys.readouterr().err


@pytest.mark.parametrize(
    "stages",
    [[{"name": "../x", "values": {}}], [{"name": "first"}], [[]], [{"name": "first", "values": 1}], 1],
)
def test_a_damaged_list_is_named_and_names_in_it_leave_no_folder(
    trained: Path, tmp_path: Path, stages: object, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = shutil.copytree(trained / "runs/two", tmp_path / "runs/two")
    (parent / "stages.json").write_text(json.dumps({"stages": stages}))
    with pytest.raises(ValueError, match="is damaged. Put the intact file back, or name one stage"):
        load(parent)
    assert main(command(tmp_path, "--resume")) == 2
    assert f"{parent / 'stages.json'} is damaged" in capsys.readouterr().err
