"""`trident ensemble` on finished runs, from its command line to ensemble.json."""

import errno
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import trident
from engine.compare import main as compare_main
from engine.ensemble import main
from engine.run import main as run_main
from engine.run_folder import EnsembleFolder, RunFolder
from engine.scoring.ensembles.early_exit import Seen
from engine.scoring.ensembles.selection import SelectionData
from engine.scoring.trained import open_trained
from tests.engine.tiny_run import tiny

SMALLER = ["data.synthetic.val_samples=4", "train.steps=4", "log.images=0"]


def train(folder: Path, name: str, *more: str) -> None:
    assert run_main(tiny(folder, name, *SMALLER, *more)) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on one data set, one of them an SMP architecture, and one run on other scenes."""
    folder = tmp_path_factory.mktemp("runs")
    tail = ["keep.tail=2", "keep.tail_every=1", "train.ema_widths=[0.05,0.1]"]
    train(folder / "same", "segformer", *tail)
    train(folder / "same", "unet", "model.arch=unet", "model.encoder=resnet18", "seed=1")
    train(folder / "other", "more", "data.synthetic.val_samples=5")
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def test_the_best_of_all_runs_are_ensembled_across_architectures(runs: Path) -> None:
    kept = {
        (name, member.step): member.scores["mIoU"]
        for name in ("segformer", "unet")
        for member in RunFolder(runs / "same" / name).read_manifest().members
    }
    assert main([str(runs / "same"), "--top", "4"]) == 0
    printed = json.loads((runs / "same/ensemble.json").read_text())
    assert len(printed["members"]) == len(kept) == 4
    for member in printed["members"]:
        assert (runs / "same" / member["path"]).is_file()
        assert member["mIoU"] == pytest.approx(kept[member["run"], member["step"]], abs=1e-12)
    scores = [member["mIoU"] for member in printed["members"]]
    assert scores == sorted(scores, reverse=True)
    assert {"mIoU", "mAcc", "aAcc", "IoU"} <= printed["ensembles"]["mean"].keys()
    assert printed["dataset"]["num_images"] == 4
    assert printed["protocol"]["name"] == "native"
    agreement = printed["agreement"]
    assert agreement.keys() == printed["ensembles"]["mean"]["IoU"].keys()
    shares = [one for one in agreement.values() if one["agree"] is not None]
    assert shares and all(0 <= one["right"] <= one["agree"] <= 1 for one in shares)


def test_a_copy_of_a_run_does_not_count_twice(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(runs / "same/unet", runs / "same/copy"))
    assert main([str(runs / "same/unet"), str(copy)]) == 0
    members = json.loads((runs / "same/ensemble.json").read_text())["members"]
    assert len({m["step"] for m in members}) == len(members) == 2
    assert "left out: 2 checkpoints with the same content" in capsys.readouterr().out


def test_of_several_runs_the_best_checkpoint_of_each_is_taken(runs: Path) -> None:
    names = ("segformer", "unet")
    bests = {
        name: max(m.scores["mIoU"] for m in RunFolder(runs / "same" / name).read_manifest().members)
        for name in names
    }
    assert main([str(runs / "same"), "--per-run", "1"]) == 0
    members = json.loads((runs / "same/ensemble.json").read_text())["members"]
    assert {m["run"]: m["mIoU"] for m in members} == pytest.approx(bests, abs=1e-12)
    assert len(members) == 2


def test_all_methods_of_two_architectures_and_the_best_is_saved(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "saved"
    asked = ["--method", "all", "--split-half", "--repeats", "2", "--top", "4", "--save", str(saved)]
    assert main([str(runs / "same"), *asked]) == 0
    printed = json.loads((runs / "same/ensemble.json").read_text())
    methods = ["mean", "mean_logit", "weighted", "class_weighted", "greedy", "greedy_diverse", "temperature"]
    soups = ["soup_uniform", "soup_greedy", "lawa", "swa", "ema_post_hoc"]
    assert list(printed["ensembles"]) == [*methods, *soups]
    for entry in printed["ensembles"].values():
        assert entry["gain"]["low"] is entry["gain"]["high"] is None  # of few images
        assert entry["images_per_second"] > 0
        assert 1 <= entry["cost"] <= 4
    selection = printed["selection"]
    assert (selection["split"], selection["same_images"], selection["repeats"]) == ("val", True, 2)
    assert selection["honest"].keys() == selection["flattering"].keys() == printed["ensembles"].keys()
    assert selection["flattering"]["mean"]["mIoU"] == printed["ensembles"]["mean"]["mIoU"]

    accepted = [name for name, entry in printed["ensembles"].items() if entry["accepted"]]
    winner = max(accepted, key=lambda name: selection["honest"][name]["mIoU"])
    manifest = EnsembleFolder(saved).read_manifest()
    assert manifest.method == winner
    assert manifest.scores["mIoU"] == printed["ensembles"][winner]["mIoU"]
    assert len(open_trained(saved, torch.device("cpu")).members) == printed["ensembles"][winner]["cost"]
    out = capsys.readouterr().out
    assert "honest mIoU" in out and "optimistic mIoU" in out
    assert f"saved: {saved} ({winner}: the best of 12 methods" in out


def test_choosing_on_the_reported_images_gives_a_clear_warning(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(runs / "same"), "--top", "2", "--method", "greedy,mean"]) == 0
    assert (
        "SELECTED AND SCORED ON THE SAME 4 images of val: THESE SCORES ARE OPTIMISTIC"
        in capsys.readouterr().out
    )
    printed = json.loads((runs / "same/ensemble.json").read_text())
    assert printed["selection"]["same_images"] and printed["selection"]["honest"] is None
    assert list(printed["ensembles"]) == ["mean", "greedy"]


def test_the_latest_states_can_be_members_of_any_method(runs: Path) -> None:
    run = runs / "same/segformer"
    assert main([str(run), "--latest", "--method", "mean,greedy_diverse,swa"]) == 0
    written = json.loads((run / "ensemble.json").read_text())
    assert sorted(member["step"] for member in written["members"]) == [2, 3, 4]
    assert written["ensembles"]["mean"]["cost"] == 3 and written["latest_states"] == []
    steps = [written["members"][number]["step"] for number in written["ensembles"]["swa"]["soup"]]
    assert steps in ([], [3, 4])


def test_without_latest_states_their_methods_are_refused_with_a_remedy(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(runs / "other"), "--method"]
    assert main([*command, "lawa,swa"]) == 2
    said = capsys.readouterr().err
    assert "Train with keep.tail=8" in said
    assert main([str(runs / "other"), "--latest"]) == 2
    assert "keep.tail=8, or leave it out" in capsys.readouterr().err
    assert main([*command, said.split("--method ")[-1].strip()]) == 0
    assert main([*command, "ema_post_hoc"]) == 2
    assert "Train with keep.tail=8 'train.ema_widths=[0.05,0.1]'" in capsys.readouterr().err


def test_the_latest_states_are_averaged_where_one_checkpoint_is_the_only_member(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, saved = runs / "same/segformer", tmp_path / "saved"
    assert main([str(run), "--top", "1", "--method", "swa", "--save", str(saved)]) == 0
    written = json.loads((run / "ensemble.json").read_text())
    entry = written["ensembles"]["swa"]
    assert len(written["members"]) == entry["cost"] == 1
    assert "tail/step-0000003.safetensors" in written["latest_states"]
    assert ("weights of step 3, step 4" in entry["note"]) == entry["accepted"] == (len(entry["soup"]) == 2)
    assert len(open_trained(saved, torch.device("cpu")).members) == 1


def test_an_average_of_any_tracked_width_is_chosen_and_saved(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rejected where a member is better, as random weights may be: here none is."""
    run, saved = runs / "same/segformer", tmp_path / "saved"
    monkeypatch.setattr(SelectionData, "mIoU", lambda self, member: 0.0)
    asked = ["--top", "1", "--method", "ema_post_hoc", "--save", str(saved)]
    assert main([str(run), *asked]) == 0
    written = json.loads((run / "ensemble.json").read_text())
    entry = written["ensembles"]["ema_post_hoc"]
    assert (entry["cost"], entry["accepted"]) == (1, True)
    [number] = entry["soup"]
    chosen = written["averages"][number - len(written["members"]) - len(written["latest_states"])]
    assert entry["note"].startswith(f"weights of step 4 width {chosen['width']:g}; mIoU step 4 width ")
    [model] = open_trained(saved, torch.device("cpu")).members.values()
    parts = {name: (load_file(run / name), factor) for name, factor in chosen["factors"].items()}
    assert sum(factor for _, factor in parts.values()) == pytest.approx(1)
    found = model.state_dict()
    by_hand = {key: sum(factor * part[key].double() for part, factor in parts.values()) for key in found}
    for key, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), by_hand[key], rtol=1e-5, atol=1e-7)
    assert trident.evaluate(saved).mIoU == pytest.approx(entry["mIoU"], abs=1e-12)


