"""`trident run` from its command line to its run folder, on drawn scenes of 32 px."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.recipe import load_recipe
from engine.run import main
from engine.run_folder import RunFolder, sha256_of
from engine.scoring.confusion import Scores
from models.segformer import SegFormer
from tests.engine.tiny_run import ADVERSARIAL, RECIPE, ROOT, TINY, tiny
from tests.engine.two_processes import run_two


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished adversarial run with a moving average."""
    folder = tmp_path_factory.mktemp("checkpoints")
    watched = ["log.features=1", "log.gradients=2", "log.to=[tensorboard]"]
    assert main(tiny(folder, "whole", *ADVERSARIAL, "train.ema=0.9", *watched)) == 0
    return RunFolder(folder / "whole")


def test_a_run_writes_every_file_that_the_readme_lists(run: RunFolder) -> None:
    listed = [
        run.recipe,
        run.manifest,
        run.last_state,
        run.log,
        run.ensemble,
        run.scores,
        run.predictions,
        run.report,
    ]
    assert [path.name for path in listed if not path.is_file()] == []
    assert len(list(run.top.glob("*.safetensors"))) == 3
    assert len(list(run.path.glob("events.out.tfevents.*"))) == 2  # of the training, and its hparams
    assert list(run.path.rglob("*.part")) == []


def test_the_manifest_describes_the_files(run: RunFolder) -> None:
    manifest = run.read_manifest()
    assert manifest.finished
    assert manifest.environment["processes"] == "1" and manifest.environment["device"]
    assert {member.step for member in manifest.members} == {2, 4, 6}
    scores = [member.scores["mIoU"] for member in manifest.members]
    assert scores == sorted(scores, reverse=True)
    for member in manifest.members:
        assert sha256_of(run.path / member.file) == member.sha256


def test_the_saved_recipe_is_the_run_that_was_made(run: RunFolder) -> None:
    recipe = load_recipe(run.recipe)
    assert recipe.train.steps == 6
    assert recipe.adversarial is not None
    assert recipe.adversarial.start == 2


def test_the_log_has_a_line_for_each_log_step_and_evaluation(run: RunFolder) -> None:
    rows = [row for row in map(json.loads, run.log.read_text().splitlines()) if row["split"] != "note"]
    assert [(row["step"], row["split"]) for row in rows] == [
        (step, split) for step in (2, 4, 6) for split in ("train", "val")
    ]
    train, val = rows[2], rows[3]
    assert train["loss"] == pytest.approx(
        train["decode.loss_ce"] + train["decode.loss_dice"]
    )  # the adversarial term has its own tag
    assert {
        "adv/g_loss",
        "adv/d_loss",
        "adv/weight",
        "lr",
        "base_lr",
        "time",
        "data_time",
        "memory",
    } <= train.keys()
    assert "adv/g_loss" not in rows[0]  # it starts at update 2
    assert set(val["IoU"]) == set(run.read_manifest().class_names)


