"""Which images a command line names, and what the files made of them are called."""

from pathlib import Path

import pytest

from engine.data.inputs import input_images
from engine.data.sample import DataError

FILES = ("a/1.jpg", "a/2.PNG", "b/1.jpg", "b/deep/1.jpg", "b/notes.txt", "c/x.jpg", "c/x.png", "[1].jpg")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["a/1.jpg"], ["1"]),
        (["a"], ["1", "2"]),
        (["a", "b"], ["a/1", "a/2", "b/1", "b/deep/1"]),
        (["b"], ["1", "deep/1"]),
        (["b/deep"], ["1"]),
        (["b/1.jpg", "a/1.jpg"], ["b/1", "a/1"]),
        (["a", "a/1.jpg", "./a/../a/1.jpg"], ["1", "2"]),  # each once
        (["b/*"], ["1", "deep/1"]),  # other files are ignored, folders are searched
        (["**/1.jpg"], ["a/1", "b/1", "b/deep/1"]),
        (["c"], ["x.jpg", "x.png"]),  # they differ only in their extension
        (["[1].jpg"], ["[1]"]),  # a file, though it looks like a glob
        (["b/notes.txt"], ["notes"]),  # named explicitly: opening it will report that it is not an image
    ],
)
def test_names_of_different_images_differ(folder: Path, inputs: list[str], names: list[str]) -> None:
    images = input_images(inputs, Path("out"))
    assert [image.name for image in images] == names
    assert all(image.path.is_file() for image in images)
    assert all(image.path.as_posix().endswith(f"/{image.place}") for image in images)


def test_earlier_predictions_are_not_inputs(folder: Path) -> None:
    assert [image.place for image in input_images(["b"], Path("b/deep"))] == ["1.jpg"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["nowhere.jpg", "a", "none"], "nowhere.jpg: no such file or folder.\nnone: no such"),
        (["a/*.gif"], r"a/\*.gif: nothing matches"),
        (["b/*.txt"], "no image among its 1 matches, such as .*notes.txt"),
        (["empty"], "empty: no image in this folder .*jpg"),
        (["a"], "^--out a: .*not predicted.* another folder with --out"),
    ],
)
def test_inputs_without_images_are_named(folder: Path, inputs: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        input_images(inputs, Path("a") if inputs == ["a"] else Path("out"))


def test_a_glob_passes_over_folders_of_tools_and_links_that_lead_back(folder: Path) -> None:
    (folder / "b/@eaDir").mkdir()
    (folder / "b/@eaDir/1.jpg").touch()
    (folder / "b/deep/again").symlink_to(folder / "b")
    assert [image.name for image in input_images(["b/**/*.jpg"], Path("out"))] == ["1", "deep/1"]
    assert [image.name for image in input_images(["b"], Path("out"))] == ["1", "deep/1"]
    assert [image.name for image in input_images(["b/@eaDir/*.jpg"], Path("out"))] == ["1"]
