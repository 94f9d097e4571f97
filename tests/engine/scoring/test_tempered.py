"""Calibration at a temperature: by hand, and of a saved ensemble on splits of drawn photos."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import engine.data
from engine.evaluate import main
from engine.run_folder import EnsembleFolder, sha256_of
from engine.scoring.segmenter import open_segmenter
from engine.scoring.tempered import Tempering, tempered

CPU, VOID = torch.device("cpu"), 255


def test_counts_by_hand() -> None:
    tempering = Tempering("x", 2.0, "held", 3, VOID, CPU)
    probabilities = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.5, 0.5]]).T.reshape(1, 2, 1, 3)
    labels = torch.tensor([[[0, 1, VOID]]], dtype=torch.uint8)
    tempering(labels, {"x": probabilities})
    found = tempering.result()
    # of 0.8 against 0.2 the square roots are 2 to 1, so the confidence is 2/3; half of the pixels are right
    torch.testing.assert_close(tempered(probabilities, 2.0)[0, 0, 0], torch.tensor([2 / 3, 2 / 3, 0.5]))
    assert found.calibration.ece == pytest.approx(2 / 3 - 1 / 2, abs=1e-6)
    assert found.log_loss == pytest.approx(-(np.log(2 / 3) + np.log(1 / 3)) / 2, abs=1e-6)
    assert (found.temperature, found.split, found.num_images) == (2.0, "held", 3)


@pytest.fixture
def with_held(voc_folder: Path) -> Path:
    """Two images of val are a split of their own, and one of train is in another. val[0] equals train[0]."""
    lists = voc_folder / "ImageSets/Segmentation"
    val, train = ((lists / f"{name}.txt").read_text().split() for name in ("val", "train"))
    texts = {"held": val[1:3], "val": val[::3], "leaks": [val[1], train[1]], "both": [val[1], val[3]]}
    for name, ids in texts.items():
        (lists / f"{name}.txt").write_text("".join(f"{id}\n" for id in ids))
    return voc_folder


def prefer_background(folder: EnsembleFolder) -> None:
    """Most pixels are background: of networks that say so, a temperature within its bounds is the best."""
    manifest = folder.read_manifest()
    members = []
    for member in manifest.members:
        state = load_file(folder.path / member.file)
        state["head.classifier.bias"][0] += 20
        save_file(state, folder.path / member.file)
        members.append(member.model_copy(update={"sha256": sha256_of(folder.path / member.file)}))
    folder.manifest.write_text(manifest.model_copy(update={"members": members}).model_dump_json())


def test_the_temperature_is_the_best_one_on_the_selection_split_alone(
    with_held: Path, voc_ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    prefer_background(EnsembleFolder(voc_ensemble))
    assert main([str(voc_ensemble), "data.select=held", "--out", str(out)]) == 0
    written = json.loads((out / "evaluate.json").read_text())
    after, before = written["tempered"], written["protocols"]["native"]
    assert (after["split"], after["num_images"]) == ("held", 2)
    printed = capsys.readouterr().out
    for number in (before["calibration"]["ece"], after["calibration"]["ece"], after["log_loss"]):
        assert f"{number:.4f}" in printed
    assert after["calibration"]["ece"] != before["calibration"]["ece"]

    segmenter = open_segmenter(voc_ensemble, "cpu")
    data = segmenter.trained.recipe.data
    log_losses = {}
    for split in ("held", "val"):
        dataset = engine.data.open_split(data, split)
        pairs = []
        for sample in (dataset[place] for place in range(len(dataset))):
            p = segmenter.predict(sample.image.permute(1, 2, 0).numpy())[1].double()  # (C, H, W)
            labelled = sample.labels != VOID
            pairs.append((p[:, labelled].T.log(), sample.labels[labelled].long()))
        logits, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        log_losses[split] = lambda t, logits=logits, labels=labels: float(
            torch.nn.functional.cross_entropy(logits / t, labels)
        )
    t = after["temperature"]
    assert log_losses["held"](t) < min(log_losses["held"](t * 0.8), log_losses["held"](t / 0.8))
    assert after["log_loss"] == pytest.approx(log_losses["val"](t), rel=1e-4)
    assert before["log_loss"] == pytest.approx(log_losses["val"](1.0), rel=1e-4)


def test_without_such_a_split_the_scores_are_given_and_the_remedy_works(
    with_held: Path, voc_ensemble: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(voc_ensemble)]) == 0
    said = capsys.readouterr().out
    assert "without a temperature. No split is named" in said and "at temperature" not in said
    assert "data.select=<a split of other images>" in said
    for name, reason in {"leaks": "trained on", "both": "scored on", "nowhere": "nowhere"}.items():
        assert main([str(voc_ensemble), f"data.select={name}"]) == 2
        assert reason in capsys.readouterr().err
    assert main([str(voc_ensemble), "data.select=held"]) == 0
    assert "at temperature" in capsys.readouterr().out


def test_training_images_of_another_member_are_found_after_the_data_has_moved(
    with_held: Path, voc_ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists, recipe = with_held / "ImageSets/Segmentation", voc_ensemble / "members/2.yaml"
    (lists / "more.txt").write_text((lists / "held.txt").read_text())
    recipe.write_text(recipe.read_text().replace("train: train", "train: more"))
    moved = with_held.rename(tmp_path / "moved")
    assert main([str(voc_ensemble), f"data.root={moved}", "data.select=held"]) == 2
    assert "2 of 2 images of split 'held' are among those that members were" in capsys.readouterr().err