def test_tensorboard_has_the_documented_tags(run: RunFolder) -> None:
    events = EventAccumulator(str(run.path))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    wanted = {"loss", "decode.loss_ce", "decode.loss_dice", "decode.acc_seg", "lr", "base_lr"}
    wanted |= {"time", "data_time", "memory"}
    assert {f"train/{name}" for name in wanted} <= scalars
    assert {"val/mIoU", "val/mAcc", "val/aAcc", "val/loss", "val/IoU/background", "adv/d_loss"} <= scalars
    assert {"lr/encoder", "lr/encoder.no_decay", "lr/head", "lr/head.no_decay"} <= scalars
    blocks = {"encoder.stages.0.embed", "encoder.stages.2.blocks.1", "head"}
    assert {f"gradients/{what}/{block}" for what in ("norm", "update") for block in blocks} <= scalars
    assert {"gradients/total_norm", "hparam/best_mIoU", "hparam/ensemble_mIoU"} <= scalars
    maps = {f"features/encoder.{stage}" for stage in range(4)}
    assert set(events.Tags()["images"]) == {"val/predictions", *maps}
    assert events.Tags()["histograms"] == ["data/labels"]
    assert "val/PR/background" in events.Tags()["tensors"]
    assert events.Tags()["graph"]
    plugins = events.SummaryMetadata
    assert plugins("val/PR/background").plugin_data.plugin_name == "pr_curves"
    assert plugins("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"


def test_the_same_pictures_and_maps_are_written_at_each_evaluation(run: RunFolder) -> None:
    events = EventAccumulator(str(run.path), size_guidance={"images": 0})
    events.Reload()
    for tag in ("val/predictions", "features/encoder.1"):
        pictures = events.Images(tag)
        assert [picture.step for picture in pictures] == [2, 4, 6]
        assert len({(picture.width, picture.height) for picture in pictures}) == 1
    maps = events.Images("features/encoder.1")
    assert len({picture.encoded_image_string for picture in maps}) == 3  # since the model has changed


def test_the_histogram_counts_the_labels_of_a_batch(run: RunFolder) -> None:
    events = EventAccumulator(str(run.path))
    events.Reload()
    for event in events.Histograms("data/labels"):
        histogram = event.histogram_value
        assert histogram.bucket_limit == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
        assert 0 < sum(histogram.bucket) == histogram.num <= 4 * 32 * 32
        assert histogram.bucket[0] > max(histogram.bucket[1:])  # most of a scene is background


def test_scores_h5_adds_up_to_ensemble_json(run: RunFolder) -> None:
    printed = json.loads(run.ensemble.read_text())
    manifest = run.read_manifest()
    with h5py.File(run.scores) as file:
        assert len(file["ids"]) == 5
        summed = {name: counts[:].sum(axis=0) for name, counts in file["confusion"].items()}
    assert set(summed) == {"mean", *(f"step {member.step}" for member in manifest.members)}
    for step, numbers in [(m["step"], m) for m in printed["members"]] + [
        (None, printed["ensembles"]["mean"])
    ]:
        matrix = summed["mean" if step is None else f"step {step}"]
        assert Scores.of(np.asarray(matrix), tuple(manifest.class_names)).mIoU == pytest.approx(
            numbers["mIoU"]
        )
    # where all members are right: within the bounds of Fréchet for the recall of each
    recalls = [np.diag(m) / m.sum(axis=1) for name, m in summed.items() if name != "mean"]
    for recall, shares in zip(np.transpose(recalls), printed["agreement"].values(), strict=True):
        least = max(0.0, sum(recall) - len(recall) + 1)
        assert least - 1e-9 <= shares["right"] <= min(recall) + 1e-9 and shares["right"] <= shares["agree"]


def test_a_members_final_score_equals_the_score_that_kept_it(run: RunFolder) -> None:
    kept = {member.step: member.scores["mIoU"] for member in run.read_manifest().members}
    printed = {member["step"]: member["mIoU"] for member in json.loads(run.ensemble.read_text())["members"]}
    assert printed == pytest.approx(kept, abs=1e-12)


def test_an_existing_run_is_never_overwritten(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert main(tiny(run.path.parent, "whole")) == 2
    assert "--resume" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_dry_run_prints_the_cost_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*tiny(tmp_path, "dry", *ADVERSARIAL), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for what in ("parameters", "memory", "an update", "the whole run", "disk"):
        assert what in printed
    spread = re.search(r"its spread\W+([\d.]+) to ([\d.]+) s, 6 updates after a warm-up", printed)
    assert spread and float(spread[1]) <= float(spread[2])
    assert list(tmp_path.iterdir()) == []


def test_explain_shows_each_value_as_it_is_typed_and_where_it_comes_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([RECIPE, "log.to=[csv]", "optimizer.lr=3e-3", "--explain"]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    values = {row[1].strip(): [cell.strip() for cell in row[2:-1]] for row in rows if len(row) > 4}
    assert values["log.to"] == ["[csv]", "override log.to=[csv]"]
    assert values["optimizer.lr"] == ["0.003", "override optimizer.lr=3e-3"]
    assert (values["data.select"], values["model.from_scratch"][0]) == (["null", "default"], "true")
    assert values["augment.crop"][1].startswith("recipes/demo.yaml:")


def test_only_the_recipe_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "recipe" in error and "key.path" not in error


def test_explain_lists_the_groups_of_the_optimiser_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(ROOT / "recipes/b0_ce_dice.yaml")
    assert main([recipe, "data.root=nowhere", "optimizer.layer_decay=0.5", "--explain"]) == 0
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    groups = [row for row in rows if row and row[0] in ("encoder,", "head")]
    assert len(groups) == 18
    assert ["encoder,", "depth", "1", "6", "795,648", "3e-05", "0.5", "0.01"] in groups
    assert [row[-1] for row in groups].count("0") == 9
    total = sum(int(row[-4].replace(",", "")) for row in groups)
    assert total == sum(p.numel() for p in SegFormer("b0").parameters())


def test_explain_shows_patterns_and_frozen_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["model.freeze=encoder", "optimizer.groups={'head.classifier': {lr_mult: 3}}"]
    assert main([RECIPE, *overrides, "--explain"]) == 0
    printed = capsys.readouterr().out
    rows = [line.replace("│", " ").split() for line in printed.splitlines()]
    assert ["head,", "head.classifier", "1", "1,536", "0.006", "3", "0.01"] in rows
    assert not [row for row in rows if row and row[0] in ("encoder", "encoder,")]
    encoder = sum(p.numel() for p in SegFormer("b0").encoder.parameters())
    assert f"{encoder:,}" in printed


def test_explain_lists_the_auxiliary_head_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["model.auxiliary={layer: encoder.stages.2, channels: 8}"]
    assert main([RECIPE, *overrides, "optimizer.groups={'auxiliary.*': {lr_mult: 2}}", "--explain"]) == 0
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    num_weights = f"{8 * 160 * 9 + 8 * 6:,}"  # of the 3x3 convolution of 160 channels, and of 6 classes
    assert ["head,", "auxiliary.*", "2", num_weights, "0.004", "2", "0.01"] in rows


def test_a_frozen_encoder_is_trained_from_the_first_line_to_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny(
        tmp_path, "frozen", "model.freeze=encoder", "optimizer.name=lion", "optimizer.betas=[0.9,0.95]"
    )
    assert main(recipe) == 0
    printed = capsys.readouterr().out
    assert "parameters are frozen" in printed and "ensemble (mean) ┃" in printed
    first, last = (load_file(path) for path in sorted((tmp_path / "frozen/top").iterdir())[:2])
    same = {key for key, value in first.items() if torch.equal(value, last[key])}
    assert {key for key in first if key.startswith("encoder.")} <= same < set(first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml"], "nothing.yaml"),
        ([RECIPE, "optimiser.lr=1", "train.bacth=2"], "2 mistakes"),
        ([RECIPE, "train.bacth=2"], "did you mean batch?"),
        ([str(ROOT / "recipes/b2_ce.yaml"), "data.root=/nowhere"], "/nowhere"),
        ([RECIPE, "model.from_scratch=false"], "model.from_scratch=true"),
        ([RECIPE, "train.accumulate=3"], "train.batch"),
        ([RECIPE, "data.resident=gpu"], "data.resident"),
        ([RECIPE, "log.to=[tensorbord]"], "tensorboard"),
        ([RECIPE, "log.to=[tensorbord]", "--dry-run"], "tensorboard"),
        ([RECIPE, "model.arch=unett", "model.encoder=resnet18"], "unet"),
        ([RECIPE, "loss.0.class_weights=[1, 2]"], "class"),
    ],
)
def test_wrong_input_is_exit_2_and_one_message(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, f"output.dir={tmp_path}"]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


ONE_VALUE = ["model.arch=deeplabv3", "model.encoder=resnet18"]  # its pooled branch is of 1 x 1 px


@pytest.mark.parametrize(
    ("sizes", "typed"),
    [(["train.batch=1"], "train.batch=2"), (["train.batch=4", "train.accumulate=4"], "train.batch=8")],
)
def test_a_batchnorm_of_one_value_a_channel_is_refused_and_what_is_typed_next_works(
    sizes: list[str], typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = [
        argument
        for argument in tiny(tmp_path, "one")
        if "variant" not in argument and "width" not in argument
    ]
    assert main([*recipe, *ONE_VALUE, *sizes]) == 2
    printed = capsys.readouterr().err
    assert f"it needs two. Type {typed}." in printed and "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []
    assert main([*recipe, *ONE_VALUE, *sizes, typed, "--dry-run"]) == 0


@pytest.mark.parametrize("model", [["model.arch=unet", "model.encoder=resnet18", "augment.crop=64"], []])
def test_a_batch_of_one_image_trains_where_maps_are_larger(model: list[str], tmp_path: Path) -> None:
    assert main([*tiny(tmp_path, "one"), *model, "train.batch=1", "--dry-run"]) == 0


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([RECIPE, "data.resident=gpu", f"output.dir={tmp_path}", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_disk_that_is_too_small_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("engine.training.disk_space.shutil.disk_usage", lambda path: usage)
    assert main(tiny(tmp_path, "full")) == 2
    assert "output.dir" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_becomes_nan_or_infinite_fails_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tiny(tmp_path, "nan", "optimizer.lr=1e30")) == 1
    assert "optimizer.clip_norm" in capsys.readouterr().err


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    """Without dropout, the first evaluation of two processes is that of one up to rounding."""
    plain = ["model.drop_path=0", "model.dropout=0", "train.steps=2", "log.to=[tensorboard]"]
    run_two(tiny(tmp_path, "two", *plain))
    assert main(tiny(tmp_path, "one", *plain)) == 0
    rows = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    (train_one, val_one), (train_two, val_two) = rows
    assert train_two["loss"] == pytest.approx(train_one["loss"], rel=1e-4)
    assert val_two["loss"] == pytest.approx(val_one["loss"], rel=1e-3)
    one, two = (load_file(tmp_path / name / "top/step-0000002.safetensors") for name in ("one", "two"))
    for (
        key,
        tensor,
    ) in one.items():  # Adam turns the rounding of a gradient that is nearly 0 into a step of size lr
        off = (two[key].float() - tensor.float()).abs() > 2e-3 + 1e-3 * tensor.float().abs()
        assert off.float().mean() < 1e-4, key


def test_a_val_split_without_labels_is_refused_before_the_training(
    voc_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for id in (voc_folder / "ImageSets/Segmentation/val.txt").read_text().split():
        mask = voc_folder / f"SegmentationClass/{id}.png"
        Image.new("L", Image.open(mask).size, 255).save(mask)
    arguments = [
        str(ROOT / "recipes/b0_ce_dice.yaml"),
        f"data.root={voc_folder}",
        "data.train=train",
        *TINY[3:],
    ]
    arguments += ["model.weights=null", "model.from_scratch=true", f"output.dir={tmp_path}/out"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "all_void" in said and "data.doctor=off" not in said  # which would not help
    assert main([*arguments, "data.doctor=off"]) == 2
    said = capsys.readouterr().err
    assert "Split 'val' has no labelled pixel" in said and not (tmp_path / "out/b0_ce_dice").exists()
    assert main([*arguments, "data.doctor=off", "data.val=train", "data.select=val", "--dry-run"]) == 2
    assert "Split 'val' has no labelled pixel" in capsys.readouterr().err