def test_an_early_exit_is_chosen_saved_and_scored_as_it_was(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "saved"
    asked = ["--early-exit", "0.9", "--save", str(saved)]  # so much may be lost: all images exit
    assert main([str(runs / "same"), *asked]) == 0
    written = json.loads((runs / "same/ensemble.json").read_text())
    found = written["early_exit"]
    [decides] = [one for one in written["members"] if f"{one['run']} step {one['step']}" == found["member"]]
    assert found["same_images"] and found["chosen"]["share"] == found["chosen"]["cost"] == 1
    assert found["chosen"]["mIoU"] == pytest.approx(decides["mIoU"], abs=1e-12)
    curve = found["curve"]
    assert len({point["certainty"] for point in curve}) == len(curve)  # no share twice, of four images
    assert curve[0]["mIoU"] == pytest.approx(written["ensembles"]["mean"]["mIoU"], abs=1e-12)
    assert (curve[0]["certainty"], curve[0]["cost"], curve[-1]["cost"]) == (None, 3, 1)
    assert curve[-1]["mIoU"] == found["chosen"]["mIoU"]
    again = trident.evaluate(saved)
    assert again.mIoU == pytest.approx(found["chosen"]["mIoU"], abs=1e-12)
    assert EnsembleFolder(saved).read_manifest().scores["mIoU"] == again.mIoU
    assert f"saved: {saved} (mean with early exit: mIoU {again.mIoU:.4f} on val" in capsys.readouterr().out
    picture = runs / "same/ensemble.png"
    assert Image.open(picture).format == "PNG"
    of_exit = picture.read_bytes()
    assert main([str(runs / "same"), "--top", "2"]) == 0
    assert picture.read_bytes() != of_exit  # it shows what ensemble.json holds now


def test_where_some_images_exit_every_command_agrees_on_score_and_cost(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def for_half(seen: Seen, tolerance: float) -> float:
        return float(np.median(seen.certainty))

    monkeypatch.setattr("engine.scoring.ensembles.early_exit.least_certainty", for_half)
    saved, plain, found = tmp_path / "saved", tmp_path / "plain", tmp_path / "found"
    assert main([str(runs / "same"), "--save", str(plain)]) == 0
    assert main([str(runs / "same"), "--early-exit", "0.001", "--save", str(saved)]) == 0
    exiting = json.loads((runs / "same/ensemble.json").read_text())["early_exit"]
    chosen = exiting["chosen"]
    assert (chosen["share"], chosen["cost"]) == (0.5, 2)  # two of four images, three members
    # from the counts of its images, and as the ensemble counts them
    assert EnsembleFolder(saved).read_manifest().scores["mIoU"] == pytest.approx(chosen["mIoU"], abs=1e-12)
    assert trident.evaluate(saved).mIoU == pytest.approx(chosen["mIoU"], abs=1e-12)
    assert compare_main([str(plain), str(saved), "--out", str(found)]) == 0
    assert "images/s is timed on 2 of them" in " ".join(capsys.readouterr().out.split())
    whole, quick = json.loads((found / "contestants.json").read_text())["contestants"].values()
    assert (whole["forward_passes"], quick["forward_passes"]) == (3, 2)
    assert quick["mIoU"] == pytest.approx(chosen["mIoU"], abs=1e-12)
    assert quick["to_first"]["value"] == pytest.approx(exiting["to_whole"]["value"], abs=1e-12)


def test_an_early_exit_needs_several_members(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(runs / "same/segformer"), "--method", "swa", "--early-exit", "0.001"]
    assert main(command) == 0
    assert "swa runs one model, so there is none to leave out" in capsys.readouterr().out
    assert "early_exit" not in json.loads((runs / "same/segformer/ensemble.json").read_text())


def test_several_groups_are_listed_with_a_command_each(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(runs)]) == 2
    printed = capsys.readouterr().err
    commands = [
        line.split("trident ensemble ")[1].split()
        for line in printed.splitlines()
        if "trident ensemble " in line
    ]
    assert sorted(map(len, commands)) == [1, 2]
    assert not (runs / "ensemble.json").exists()
    of_the_runs = {path: path.read_bytes() for path in (runs / "same").glob("*/ensemble.json")}
    assert len(of_the_runs) == 2
    for folders in commands:
        assert main(folders) == 0
    assert (runs / "same/ensemble.json").exists()  # in the common parent, not in a run's folder
    assert {path: path.read_bytes() for path in of_the_runs} == of_the_runs


def test_overrides_change_the_protocol_for_all(runs: Path) -> None:
    assert main([str(runs / "other"), "eval.flip=true", "eval.scales=[0.5, 1.0]"]) == 0
    protocol = json.loads((runs / "other/ensemble.json").read_text())["protocol"]
    assert (protocol["flip"], protocol["scales"]) == (True, [0.5, 1.0])


@pytest.mark.parametrize(
    "arguments",
    [
        ["data.select=null"],
        ["data.select=a", "data.select=null"],
        ["--distill", "{tmp}/out", "data.select=held"],
    ],
)
def test_halves_of_val_go_with_no_selection_split_and_with_that_of_a_student(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first mistake that is found is that there are no runs."""
    folder = tmp_path / "nowhere"
    assert main([str(folder), "--split-half", *(text.format(tmp=tmp_path) for text in arguments)]) == 2
    assert f"No folder {folder}." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["."], "No run in"),
        (["{runs}/other", "--top", "0"], "--top"),
        (["{runs}/other", "--per-run", "0"], "--per-run 0: at least 1"),
        (["{runs}/other", "--per-run", "1", "--save", "{runs}/saved"], "raise --top or --per-run"),
        (["{runs}/other", "eval.flipp=true"], "did you mean flip"),
        (["{runs}/other", "data.synthetic.seed=9"], "not those"),
        (["eval.flip=true"], "No folder was named"),
        (["{runs}/other", "model.variant=b1"], "cannot be changed"),
        (["{runs}/other", "--method", "gredy"], "Did you mean greedy?"),
        (["{runs}/other", "--method", "mean,"], "--method "),
        (["{runs}/other", "--top", "1", "--method", "all"], "nothing to combine"),
        (["{runs}/other", "--top", "1", "--save", "{runs}/saved"], "nothing to combine"),
        (
            ["{runs}/other", "--select-split", "train"],
            "8 of 8 images of split 'train' are among those",
        ),
        (["{runs}/other", "--select-split", "test"], "no split 'test'"),
        (["{runs}/other", "--select-split", "a", "--split-half"], "leave one out"),
        (["{runs}/other", "data.select=a", "--split-half"], "data.select=a and --split-half exclude"),
        (["{runs}/other", "data.select=a", "--select-split", "b"], "name the same: leave one out"),
        (["{runs}/other", "data.select=a", "data.select=test"], "no split 'test'"),
        (["{runs}/other", "--split-half", "--repeats", "0"], "--repeats 0"),
        (["{runs}/other", "--repeats", "3"], "--split-half: add that"),
        (["{runs}/other", "--select-split", ""], "--select-split is empty"),
        (["{runs}/other", "--save", "{runs}/new", "--distill", "{runs}/new"], "leave --save out"),
        (["{runs}/other", "--save", "/dev/null"], "/dev/null is a file. Name a folder"),
        (["{runs}/other/more/recipe.yaml"], "is a file. Name the folder of a run, such as"),
        (["{runs}/other", "--early-exit", "2"], "--early-exit 2: a loss of mIoU, such as 0.001"),
        (["{runs}/other", "--early-exit", "0.1", "--split-half"], "leave --split-half out"),
        (["{runs}/other", "--save", "{runs}/other"], "is there already and is not empty"),
        (["{runs}/other", "--save", "{runs}/other/more/recipe.yaml/saved"], "recipe.yaml is a file"),
    ],
)
def test_wrong_input_is_exit_2(
    runs: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(runs.parent)
    (runs.parent / "empty").mkdir()
    if arguments == ["."]:
        monkeypatch.chdir(runs.parent / "empty")
    assert main([text.format(runs=runs) for text in arguments]) == 2
    printed = capsys.readouterr().err
    assert message.format(runs=runs) in printed
    assert "Traceback" not in printed
    assert not (runs / "other/ensemble.json").exists()


def test_runs_in_a_folder_that_takes_no_files_are_refused_before_scoring_with_what_can_be_done(
    voc_run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = voc_run("run", 1, 2)

    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # root may write everywhere
    assert main([str(run)]) == 2
    printed = capsys.readouterr().err
    assert f"{run / 'ensemble.json'}: Permission denied. Allow this user to write there" in printed
    assert "another folder" not in printed


@pytest.mark.parametrize(
    ("method", "pattern"), [("lawa", "tail/step-???????.safetensors"), ("ema_post_hoc", "tail/*-width-0.1.*")]
)
def test_a_latest_state_that_was_altered_is_named_before_anything_is_scored(
    runs: Path, method: str, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = min((runs / "same/segformer").glob(pattern))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert main([str(runs / "same/segformer"), "--method", method]) == 2
    said = capsys.readouterr()
    assert f"{file} was altered" in said.err and "found 1 run" not in said.out
    assert main([str(runs / "same/segformer"), "--top", "1"]) == 0  # which does not use it


def test_an_altered_checkpoint_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = next((runs / "other/more/top").glob("*.safetensors"))
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)
    assert main([str(runs / "other")]) == 2
    assert "SHA-256" in capsys.readouterr().err


def test_a_checkpoint_of_other_classes_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(runs / "other/more")
    manifest = run.read_manifest()
    names, palette = [*manifest.class_names, "whale"], [*manifest.palette, (1, 2, 3)]
    run.write_manifest(manifest.model_copy(update={"class_names": names, "palette": palette}))
    assert main([str(runs / "other")]) == 2
    assert "whale" in capsys.readouterr().err
