"""`trident benchmark` on the smallest model and images; the measured figures are not tested."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from engine.benchmark import main
from engine.benchmarks import augment, data, decode, measuring, model, score, zoo
from engine.data.augment import Augment
from engine.data.options import Augment as Section
from engine.scoring.confusion import confusion_matrices
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.timing import interleaved
from models.segformer import SegFormer


def test_rounds_are_interleaved_and_the_first_is_not_counted() -> None:
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    seconds = interleaved(contenders, 3, lambda done, total: None)
    assert calls == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_the_ratio_is_taken_within_each_round() -> None:
    assert measuring.ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0]) == 3.0  # 2, 4, 3


def test_the_table_and_the_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "installed", lambda package: None)  # as if no peer were installed
    monkeypatch.setattr(measuring, "installed", lambda package: None)
    out = tmp_path / "model.json"
    arguments = [
        "model",
        "--variants",
        "b0",
        "--size",
        "64",
        "--rounds",
        "2",
        "--batch",
        "1",
        "--out",
        str(out),
    ]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "pip install transformers" in output
    rows = json.loads(out.read_text())["rows"]
    assert [(row["what"], row["contender"]) for row in rows] == [
        ("training step", "trident"),
        ("inference", "trident"),
    ]
    assert all(len(row["seconds"]) == 2 and row["times_faster"] == 1.0 for row in rows)
    assert rows[0]["peak_mb"] > 0
    assert main(arguments) == 2  # never over an existing file
    assert "exists already" in capsys.readouterr().err


def test_a_step_of_the_zoo_is_compared_with_that_of_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "PAIRS", (("fpn", "resnet18"),))
    out = tmp_path / "zoo.json"
    assert main(["zoo", "--size", "32", "--batch", "2", "--rounds", "1", "--out", str(out)]) == 0
    ours, theirs = json.loads(out.read_text())["rows"]
    assert (ours["contender"], theirs["contender"], ours["times_faster"]) == ("trident", "smp", 1.0)
    assert theirs["times_faster"] > 0


def test_augmentation_is_compared_with_kornias_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "augment.json"
    assert main(["augment", "--size", "64", "--batch", "2", "--rounds", "2", "--out", str(out)]) == 0
    assert "kornia's chain" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    ours, balanced, chain = rows
    assert ours["contender"] == "trident" and ours["times_faster"] == 1.0
    assert all(len(row["seconds"]) == 2 and row["times_faster"] > 0 for row in (balanced, chain))


def test_both_contenders_return_the_same_kind_of_batch() -> None:
    section = Section(crop=32)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    labels = torch.ones(2, 32, 32, dtype=torch.uint8)
    for found in (
        augment.ours(Augment(section, 0, 255), images, labels),
        augment.kornias(augment.kornias_chain(section), images, labels),
    ):
        assert found[0].shape == (2, 3, 32, 32) and found[0].dtype == torch.float32 and found[0].max() > 50
        assert found[1].shape == (2, 32, 32) and found[1].dtype == torch.int64 and (found[1] == 1).any()


def test_every_layout_is_read_and_compared_with_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data.json"
    assert main(["data", "--images", "3", "--rounds", "2", "--out", str(out)]) == 0
    output = capsys.readouterr().out
    rows = {row["contender"]: row for row in json.loads(out.read_text())["rows"]}
    assert all(name in output for name in rows)
    assert {*rows} == {
        "files (JPEG, PNG)",
        "HDF5, chunks=True",
        "HDF5, a chunk an image",
        "HDF5, contiguous",
        "HDF5, variable length",
        "pack, encoded",
        "pack, decoded",
        "pack, decoded, every read checked",
    }
    assert all(len(row["seconds"]) == 2 and row["images_per_s"] > 0 for row in rows.values())
    assert rows["pack, decoded"]["times_faster"] == 1.0
    assert main(["data", "--images", "0"]) == 2


def test_each_way_of_reading_gives_the_same_pixels(tmp_path: Path) -> None:
    readers = data._readers(tmp_path, 2)
    image, labels = readers["pack, decoded"](1)
    assert image.shape == (3, *data.SIZE_PX) and labels.shape == data.SIZE_PX
    for name, read in readers.items():
        found_image, found_labels = read(1)
        if name.startswith("HDF5"):
            shape = (*data.SIZE_PX, 3)
            found_image = found_image.view(shape).permute(2, 0, 1)
            found_labels = found_labels.view(data.SIZE_PX)
        assert torch.equal(found_image, image) and torch.equal(found_labels, labels), name


def test_decoders_are_compared_on_photos_or_drawn_images(
    tmp_path: Path, voc_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "decode.json"
    small = ["decode", "--images", "3", "--rounds", "2"]
    assert main([*small, "--root", str(voc_folder), "--out", str(out)]) == 0
    assert "torchvision" in capsys.readouterr().out
    ours, half, _ = json.loads(out.read_text())["rows"]
    assert ours["times_faster"] == 1.0 and ours["same"] == ours["num_images"] == 3
    assert half["same"] == 0 and len(half["seconds"]) == 2
    assert main([*small, "--root", str(tmp_path)]) == 2
    assert "JPEGImages has no .jpg" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_every_decoder_gives_rgb(mode: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (90, 90, 90)).convert(mode).save(file, "JPEG")
    for decoder in decode.DECODERS.values():
        pixels = decoder(file.getvalue())
        assert pixels.shape in ((3, 4, 6), (3, 2, 3))
        assert (pixels.float() - 90).abs().max() <= 2  # gray in all channels


def test_a_photo_that_cannot_be_decoded_is_named_with_what_can_be_done_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "JPEGImages/a.jpg"
    photo.parent.mkdir()
    Image.new("RGB", (64, 64)).save(photo)
    whole = photo.read_bytes()
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    for damaged in (whole[: len(whole) // 2], png.getvalue()):
        photo.write_bytes(damaged)
        assert main(["decode", "--images", "1", "--rounds", "1", "--root", str(tmp_path)]) == 2
        message = capsys.readouterr().err
        assert str(photo) in "".join(message.split("\n")) and "take it out" in message
        assert "on_error" not in message and "Traceback" not in message


def test_half_the_size_is_half_the_size_and_drawn_images_are_decoded_alike() -> None:
    [file] = decode._files(None, 1)
    h, w = data.SIZE_PX
    assert decode.pillow_at_half(file).shape == (3, (h + 1) // 2, w // 2)
    whole, other = decode.pillow(file), decode.by_torchvision(file)
    assert whole.shape == other.shape == (3, h, w)
    assert (whole.float() - other.float()).abs().mean() < 1


def test_counting_is_measured_on_counts_that_agree() -> None:
    prediction, labels = score.draw(64, torch.device("cpu"))
    matrix = confusion_matrices(prediction, labels, 21, score.VOID)[0]
    intersection, of_prediction, of_labels = score.histc(prediction.long(), labels.long(), 21, score.VOID)
    assert intersection.tolist() == matrix.diagonal().tolist()
    assert of_prediction.tolist() == matrix.sum(0).tolist()
    assert of_labels.tolist() == matrix.sum(1).tolist()
    assert 0 < intersection.sum() < of_labels.sum() < 64 * 64


def test_sliding_is_measured_on_the_same_windows_and_ends_in_the_same_classes() -> None:
    model = nn.Conv2d(3, 4, 4, stride=4).eval()
    nn.init.normal_(model.weight, std=0.001)
    images = torch.randint(0, 256, (1, 3, 40, 56)).float()
    protocol = EvaluationProtocol("slide", window_px=16, stride_px=12)
    with torch.no_grad():
        ours, theirs = (way(model, images, protocol) for way in (score.in_strips, score.one_by_one))
    assert (ours == theirs).float().mean() > 0.999  # a tie may be resolved either way
    assert len(ours.unique()) > 1


def test_both_ways_to_score_a_split_count_the_same() -> None:
    torch.manual_seed(0)
    model = SegFormer("b0", score.NUM_CLASSES).eval()
    batches = score.drawn_batches((40, 56), 2, torch.device("cpu"))
    with torch.no_grad():
        ours, theirs = score.scored(model, batches), score.plain_loop(model, batches)
    assert (ours - theirs).abs().sum() < 0.001 * ours.sum()  # a tie may be resolved either way
    assert int(ours.sum()) == int(theirs.sum()) > 0 and len(ours.sum(0).nonzero()) > 1


def test_the_table_of_scoring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "SLIDE_PX", (48, 64))
    monkeypatch.setattr(score, "WINDOW_PX", 32)
    monkeypatch.setattr(score, "STRIDE_PX", 32)
    monkeypatch.setattr(score, "SPLIT_PX", (32, 48))
    out = tmp_path / "score.json"
    assert main(["score", "--size", "32", "--rounds", "1", "--out", str(out)]) == 0
    assert "one by one" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    contenders = [row["contender"] for row in rows]
    assert contenders == [
        *("trident", "trident, int64", "histc", "smp"),
        *("trident", "one by one"),
        *("trident", "plain loop"),
    ]
    assert all(row["median_s"] > 0 for row in rows)
