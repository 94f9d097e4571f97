"""scores.h5, as read by another program."""

from pathlib import Path

import h5py
import pytest
import torch

from engine.data import hdf5
from engine.run_folder import RunFolderError
from engine.scoring.counting import Counts
from engine.scoring.scores_file import read_scores, recorder

IDS = ["2007_000033", "strand", "küste"]
MATRICES = torch.arange(3 * 4).view(3, 2, 2)


def test_each_matrix_is_in_the_row_of_its_id(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    with recorder(path, IDS, ("background", "cat"), ["demo step 5", "mean"]) as record:
        for ids, rows in ((["küste", "2007_000033"], [2, 0]), (["strand"], [1])):
            record(ids, {"demo step 5": Counts(MATRICES[rows]), "mean": Counts(10 * MATRICES[rows])})
    with h5py.File(path) as file:
        assert file["ids"].asstr()[:].tolist() == IDS
        assert file["class_names"].asstr()[:].tolist() == ["background", "cat"]
        assert file["confusion/demo step 5"][:].tolist() == MATRICES.tolist()
        assert file["confusion/mean"][:].tolist() == (10 * MATRICES).tolist()
        assert file["confusion/mean"].dtype == "int64"


def test_counts_of_more_than_32_bits_are_kept(tmp_path: Path) -> None:
    with recorder(tmp_path / "scores.h5", ["a"], ("x",), ["mean"]) as record:
        record(["a"], {"mean": Counts(torch.tensor([[[2**40]]]))})
    with h5py.File(tmp_path / "scores.h5") as file:
        assert file["confusion/mean"][0, 0, 0] == 2**40


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    for ids in (["a", "b"], ["c"]):
        with recorder(path, ids, ("x",), ["mean"]):
            pass
    with h5py.File(path) as file:
        assert file["ids"].asstr()[:].tolist() == ["c"]


def test_an_old_file_is_intact_where_the_scoring_fails(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    with recorder(path, ["a"], ("x",), ["mean"]):
        pass
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), recorder(path, ["b"], ("x",), ["mean"]):
        raise KeyboardInterrupt
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["scores.h5"]


def test_an_image_of_another_split_is_an_error(tmp_path: Path) -> None:
    with (
        recorder(tmp_path / "scores.h5", ["a"], ("x",), ["mean"]) as record,
        pytest.raises(KeyError),
    ):
        record(["b"], {"mean": Counts(torch.zeros(1, 1, 1, dtype=torch.int64))})


def test_reading_leaves_out_skipped_images(tmp_path: Path) -> None:
    path, matrices = tmp_path / "scores.h5", torch.arange(8).view(2, 2, 2)
    with recorder(path, ["a", "broken", "b"], ["x", "y"], ["mean"], lambda: ["broken"]) as record:
        record(["b", "a"], {"mean": Counts(matrices)})
    scores = read_scores(path)
    assert (scores.ids, scores.class_names, scores.skipped) == (["a", "b"], ["x", "y"], ["broken"])
    assert scores.confusion["mean"].tolist() == matrices.flip(0).tolist()
    assert scores.boundary == scores.edges == scores.reliability == {}


def test_the_other_counts_are_read_back_by_image(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    counts = Counts(
        confusion=MATRICES[:2],
        boundary=torch.arange(2 * 9).view(2, 3, 3),
        edges=torch.arange(2 * 4).view(2, 2, 2),
        reliability=torch.rand(2, 3, 15, dtype=torch.float64),
    )
    with recorder(path, ["a", "b"], ["x", "y"], ["native"]) as record:
        record(["b", "a"], {"native": counts})
    scores = read_scores(path)
    for name, rows in counts.items():
        assert getattr(scores, name)["native"].tolist() == rows.flip(0).tolist(), name


@pytest.mark.parametrize("wrong", [-1, "shape"])
def test_counts_that_are_impossible_are_refused(tmp_path: Path, wrong: int | str) -> None:
    path = tmp_path / "scores.h5"
    with recorder(path, IDS, ("background", "cat"), ["mean"]) as record:
        record(IDS, {"mean": Counts(MATRICES)})
    with h5py.File(path, "a") as file:
        if wrong == "shape":
            del file["confusion/mean"]
            file["confusion/mean"] = MATRICES[:, :1].numpy()
        else:
            file["confusion/mean"][0, 0, 0] = wrong
    with pytest.raises(RunFolderError, match="scores.h5 is damaged .*confusion/mean"):
        read_scores(path)


def test_counts_that_are_a_link_to_another_file_are_refused(tmp_path: Path) -> None:
    for name in ("scores.h5", "other.h5"):
        with recorder(tmp_path / name, ["a"], ["x"], ["mean"]):
            pass
    with h5py.File(tmp_path / "scores.h5", "r+") as file:
        del file["confusion"]
        file["confusion"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "confusion")
    with pytest.raises(RunFolderError, match=r"scores.h5 is damaged .*confusion is a link"):
        read_scores(tmp_path / "scores.h5")


@pytest.mark.parametrize(("place", "size", "value"), [(16, 64, 0), (47, 2, 255)], ids=["zeros", "ones"])
def test_bytes_that_hdf5_reads_without_end_are_refused(
    tmp_path: Path, place: int, size: int, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of version 0.1.0 has no SHA-256 of the file."""
    monkeypatch.setattr(hdf5, "LEAST_S", 2.0)
    path = tmp_path / "scores.h5"
    with recorder(path, [f"image_{number}" for number in range(9)], ("background", "cat"), ["mean"]):
        pass
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL") + place  # the collection of its texts
    content[start : start + size] = bytes([value]) * size
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match="scores.h5 is damaged .*cannot be read within 2 s"):
        read_scores(path)


def test_a_file_that_crashes_its_reader_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, crash = tmp_path / "scores.h5", tmp_path / "crash.py"
    with recorder(path, ["a"], ["x"], ["mean"]):
        pass
    crash.write_text("import os; os.abort()")
    monkeypatch.setattr(hdf5, "__file__", str(crash))
    with pytest.raises(RunFolderError, match="scores.h5 is damaged .*libhdf5 crashes"):
        read_scores(path)
