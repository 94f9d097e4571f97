"""A trained model for inference: every form of image, and the errors for wrong ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import engine
from engine.data.sample import UnreadableSample
from engine.run_folder import RunFolderError
from engine.scoring.segmenter import UseError, open_segmenter
from engine.scoring.trained import find_checkpoint, open_trained

CPU = torch.device("cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """47 px high, 70 wide, without symmetry."""
    pixels = np.random.default_rng(0).integers(0, 256, (47, 70, 3), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def by_hand(path: Path, image: Tensor) -> list[Tensor]:
    """(C, h, w) probabilities of each member at scale 1, without the predictor."""
    found = []
    for model in open_trained(path, CPU).members.values():
        with torch.no_grad():
            logits = F.interpolate(model(image[None]), image.shape[1:], mode="bilinear", align_corners=False)
        found.append(logits.softmax(dim=1)[0])
    return found


def test_path_pil_image_array_and_tensor_give_the_same_prediction(voc_run, photo: Path) -> None:
    run = voc_run()
    segmenter = engine.load(run, "cpu")
    pixels = np.asarray(Image.open(photo))  # (h, w, 3)
    tensor = torch.tensor(pixels).permute(2, 0, 1)
    labels, probabilities = segmenter.predict(photo)
    assert labels.shape == (47, 70) and labels.dtype == torch.uint8
    assert probabilities.shape == (21, 47, 70) and probabilities.dtype == torch.float32
    for same in (str(photo), Image.open(photo), pixels, tensor):
        again = segmenter.predict(same)
        assert torch.equal(again.labels, labels) and torch.equal(again.probabilities, probabilities)
    [expected] = by_hand(run, tensor)
    torch.testing.assert_close(probabilities, expected)
    assert torch.equal(labels.long(), expected.argmax(dim=0))
    assert len(labels.unique()) > 1
    assert len(segmenter.class_names) == len(segmenter.palette) == 21


def test_an_ensemble_predicts_by_its_combination(voc_ensemble: Path, photo: Path) -> None:
    first, second = by_hand(voc_ensemble, torch.tensor(np.asarray(Image.open(photo))).permute(2, 0, 1))
    softened = second.sqrt() / second.sqrt().sum(dim=0)  # temperature 2
    mixed = first**0.25 * softened**0.75
    probabilities = engine.load(voc_ensemble, "cpu").predict(photo).probabilities
    torch.testing.assert_close(probabilities, mixed / mixed.sum(dim=0))


@pytest.mark.gpu2
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_members_on_two_gpus_predict_as_on_one(voc_ensemble: Path, photo: Path) -> None:
    one, both = open_segmenter(voc_ensemble, "cuda:0"), open_segmenter(voc_ensemble)
    devices = {next(model.parameters()).device for model in both.trained.members.values()}
    assert devices == {torch.device("cuda", 0), torch.device("cuda", 1)}
    images = one.pixels(photo)[None]
    torch.testing.assert_close(both.probabilities(images), one.probabilities(images), rtol=0, atol=1e-5)


def test_with_an_early_exit_one_member_predicts_what_it_is_sure_of(voc_ensemble: Path, photo: Path) -> None:
    whole = engine.load(voc_ensemble, "cpu").predict(photo).probabilities
    _, second = by_hand(voc_ensemble, torch.tensor(np.asarray(Image.open(photo))).permute(2, 0, 1))
    manifest = voc_ensemble / "combination.json"
    content = json.loads(manifest.read_text())
    for certainty, expected in ((0.0, second), (1.1, whole)):
        content["combination"]["early_exit"] = {"member": 1, "certainty": certainty}
        manifest.write_text(json.dumps(content))
        segmenter = engine.load(voc_ensemble, "cpu")
        torch.testing.assert_close(segmenter.predict(photo).probabilities, expected)
        torch.testing.assert_close(segmenter.predict_and_compare(photo)[0].probabilities, expected)
        torch.testing.assert_close(segmenter.of_all_members().predict(photo).probabilities, whole)
    content["combination"]["early_exit"]["member"] = 2
    manifest.write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match=r"combination\.json is damaged.*member 2, which has no weight"):
        engine.load(voc_ensemble, "cpu")


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_a_photo_is_rotated_upright(voc_run, photo: Path, orientation: int, turns: int) -> None:
    segmenter = engine.load(voc_run(), "cpu")
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = photo.with_name("turned.png")
    Image.open(photo).save(turned, exif=exif)
    upright = np.rot90(np.asarray(Image.open(photo)), turns)
    expected = segmenter.predict(upright).labels
    assert torch.equal(segmenter.predict(turned).labels, expected)
    assert torch.equal(segmenter.predict(Image.open(turned)).labels, expected)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_images_of_every_kind(voc_run, tmp_path: Path, mode: str) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (40, 52), np.uint8)
    if mode == "I;16":
        picture, seen = Image.fromarray(grey.astype(np.uint16) << 8), np.repeat(grey[..., None], 3, axis=2)
    else:
        picture = Image.fromarray(grey).convert("RGB" if mode == "RGBA" else "L").convert(mode)
        seen = np.asarray(picture.convert("RGB"))
    segmenter = engine.load(voc_run(), "cpu")
    path = tmp_path / ("p.tif" if mode == "CMYK" else "p.png")
    picture.save(path)
    expected = segmenter.predict(seen).probabilities
    assert torch.equal(segmenter.predict(path).probabilities, expected)
    assert torch.equal(segmenter.predict(picture).probabilities, expected)


def test_a_run_a_checkpoint_and_an_ensemble_can_be_opened(voc_run, photo: Path) -> None:
    run = voc_run("run", 1, 2)
    best, second = by_hand(run, torch.zeros(3, 32, 32)), open_segmenter(run, "cpu", step=2)
    assert engine.load(run).name == "run step 1"
    file = engine.load(run / "top/step-0000002.safetensors", "cpu")
    assert file.name == second.name == "run step 2"
    black = torch.zeros(3, 32, 32, dtype=torch.uint8)
    assert torch.equal(file.predict(black).probabilities, second.predict(black).probabilities)
    assert not torch.allclose(file.predict(black).probabilities, best[0])


def test_the_protocol_is_that_of_the_run_unless_overridden(voc_run, photo: Path) -> None:
    run = voc_run()
    mirrored = open_segmenter(run, "cpu", ["eval.flip=true", "eval.scales=[0.5, 1.0]"])
    assert (mirrored.protocol.flip, mirrored.protocol.scales) == (True, (0.5, 1.0))
    pixels = torch.tensor(np.asarray(Image.open(photo))).permute(2, 0, 1)
    found = mirrored.predict(pixels).probabilities
    torch.testing.assert_close(found, mirrored.predict(pixels.flip(-1)).probabilities.flip(-1))
    assert not torch.allclose(found, engine.load(run, "cpu").predict(photo).probabilities)
    with pytest.raises(RunFolderError, match=r"model.variant=b1: .* cannot be changed"):
        open_segmenter(run, "cpu", ["model.variant=b1"])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 9), np.uint8), r"an array \(h, w, 3\); got uint8 of shape \(8, 9\)"),
        (np.zeros((8, 9, 3), np.float32), "as uint8, .* got float32"),
        (np.zeros((3, 8, 9), np.uint8), r"got uint8 of shape \(3, 8, 9\)"),
        (
            torch.zeros(8, 9, 3, dtype=torch.uint8),
            r"a tensor \(3, h, w\); got torch.uint8 of shape \(8, 9, 3\)",
        ),
        (torch.zeros(3, 8, 9), "got torch.float32"),
        (torch.zeros(3, 0, 9, dtype=torch.uint8), r"shape \(3, 0, 9\)"),
        (None, "Expected one image: .* got a NoneType"),
        ([np.zeros((8, 9, 3), np.uint8)], "Expected one image: .* got a list"),
    ],
)
def test_other_pixels_are_refused(voc_run, image: object, message: str) -> None:
    with pytest.raises(UseError, match=message):
        engine.load(voc_run(), "cpu").predict(image)


def test_files_that_are_not_images_are_named(voc_run, tmp_path: Path) -> None:
    segmenter = engine.load(voc_run(), "cpu")
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("text.jpg", "absent.jpg"):
        with pytest.raises(UnreadableSample, match=name):
            segmenter.predict(tmp_path / name)


def test_a_protocol_that_cuts_the_image_is_refused(voc_run) -> None:
    run = voc_run()
    with pytest.raises(UseError, match="eval.protocol=centercrop .* eval.protocol=native"):
        engine.load(run, "cpu", ["eval.protocol=centercrop"])
    assert engine.load(run, "cpu", ["eval.protocol=slide"]).protocol.name == "slide"


def test_a_step_of_a_checkpoint_or_ensemble_is_refused(voc_run, voc_ensemble: Path) -> None:
    with pytest.raises(RunFolderError, match="step-0000001.safetensors is a single checkpoint"):
        open_segmenter(voc_run() / "top/step-0000001.safetensors", "cpu", step=2)
    with pytest.raises(RunFolderError, match="is an ensemble, .*leave the step 1 out"):
        open_segmenter(voc_ensemble, "cpu", step=1)
    with pytest.raises(RunFolderError, match="is an ensemble. Name a run"):
        find_checkpoint(voc_ensemble)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder|does not exist"):
        engine.load(tmp_path)


def test_a_file_of_a_run_that_is_no_checkpoint_is_answered_with_the_run(voc_run) -> None:
    run = voc_run()
    with pytest.raises(RunFolderError, match=f"recipe.yaml is not a checkpoint. Did you mean {run}"):
        engine.load(run / "recipe.yaml")
