"""Predictions as files: reading them gives what was predicted."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.inputs import InputImage
from engine.reporting.pictures import overlay
from engine.reporting.predictions import (
    KINDS,
    VOID_NEVER,
    files_of,
    mask_files,
    palette_image,
    prediction_writer,
)

NAMES = ("ground", "cat", "dog")
PALETTE = ((0, 0, 0), (64, 0, 0), (10, 200, 30))
IMAGES = [InputImage(Path(f"{name}.jpg"), f"{name}.jpg", name, Path()) for name in ("x", "deep/y")]


@pytest.fixture
def predicted() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels (3, 24, 32), labels, probabilities."""
    ramp = torch.linspace(0, 255, 24 * 32).view(24, 32)
    pixels = torch.stack([ramp, ramp.flip(0), ramp.flip(1)]).to(torch.uint8)  # smooth, as JPEG likes it
    logits = torch.zeros(3, 24, 32)
    logits[1, :8], logits[2, 8:, 16:] = 1, torch.linspace(1, 3, 16)  # cat above, dog in a corner below
    probabilities = logits.softmax(dim=0)
    return pixels, probabilities.argmax(dim=0).to(torch.uint8), probabilities


def test_all_kinds_are_read_back(predicted, tmp_path: Path) -> None:
    pixels, labels, probabilities = predicted
    with prediction_writer(tmp_path, list(KINDS), NAMES, PALETTE, {"model": "m"}) as write:
        for image in IMAGES:
            write(image, *predicted)
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(files_of(IMAGES, tmp_path, list(KINDS)))
    for image in IMAGES:
        with Image.open(tmp_path / f"labels/{image.name}.png") as stored:
            assert stored.mode == "P"
            assert np.array_equal(np.asarray(stored), labels.numpy())
            assert np.array_equal(np.asarray(stored.convert("RGB")), np.asarray(PALETTE, np.uint8)[labels])
        with Image.open(tmp_path / f"confidence/{image.name}.png") as stored:
            assert stored.mode == "L"
            highest = probabilities.amax(dim=0).numpy()
            assert np.abs(np.asarray(stored) / 255 - highest).max() <= 0.5 / 255 + 1e-6
        with Image.open(tmp_path / f"overlay/{image.name}.jpg") as stored:
            lossless = overlay(pixels, labels, PALETTE, VOID_NEVER).astype(float)
            assert np.abs(np.asarray(stored) - lossless).mean() < 4
    with h5py.File(tmp_path / "probabilities.h5") as file:
        assert list(file.attrs["class_names"]) == list(NAMES)
        assert json.loads(file.attrs["about"]) == {"model": "m"}
        stored = file["deep/y.jpg"]
        assert stored.dtype == np.float16 and stored.chunks == (1, 24, 32)
        assert np.abs(stored[:] - probabilities.numpy()).max() < 2**-11


def test_only_the_requested_kinds_are_written(predicted, tmp_path: Path) -> None:
    with prediction_writer(tmp_path, ["labels"], NAMES, PALETTE, {}) as write:
        write(IMAGES[0], *predicted)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.png"]


def test_probabilities_are_written_whole_or_not_at_all(predicted, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        prediction_writer(tmp_path, ["probabilities"], NAMES, PALETTE, {}) as write,
    ):
        write(IMAGES[0], *predicted)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_ids_beyond_the_palette_are_kept(tmp_path: Path) -> None:
    labels = torch.arange(256, dtype=torch.uint8).view(16, 16)
    palette_image(labels, PALETTE).save(tmp_path / "all.png")
    with Image.open(tmp_path / "all.png") as stored:
        assert np.array_equal(np.asarray(stored), labels.numpy())


@pytest.mark.parametrize("names", [("a/b", "a_b", "c"), ("Cat", "cat", "0_cat")])
def test_classes_whose_folders_would_be_the_same_have_their_own(tmp_path: Path, names) -> None:
    masks = torch.eye(3, dtype=torch.uint8).view(3, 1, 3)  # (C, h, w): one pixel each
    kinds, palette = ["labels"], ((1, 1, 1), (2, 2, 2), (3, 3, 3))
    with prediction_writer(tmp_path, kinds, names, palette, {}) as write:
        write(IMAGES[0], torch.zeros(3, 1, 3), masks, masks.float())
    for tiled in (False, True):
        files = mask_files(tmp_path, names, IMAGES[0], tiled)
        assert len({str(file).lower() for file in files}) == 3
        assert set(files) <= set(files_of(IMAGES, tmp_path, kinds, tiled, names))
    found = [np.array(Image.open(file)).tolist() for file in mask_files(tmp_path, names, IMAGES[0])]
    assert found == masks.tolist()
