"""When a training ends for lack of a gain: the rule on written curves, and whole runs with `--resume`."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.recipe import Recipe, load_recipe
from engine.run import main
from engine.run_folder import RunFolder
from engine.training.patience import is_out_of_patience, standstill, stopped_early
from tests.engine.tiny_run import RECIPE, tiny

EVERY = 100
ALTERNATING = [0.40, 0.42] * 6  # noise of about 0.01 around a plateau


def recipe(*overrides: str) -> Recipe:
    own = ["train.steps=4000", "schedule.warmup=0", "train.patience=3", f"eval.every={EVERY}", *overrides]
    return load_recipe(RECIPE, own)


def curve(scores: list[float]) -> list[tuple[int, dict[str, float]]]:
    return [(EVERY * number, {"mIoU": score}) for number, score in enumerate(scores, 1)]


@pytest.mark.parametrize(
    ("scores", "ends"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], False),  # rises
        ([0.1, 0.4, 0.5, 0.5, 0.5, 0.5], True),
        ([0.1, 0.4, 0.5, 0.4, 0.3, 0.2], True),  # falls
        ([0.1, 0.4, 0.5, 0.5, 0.5], False),  # two evaluations only
        (ALTERNATING, True),  # a new best by noise is no gain
        ([0.5 + 0.004 * number for number in range(12)], False),  # a slow rise adds up to a gain
        ([0.5, float("nan"), float("nan"), float("nan")], True),
        ([float("nan")] * 3, False),
        ([], False),
    ],
)
def test_a_gain_is_above_the_last_gain_by_more_than_noise(scores: list[float], ends: bool) -> None:
    assert is_out_of_patience(recipe(), curve(scores)) == ends
    assert not is_out_of_patience(recipe("train.patience=null"), curve(scores))


def test_the_noise_is_that_around_the_curve() -> None:
    found = standstill(recipe(), curve(ALTERNATING))
    assert found and found.noise == pytest.approx(0.01, rel=0.25)  # half the distance of the two levels


@pytest.mark.parametrize(
    "later", [["schedule.warmup=400"], ["adversarial.start=200", "adversarial.ramp=200"]]
)
def test_evaluations_count_once_rate_and_discriminator_are_there(later: list[str]) -> None:
    flat = curve([0.5] * 6)
    assert is_out_of_patience(recipe("adversarial=null"), flat)
    start = [] if later[0].startswith("adversarial") else ["adversarial=null"]
    assert not is_out_of_patience(recipe(*start, *later), flat)  # those at 400, 500 and 600
    assert is_out_of_patience(recipe(*start, *later), curve([0.5] * 7))


def test_it_says_which_part_of_the_schedule_ran() -> None:
    half = recipe("schedule.name=poly", "schedule.power=1.0", "schedule.min_lr=0", "optimizer.lr=1e-3")
    note = stopped_early(half, [(2001, {"mIoU": 0.5})])
    assert "Stopped at update 2,001 of 4,000" in note.text
    assert "optimizer.lr was 0.0005 at the end, 50% of 0.001" in note.text
    assert note.remedies == ("train.steps=2001",)
    constant = recipe("schedule.name=constant", "schedule.min_lr=0")
    assert stopped_early(constant, [(2001, {"mIoU": 0.5})]).remedies == ()


EARLY = ["train.steps=12", "train.patience=2", "optimizer.lr=1e-12", "schedule.min_lr=0", "adversarial=null"]


def states_differ(one: RunFolder, two: RunFolder) -> list[str]:
    first, second = load_file(one.last_state), load_file(two.last_state)
    assert first.keys() == second.keys()
    return [key for key in first if not torch.equal(first[key], second[key])]


def test_a_run_ends_early_with_scores_and_report_and_resumes_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate of almost 0 only the running statistics of norms move the score."""
    assert main(tiny(tmp_path, "whole", *EARLY)) == 0
    said = re.search(r"Stopped at update (\d+) of 12", capsys.readouterr().out)
    assert said
    end = int(said[1])
    assert 6 <= end < 12  # the evaluation at 2 is the first, and two without a gain come after it
    whole = RunFolder(tmp_path / "whole")
    assert whole.read_manifest().finished and whole.report.is_file() and whole.ensemble.is_file()

    with monkeypatch.context() as patched:
        from engine.training.interrupt import StopSignal

        patched.setattr(StopSignal, "requested", lambda self, step: step == 5)
        assert main(tiny(tmp_path, "again", *EARLY)) == 1
    again = RunFolder(tmp_path / "again")
    again.log.unlink()  # the decision must not depend on it
    assert main([*tiny(tmp_path, "again", *EARLY), "--resume"]) == 0
    assert states_differ(whole, again) == []
    rows = [json.loads(line) for line in whole.log.read_text().splitlines()]
    assert [row["step"] for row in rows if row.get("topic") == "patience"] == [end]

    assert main([*tiny(tmp_path, "whole", *EARLY), "--resume"]) == 0  # scores again, and trains no further
    rows = [json.loads(line) for line in whole.log.read_text().splitlines()]
    assert [row["step"] for row in rows if row.get("topic") == "patience"] == [end]
    assert max(row["step"] for row in rows) == end

    assert main([*tiny(tmp_path, "whole", *EARLY), "--resume", "train.patience=null"]) == 0
    undisturbed = [*EARLY, "train.patience=null"]
    assert main(tiny(tmp_path, "long", *undisturbed)) == 0
    assert states_differ(whole, RunFolder(tmp_path / "long")) == []
    assert whole.read_manifest().finished
    whole.require_log(whole.read_manifest())
