"""Which checkpoints of a training are kept."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from engine.run_folder import RunFolder, RunFolderError
from tests.engine.training.checkpoints import (
    assert_same,
    kept,
    new_keeper,
    offer,
    resumed,
)


def test_the_best_are_kept_and_the_others_deleted(run: RunFolder) -> None:
    keeper = new_keeper(run)
    taken = [offer(keeper, step, score) for step, score in enumerate([0.1, 0.5, 0.3, 0.2, 0.05, 0.6])]
    assert taken == [True, True, True, True, False, True]
    assert kept(keeper) == [5, 1, 2]


def test_fewer_than_top_are_all_kept(run: RunFolder) -> None:
    keeper = new_keeper(run, top=5)
    offer(keeper, 10, 0.0)
    offer(keeper, 20, 0.4)
    assert kept(keeper) == [20, 10]


def test_the_earlier_one_wins_a_tie(run: RunFolder) -> None:
    keeper = new_keeper(run, top=2)
    assert [offer(keeper, step, 0.5) for step in (1, 2, 3)] == [True, True, False]
    assert kept(keeper) == [1, 2]
    assert offer(keeper, 4, 0.6)
    assert kept(keeper) == [4, 1]


def test_a_nan_score_is_never_kept(run: RunFolder) -> None:
    keeper = new_keeper(run)
    assert not offer(keeper, 1, math.nan)
    assert kept(keeper) == []


def test_another_metric_can_be_used(run: RunFolder) -> None:
    keeper = new_keeper(run, top=1, metric="aAcc")
    for step, scores in enumerate([{"mIoU": 0.9, "aAcc": 0.1}, {"mIoU": 0.1, "aAcc": 0.9}]):
        keeper.offer(step, scores, lambda step=step: {"step": torch.tensor(step)})
    assert kept(keeper) == [1]


def test_a_step_repeated_after_a_resume_is_kept_once(run: RunFolder) -> None:
    """The run was killed between keeping step 20 and saving its state, so it reaches step 20 again."""
    keeper = new_keeper(run, top=2)
    for step, score in ((10, 0.3), (20, 0.5)):
        offer(keeper, step, score)
    keeper = resumed(keeper)
    assert offer(keeper, 20, 0.5)
    assert kept(keeper) == [20, 10]
    assert offer(keeper, 30, 0.4)
    assert kept(keeper) == [20, 30]


def test_members_from_before_a_resume_are_compared_too(run: RunFolder) -> None:
    keeper = new_keeper(run, top=2)
    for step, score in ((10, 0.3), (20, 0.5)):
        offer(keeper, step, score)
    keeper = resumed(keeper)
    assert [offer(keeper, 30, 0.2), offer(keeper, 40, 0.4)] == [False, True]
    assert kept(keeper) == [20, 40]


@given(scores=st.lists(st.sampled_from([0.1, 0.2, 0.3, math.nan]), max_size=8), top=st.integers(1, 4))
def test_the_kept_checkpoints_are_the_first_of_the_sorted_list(
    tmp_path_factory, scores: list[float], top: int
) -> None:
    run = RunFolder(tmp_path_factory.mktemp("run"))
    run.create()
    keeper = new_keeper(run, top)
    for step, score in enumerate(scores):
        offer(keeper, step, score)
    real = [step for step, score in enumerate(scores) if not math.isnan(score)]
    assert kept(keeper) == sorted(real, key=lambda step: -scores[step])[:top]  # sorted() keeps ties in order


def test_the_manifest_never_names_a_deleted_file(run: RunFolder, monkeypatch) -> None:
    """A crash at any deletion must leave a manifest whose files all exist."""
    keeper = new_keeper(run, top=1)
    offer(keeper, 1, 0.1)
    deleted = []

    def look(path: Path, missing_ok: bool = False, unlink=Path.unlink) -> None:
        named = [member.file for member in run.read_manifest().members]
        assert all((run.path / file).is_file() for file in named)
        if path.suffix == ".safetensors":
            assert f"top/{path.name}" not in named
            deleted.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", look)
    offer(keeper, 2, 0.2)
    assert deleted == ["step-0000001.safetensors"]


@pytest.mark.parametrize("outside", ["../mine.txt", "{folder}/mine.txt"])
def test_a_file_outside_the_run_is_never_deleted(run: RunFolder, tmp_path: Path, outside: str) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    keeper = new_keeper(run, top=1)
    offer(keeper, 1, 0.1)
    text = run.manifest.read_text()
    run.manifest.write_text(text.replace("top/step-0000001.safetensors", outside.format(folder=tmp_path)))
    with pytest.raises(RunFolderError, match="damaged at members.0.file: "):
        offer(resumed(keeper), 2, 0.2)
    assert mine.read_text() == "mine"


def test_weights_are_copied_only_if_the_checkpoint_is_kept(run: RunFolder) -> None:
    keeper = new_keeper(run, top=1)
    offer(keeper, 1, 0.5)

    def refuse() -> dict[str, Tensor]:
        raise AssertionError("not kept, so not copied")

    for score in (0.4, 0.5, math.nan):
        assert not keeper.offer(2, {"mIoU": score}, refuse)


def test_weights_that_share_memory_are_kept(run: RunFolder) -> None:
    shared = torch.arange(4.0)
    new_keeper(run).offer(1, {"mIoU": 0.5}, lambda: {"a": shared, "b": shared, "c": shared[1:]})
    found = load_file(run.top / "step-0000001.safetensors")
    assert_same(found, {"a": shared, "b": shared, "c": shared[1:]})


def test_of_each_span_only_the_best_is_kept(run: RunFolder) -> None:
    keeper = new_keeper(run, top=3, spacing=30)
    scores = {10: 0.1, 20: 0.3, 30: 0.2, 40: 0.5, 50: 0.6, 60: 0.55, 70: 0.4, 80: 0.45, 90: 0.7, 100: 0.35}
    for step, score in scores.items():
        offer(keeper, step, score)
        keeper = resumed(keeper)
    # Spans end at 30, 60, 90, 120; their best are 20, 50, 90, 100, of which three are kept.
    assert kept(keeper) == [90, 50, 100]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 4), st.integers(0, 50))
def test_spacing_keeps_the_best_of_the_best_of_each_span(scores: list[float], top: int, spacing: int) -> None:
    with TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        run.create()
        keeper = new_keeper(run, top, spacing=spacing)
        best: dict[int, tuple[float, int]] = {}
        for number, score in enumerate(scores, start=1):
            step = 10 * number
            offer(keeper, step, score)
            span = (step - 1) // spacing if spacing else step
            best[span] = max(best.get(span, (-1.0, 0)), (score, -step))
        ranked = sorted(best.values(), reverse=True)
        assert kept(keeper) == [-step for _, step in ranked[:top]]
