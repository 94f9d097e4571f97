"""Runs with a known answer: their findings, and the first recommendation."""

from pathlib import Path

import numpy as np
import pytest

from engine.diagnosis import RunDiagnosis, diagnose, study
from engine.recipe import load_recipe
from engine.run_folder import RunFolder, RunFolderError, read_log
from engine.scoring.run import Run, series
from tests.engine.diagnosis.written_runs import RECIPE, MakeRun, evaluations

EPOCH_STEPS = 588  # of trainaug in batches of 18
FIRST_USER = evaluations(np.array([10, 80, 160, 200]) * EPOCH_STEPS, [12.9, 51.1, 57.3, 58.6])
STEPS = np.arange(1, 21) * 100


def train_rows(losses, **values) -> list[dict]:
    every = 2000 // len(losses)
    return [
        {"step": every * (i + 1), "loss": 2 * loss, "decode.loss_ce": loss, "time": 1.0, "data_time": 0.05}
        | {"lr": 1e-4, **values}
        for i, loss in enumerate(losses)
    ]


def text(diagnosis: RunDiagnosis, topic: str) -> str:
    return " ".join(finding.text for finding in diagnosis.findings if finding.topic == topic)


def titles(diagnosis: RunDiagnosis) -> list[str]:
    return [recommendation.title for recommendation in diagnosis.recommendations]


def every_line_loads(run: RunFolder, diagnosis: RunDiagnosis) -> bool:
    """Applies each recommendation to the run's own recipe; each changes it."""
    before = load_recipe(run.recipe)
    return all(load_recipe(run.recipe, r.recipe_lines) != before for r in diagnosis.recommendations)


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


def test_two_rising_losses_are_not_overfitting(make_run: MakeRun) -> None:
    val = [row | {"loss": x} for row, x in zip(evaluations(STEPS, STEPS / 100), VAL_LOSS, strict=True)]
    diagnosis = diagnose(Run(make_run(val, train_rows(np.geomspace(0.1, 1.5, 40)))))
    assert "both rise" in text(diagnosis, "over-fitting")
    assert not any("regularise" in title for title in titles(diagnosis))


def test_a_data_bound_run_is_reported(make_run: MakeRun) -> None:
    run = make_run([], train_rows([0.5] * 10, data_time=0.6))
    diagnosis = diagnose(Run(run))
    assert "waits for data: 60 % of an update of 1.00 s" in text(diagnosis, "speed")
    assert titles(diagnosis) == [
        "Keep the decoded images in memory, or pack them into one file (trident prepare pack)."
    ]
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


def test_there_are_at_most_five_recommendations_and_each_loads(make_run: MakeRun) -> None:
    """Everything is wrong at once: weights, imbalance, look-alikes, outlines, sizes, confidence, data."""
    rng = np.random.default_rng(0)
    num_images, num_classes = 60, 8
    confusion = np.zeros((num_images, num_classes, num_classes), np.int64)
    for image in range(num_images):
        c = 1 + image % 7
        size = 100 * c * c * (1 + image // 7)
        share = 0.1 + 0.1 * c + 0.02 * (image // 7)
        confusion[image, 0, 0] = 50_000
        confusion[image, c, c] = size * share
        confusion[image, c, 1 + c % 7] = size * (1 - share)
    edges = np.tile([[900, 10], [50, 90]], (num_images, 1, 1))
    reliability = np.zeros((num_images, 3, 15))
    reliability[:, :, 14] = [100, 98, 80]
    counts = {"confusion": confusion, "edges": edges, "reliability": reliability}
    val = [row | {"loss": 0.5} for row in evaluations(STEPS, 40 + rng.normal(0, 3, 20))]
    recipe = RECIPE + "model: {from_scratch: true}\noptimizer: {lr: 1.0e-3}\n"
    names = ["background", *"abcdefg"]
    run = make_run(val, train_rows([1.0] * 20, data_time=0.5), counts, names, None, recipe)
    diagnosis = diagnose(Run(run))
    assert len(diagnosis.recommendations) == 5
    assert every_line_loads(run, diagnosis)
    studies = study(Run(run))
    assert studies.edges.are_most_errors and studies.confidence.is_overconfident
    assert studies.classes.is_imbalanced and studies.speed.is_data_bound
