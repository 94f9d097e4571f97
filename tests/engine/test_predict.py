"""`trident predict` from its command line to its files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import engine
from engine.predict import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two folders with an image of the same name, of different sizes; one is rotated by EXIF."""
    folder = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for name, (h, w) in {"a/1.jpg": (40, 60), "b/1.jpg": (70, 33)}.items():
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(generator.integers(0, 256, (h, w, 3), np.uint8)).save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "a/1.jpg").save(folder / "a/side.jpg", exif=exif, quality="keep")
    return folder


def test_labels_and_overlays_of_a_folder(voc_run, photos: Path, tmp_path: Path) -> None:
    run, out = voc_run(), tmp_path / "deep/out"
    assert main([str(run), str(photos), "--out", str(out)]) == 0
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    names = ("a/1", "a/side", "b/1")
    assert files == {
        *(f"labels/{name}.png" for name in names),
        *(f"overlay/{name}.jpg" for name in names),
        "overlay/legend.png",
    }
    sizes = {name: Image.open(out / f"labels/{name}.png").size for name in names}
    assert sizes == {"a/1": (60, 40), "a/side": (40, 60), "b/1": (33, 70)}  # (w, h), upright
    segmenter = engine.load(run, "cpu")
    for name in names:
        stored = np.asarray(Image.open(out / f"labels/{name}.png"))
        assert np.array_equal(stored, segmenter.predict(photos / f"{name}.jpg").labels.numpy())


def test_an_ensemble_with_overrides_and_every_kind(voc_ensemble: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(photos / "a/*.jpg"), "eval.flip=true", "--out", str(out)]
    assert main([str(voc_ensemble), *arguments, "--save", "confidence,probabilities"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["confidence", "probabilities.h5"]
    with h5py.File(out / "probabilities.h5") as file:
        assert sorted(file) == ["1.jpg", "side.jpg"]
        assert '"flip": true' in file.attrs["about"]
        highest = file["side.jpg"][:].max(axis=0)
    grey = np.asarray(Image.open(out / "confidence/side.png"))
    assert np.abs(grey / 255 - highest).max() < 1 / 255


def test_bad_images_are_named_and_the_others_predicted(
    voc_run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b/text.jpg").write_text("no picture")
    whole = (photos / "b/1.jpg").read_bytes()
    (photos / "b/cut.jpg").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    run = str(voc_run())
    assert main([run, str(photos / "b"), "--out", str(out)]) == 1
    output = capsys.readouterr().err
    assert "2 of 3 images were left out" in output and "text.jpg" in output and "cut.jpg" in output
    assert "Traceback" not in output and "split" not in output
    assert [path.name for path in (out / "labels").iterdir()] == ["1.png"]
    assert main([run, str(photos / "b/text.jpg"), "--out", str(tmp_path / "none")]) == 1
    assert "written" not in capsys.readouterr().out


def test_nothing_is_overwritten_without_overwrite(
    voc_run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(voc_run()), str(photos / "a"), "--out", str(tmp_path / "out")]
    mine = tmp_path / "out/labels/1.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert main(arguments) == 2
    assert "1.png exists already" in capsys.readouterr().err
    assert mine.read_text() == "mine" and not (tmp_path / "out/overlay").exists()
    assert main([*arguments, "--overwrite"]) == 0
    assert Image.open(mine).size == (60, 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "nowhere.jpg"], "nowhere.jpg: no such file"),
        (["{run}", "{photos}/*.gif"], "nothing matches"),
        (["{run}"], "required"),
        (["{run}", "eval.flip=true"], "No image was named"),
        (["{run}", "{photos}", "model.variant=b1"], "cannot be changed"),
        (["{run}", "{photos}", "eval.flipp=true"], "did you mean flip"),
        (["{run}", "{photos}", "eval.protocol=centercrop"], "leaves a part of each image out"),
        (["{run}", "{photos}", "--save", "mask"], "'mask' is not one of labels"),
        (["{run}", "{photos}", "--step", "9"], "Steps kept: 1"),
        (["{photos}", "{photos}"], "not a run folder"),
        (["{run}", "{photos}", "--out", "{photos}/a/1.jpg"], "is a file"),
        (["{run}", "{photos}", "--out", "{photos}/a/1.jpg/out"], "1.jpg is a file, not a folder"),
    ],
)
def test_wrong_input_is_exit_2_and_writes_nothing(
    arguments: list[str],
    message: str,
    voc_run,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = voc_run()
    texts = [text.format(run=run, photos=photos) for text in arguments]
    assert main(["--out", str(tmp_path / "out"), *texts]) == 2
    output = capsys.readouterr().err
    assert message in output and "Traceback" not in output
    assert not (tmp_path / "out").exists()
