"""The worst and best images of runs written by the test, predicted again."""

import shutil
from pathlib import Path

import h5py
import pytest
import torch

from engine.data.sample import DataError
from engine.reporting.report import open_gallery, read_runs
from engine.reporting.report.content import RunContent
from engine.run_folder import RunFolder, RunFolderError

CPU = torch.device("cpu")


@pytest.fixture
def content(finished_runs: Path, tmp_path: Path) -> RunContent:
    """A run that the test may spoil."""
    [content] = read_runs([RunFolder(Path(shutil.copytree(finished_runs / "plain", tmp_path / "plain")))])
    return content


def test_the_images_are_those_that_scored_lowest_and_highest(content: RunContent) -> None:
    calls = []
    gallery = open_gallery(content, 2, CPU, progress=lambda done, total: calls.append((done, total)))
    assert content.analysis is not None
    scores = dict(zip(content.analysis.ids, content.analysis.image_mIoU.tolist(), strict=True))
    worst, best = ([scores[picture.id] for picture in kind] for kind in (gallery.worst, gallery.best))
    in_order = sorted(scores.values())
    assert worst == in_order[:2] and best == in_order[-2:][::-1]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_predictions_equal_those_that_were_scored(content: RunContent) -> None:
    """The pictures have as many right pixels as the counts."""
    gallery = open_gallery(content, 2, CPU)
    assert content.analysis is not None and content.best is not None
    with h5py.File(content.run.folder.scores) as file:
        matrices = file[f"confusion/{content.best.key}"][:]
    for picture in (*gallery.worst, *gallery.best):
        right = int(((picture.prediction == picture.labels) & (picture.labels != gallery.ignore_index)).sum())
        assert right == int(matrices[content.analysis.ids.index(picture.id)].trace())
        assert picture.confidence is not None
        assert 1 / 6 <= float(picture.confidence.min()) <= float(picture.confidence.max()) <= 1


def test_other_images_than_those_of_the_run_are_refused(content: RunContent) -> None:
    with pytest.raises(RunFolderError, match="are not those that"):
        open_gallery(content, 2, CPU, ["data.synthetic.seed=5"])
    elsewhere = ["data.format=voc", "data.root=/nowhere", "data.classes=voc21", "data.synthetic=null"]
    with pytest.raises(DataError):
        open_gallery(content, 2, CPU, elsewhere)


def test_a_run_without_scores_has_no_gallery(content: RunContent) -> None:
    content.run.folder.scores.unlink()
    with pytest.raises(RunFolderError, match="not been scored yet"):
        open_gallery(read_runs([content.run.folder])[0], 2, CPU)


def test_a_checkpoint_that_is_no_longer_kept_is_reported(content: RunContent) -> None:
    manifest = content.run.folder.read_manifest()
    kept = [
        member for member in manifest.members if content.best and f"step {member.step}" != content.best.key
    ]
    content.run.folder.write_manifest(manifest.model_copy(update={"members": kept}))
    with pytest.raises(RunFolderError, match="trident ensemble"):
        open_gallery(content, 2, CPU)
