"""Runs with a known answer: their findings, and the first recommendation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.diagnosis import RunDiagnosis, diagnose
from engine.diagnosis.training import Losses
from engine.run_folder import RunFolderError, read_log
from engine.scoring.run import Run, series
from tests.engine.diagnosis.written_runs import (
    RECIPE,
    STEPS,
    MakeRun,
    evaluations,
    every_line_loads,
    titles,
    train_rows,
)

EPOCH_STEPS = 588  # of trainaug in batches of 18
FIRST_USER = evaluations(np.array([10, 80, 160, 200]) * EPOCH_STEPS, [12.9, 51.1, 57.3, 58.6])


def text(diagnosis: RunDiagnosis, topic: str) -> str:
    return " ".join(finding.text for finding in diagnosis.findings if finding.topic == topic)


EMPTY = {"source": "converted/mit_b2.pth", "parts": {"encoder": {"num_values": 24, "num_matched_values": 0}}}


@pytest.mark.parametrize(
    ("weights", "from_scratch", "message"),
    [
        (None, "true", "started from random weights"),
        (EMPTY, "false", "converted/mit_b2.pth filled only 0.0 %"),
        (None, "false", "does not say"),
    ],
)
def test_a_saturated_run_without_weights_gets_weights_recommended_first(
    make_run: MakeRun, weights: dict | None, from_scratch: str, message: str
) -> None:
    losses = np.geomspace(2.0, 0.2, 40)
    train = [
        {"step": 2940 * (i + 1), "loss": x, "decode.loss_ce": x, "time": 0.7, "data_time": 0.01, "lr": 6e-5}
        for i, x in enumerate(losses)
    ]
    run = make_run(
        FIRST_USER,
        train,
        weights=weights,
        recipe=RECIPE + f"model: {{variant: b2, from_scratch: {from_scratch}}}\n",
    )
    diagnosis = diagnose(Run(run))
    curve = text(diagnosis, "mIoU curve")
    assert "Saturated: longer training, as many steps again, would add at most about 1." in curve
    assert "growth from step 5,880 to 47,040" in curve and "plateau from step 94,080 to 117,600" in curve
    first = diagnosis.recommendations[0]
    assert first.title.startswith("Start from pretrained weights")
    assert "model.weights=hf:nvidia/mit-b2" in first.recipe_lines
    assert message in first.evidence and "Saturated" in first.evidence
    assert "At 5 % of the training mIoU was 12.9, 22 % of its best, a slow start" in first.evidence
    assert "Train longer." not in titles(diagnosis)
    assert every_line_loads(run, diagnosis)


def test_loaded_weights_are_not_reported(make_run: MakeRun) -> None:
    diagnosis = diagnose(Run(make_run(FIRST_USER)))
    assert "filled 100.0 % of the encoder" in text(diagnosis, "weights")
    assert not any("pretrained" in title for title in titles(diagnosis))


def test_unknown_weights_with_a_quick_start_are_not_reported(make_run: MakeRun) -> None:
    val = evaluations(STEPS, 60 - 20 * np.exp(-STEPS / 200))
    diagnosis = diagnose(Run(make_run(val, weights=None)))
    assert "does not say" in text(diagnosis, "weights")
    assert diagnosis.recommendations == []


def test_longer_training_is_recommended_for_a_rising_curve(make_run: MakeRun) -> None:
    ended = RECIPE + "train: {steps: 2000}\n"
    run = make_run(evaluations(STEPS, 10 + 0.02 * STEPS), recipe=ended)
    diagnosis = diagnose(Run(run))
    assert "growth" in text(diagnosis, "mIoU curve") and "Saturated" not in text(diagnosis, "mIoU curve")
    assert titles(diagnosis) == ["Train longer."]
    assert diagnosis.recommendations[0].recipe_lines == ["train.steps=4000"]
    run.recipe.write_text(RECIPE + "train: {steps: 9000}\n")  # a run that has not finished
    assert titles(diagnose(Run(run))) == []
    assert every_line_loads(run, diagnosis)


def test_noise_alone_gives_no_findings(make_run: MakeRun) -> None:
    rng = np.random.default_rng(3)
    val = evaluations(STEPS, 40 + rng.normal(0, 0.8, 20))
    val = [row | {"loss": 0.5 + rng.normal(0, 0.01)} for row in val]
    diagnosis = diagnose(Run(make_run(val, train_rows(0.3 + rng.normal(0, 0.01, 40)))))
    assert "No rise or fall beyond the noise" in text(diagnosis, "mIoU curve")
    assert "does not rise beyond its noise" in text(diagnosis, "over-fitting")
    assert diagnosis.recommendations == []


VAL_LOSS = np.interp(STEPS, [100, 800, 2000], [1.2, 0.6, 0.9])


def test_overfitting_is_found_where_train_loss_falls_and_val_loss_rises(make_run: MakeRun) -> None:
    curve = np.interp(STEPS, [100, 800, 2000], [20, 50, 44])
    val = [row | {"loss": loss} for row, loss in zip(evaluations(STEPS, curve), VAL_LOSS, strict=True)]
    run = make_run(val, train_rows(np.geomspace(1.5, 0.1, 40)))
    diagnosis = diagnose(Run(run))
    found = text(diagnosis, "over-fitting")
    assert found.startswith("Over-fitting: Val loss was lowest near step 800 (0.600) and rose to 0.900")
    assert "mIoU went from 50.0 to 44.0." in found and "not levels" in found
    assert titles(diagnosis)[0].startswith("Augment and regularise more, or stop near step 800")
    assert every_line_loads(run, diagnosis)


def test_a_rising_val_loss_with_a_constant_miou_concerns_confidence_only(make_run: MakeRun) -> None:
    curve = np.interp(STEPS, [100, 800, 2000], [20, 50, 52])
    val = [row | {"loss": loss} for row, loss in zip(evaluations(STEPS, curve), VAL_LOSS, strict=True)]
    diagnosis = diagnose(Run(make_run(val, train_rows(np.geomspace(1.5, 0.1, 40)))))
    assert "only the confidence became worse" in text(diagnosis, "over-fitting")


def test_the_split_that_selects_checkpoints_is_named() -> None:
    losses = Losses(800.0, (0.6, 0.9), "loss", (1.0, 0.1), None, True)
    assert "rose" in str(losses) and "Val loss was lowest" in str(losses)
    assert "The loss on held was lowest" in str(replace(losses, split="held"))


def test_two_rising_losses_are_not_overfitting(make_run: MakeRun) -> None:
    val = [row | {"loss": x} for row, x in zip(evaluations(STEPS, STEPS / 100), VAL_LOSS, strict=True)]
    diagnosis = diagnose(Run(make_run(val, train_rows(np.geomspace(0.1, 1.5, 40)))))
    assert "both rise" in text(diagnosis, "over-fitting")
    assert not any("regularise" in title for title in titles(diagnosis))


@pytest.mark.parametrize(
    ("where", "recipe", "titles_found"),
    [
        ("in memory", "", []),
        ("in memory", "augment: {elastic: 2}", ["Switch off augmentations"]),
        ("on disk", "", ["Pack the decoded images"]),
        ("on disk", "data: {format: packed, root: p.h5}", []),
        ("on disk", "data: {root: nowhere, resident: disk}", ["Keep the decoded images in memory"]),
        (None, "", []),  # of an earlier version: nobody knows
    ],
)
def test_a_data_bound_run_gets_what_its_images_lack(
    make_run: MakeRun, where: str | None, recipe: str, titles_found: list[str]
) -> None:
    cheap = "" if "augment" in recipe else "augment: {hue: 0}\n"
    recipe = (recipe if "data" in recipe else f"data: {{root: nowhere}}\n{recipe}") + f"\n{cheap}"
    if "elastic" in recipe:
        recipe = recipe.replace("elastic: 2", "elastic: 2, hue: 0")
    run = make_run([], train_rows([0.5] * 10, data_time=0.6), recipe=f"name: here\n{recipe}")
    manifest = run.read_manifest()
    run.write_manifest(manifest.model_copy(update={"environment": {"images": where} if where else {}}))
    diagnosis = diagnose(Run(run))
    assert "waits for data: 60 % of an update of 1.00 s" in text(diagnosis, "speed")
    assert len(titles(diagnosis)) == len(titles_found)
    assert all(map(str.startswith, titles(diagnosis), titles_found))
    assert every_line_loads(run, diagnosis)


def test_figures_that_were_not_counted_are_named(make_run: MakeRun) -> None:
    diagnosis = diagnose(Run(make_run()))
    assert "0 evaluations" in text(diagnosis, "mIoU curve")
    assert "not counted" in text(diagnosis, "classes")
    assert text(diagnosis, "speed") == "The log has no times."


def test_scores_without_boundary_and_confidence_counts_are_enough(make_run: MakeRun) -> None:
    counts = {"confusion": np.tile(np.diag([5, 5, 5]), (2, 1, 1))}
    diagnosis = diagnose(Run(make_run(counts=counts, names=["background", "a", "b"])))
    assert "Errors near outlines: not counted" in text(diagnosis, "places")
    assert "No confusion of two classes costs" in text(diagnosis, "confusions")
    assert text(diagnosis, "calibration") == "Not counted."


def test_without_a_recipe_there_are_findings_but_no_recommendations(make_run: MakeRun) -> None:
    run = make_run(evaluations(STEPS, 10 + 0.02 * STEPS), weights=None)
    run.recipe.unlink()
    run.log.unlink()
    diagnosis = diagnose(Run(run))
    assert "does not say" in text(diagnosis, "weights") and diagnosis.recommendations == []


def test_a_damaged_scores_file_is_an_error_that_says_to_move_it_away(make_run: MakeRun) -> None:
    run = make_run()
    run.scores.write_bytes(b"cut off")
    with pytest.raises(RunFolderError, match=r"scores\.h5 is damaged.*Move it away"):
        diagnose(Run(run))


def test_null_values_repeated_steps_and_an_incomplete_line_are_ignored(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [
        '{"step": 20, "split": "val", "mIoU": 0.2}',
        '{"step": 10, "split": "val", "mIoU": null, "adv/d_loss": 1}',
        '{"step": 30, "split": "val", "mIoU": 0.3}',
        '{"step": 20, "split": "val", "mIoU": 0.25}',
        '{"step": 40, "sp',
    ]
    log.write_text("\n".join(rows))
    steps, values = series(read_log(log), "mIoU")
    assert steps.tolist() == [20, 30] and values.tolist() == [0.25, 0.3]
