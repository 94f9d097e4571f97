"""`trident report` from its command line to the page."""

import shutil
from pathlib import Path

import pytest

from engine.report import main
from engine.run_folder import RunFolder


@pytest.fixture
def runs(finished_runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_runs, tmp_path / "runs"))


def test_the_page_is_written_to_the_folder_and_replaced(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = runs / "report.html"
    for num_images in (0, 1):
        assert main([str(runs), "--images", str(num_images)]) == 0
        text = page.read_text(encoding="utf-8")
        assert text.count("<figure><button") == 2 * 2 * num_images  # of two runs, worst and best
        assert f"2 runs, {len(text.encode()) / 1e6:.1f} MB: {page}" in capsys.readouterr().out


def test_the_page_of_several_folders_is_above_them_unless_out_names_another(runs: Path) -> None:
    folders = [str(runs / "plain"), str(runs / "better")]
    assert main([*folders, "--images", "0"]) == 0
    assert (runs / "report.html").is_file()
    assert main([*folders, str(runs), "--images", "0", "--out", str(runs / "other.html")]) == 0
    assert (runs / "other.html").read_text().count('role="tab"') == 2  # each run once


def test_images_that_cannot_be_opened_are_reported_and_the_page_is_written(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "plain/top").rename(runs / "plain/elsewhere")
    assert main([str(runs), "--images", "1"]) == 0
    assert f"No images of {runs / 'plain'}" in capsys.readouterr().out
    text = (runs / "report.html").read_text(encoding="utf-8")
    assert "They cannot be shown: " in text and text.count("<figure><button") == 2


def test_an_unfinished_run_is_shown_with_the_files_it_has(runs: Path) -> None:
    run = RunFolder(runs / "plain")
    run.write_manifest(run.read_manifest().model_copy(update={"finished": False}))
    for path in (run.ensemble, run.scores):
        path.unlink()
    assert main([str(runs), "--images", "1"]) == 0
    text = (runs / "report.html").read_text(encoding="utf-8")
    assert "has not finished." in text and "have not been scored yet" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "No folder nowhere"),
        (["data.root=x"], "No folder was named"),
        (["RUNS", "eval.flip=true"], "a report shows runs as they are"),
        (["RUNS", "--images", "-1"], "--images -1"),
        (["RUNS", "--out", "RUNS"], "is a folder. Name a file, such as"),
        (["RUNS/empty"], "No run in"),
    ],
)
def test_wrong_input_is_reported_before_anything_is_written(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    (runs / "empty").mkdir()
    assert main([argument.replace("RUNS", str(runs)) for argument in arguments]) == 2
    assert says in capsys.readouterr().err
    assert not list(runs.rglob("*.html"))


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("manifest.json", "{}", "plain/manifest.json is damaged"),
        ("ensemble.json", '{"members": [', "plain/ensemble.json is damaged"),
        ("ensemble.json", "{}", "plain/ensemble.json lacks members, ensembles, protocol, dataset"),
        ("doctor.json", "half a", "plain/doctor.json is damaged"),
        ("scores.h5", "no HDF5", "plain/scores.h5 is damaged"),
        ("log.jsonl", '{"step": 1, "split": "val"}\n\n{"step"', "plain/log.jsonl is damaged at line 2"),
        ("log.jsonl", '{"split": "val"}\n', "plain/log.jsonl is damaged at line 1"),
    ],
)
def test_a_damaged_file_is_named(
    runs: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, says: str
) -> None:
    (runs / "plain" / file).write_text(content)
    assert main([str(runs), "--images", "0"]) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
