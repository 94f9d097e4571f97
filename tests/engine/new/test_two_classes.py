"""Masks of probabilities and of JPEG: the commands that are printed make two classes of them."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from engine.data import open_split
from engine.doctor import main as doctor
from engine.recipe import load_recipe
from engine.run import main as run
from tests.engine.new.drawn import COLOURS, draw, labels_of, new_recipe, printed, save, two_splits, write


def half(pixels: np.ndarray) -> np.ndarray:
    return pixels[::2, ::2]


def probability(labels: np.ndarray) -> np.ndarray:
    return np.where(labels > 0, 0.9, 0.2).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "ending", "expected"),
    [
        (lambda m: (m > 0).astype(np.uint8) * 255, "jpg", [0, 1, 1]),
        (lambda m: half((m > 0).astype(np.uint8) * 255), "png", [0, 1, 1]),
        (lambda m: half((m > 0).astype(np.uint8) * 255), "jpg", [0, 1, 1]),
        (lambda m: COLOURS[m], "jpg", [0, 1, 2]),
        (lambda m: half(COLOURS[m]), "png", [0, 1, 2]),
        (lambda m: m * 100, "jpg", [0, 1, 2]),
        (probability, "tif", [0, 1, 1]),
        (half, "png", [0, 1, 2]),
    ],
)
def test_the_commands_that_are_printed_lead_to_a_training(capsys, change, ending: str, expected) -> None:
    for split, numbers in (("train", range(2)), ("val", range(2, 4))):
        draw(f"{split}/images/f{{}}.png", f"{split}/masks/f{{}}.{ending}", numbers, change)
    new_recipe(exit_code=2)
    assert doctor(printed(capsys.readouterr().out, "trident doctor")) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    dataset = open_split(load_recipe(recipe, overrides).data, "train")
    for number in range(2):
        labels = dataset.labels(number).numpy()
        sure = labels != 255  # void: between two colours
        assert sure.mean() > 0.9 and (sure.all() or ending == "jpg")
        assert (labels == np.array(expected)[labels_of(number)])[sure].mean() > 0.97  # a border is 2 px wide
    more = ["train.steps=1", "eval.every=1", "log.to=[]"]
    assert expected == [0, 1, 2] or ending != "jpg" or run([recipe, *overrides, *more]) == 0


def probabilities(labels: np.ndarray, blur_px: float = 3) -> np.ndarray:
    """0..255, as a model is sure of an object inside, and not at its borders; with noise everywhere."""
    white = Image.fromarray(np.uint8(255 * (labels > 0))).filter(ImageFilter.GaussianBlur(blur_px))
    noise = np.random.default_rng(0).normal(0, 12, labels.shape)
    return np.asarray(white + noise).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_probabilities_of_eight_bits_are_two_classes(channels: int, capsys) -> None:
    def drawn(labels: np.ndarray) -> np.ndarray:
        pixels = probabilities(labels)
        return pixels if channels == 1 else np.repeat(pixels[..., None], 3, axis=2)

    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", change=drawn)
    new_recipe(exit_code=2)
    argv = printed(capsys.readouterr().out, "trident doctor")
    assert doctor(argv) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    dataset = open_split(load_recipe(recipe, overrides).data, "val")
    expected = probabilities(labels_of(3)) >= 128
    assert (dataset.labels(0).numpy() == expected).all() and 0.1 < expected.mean() < 0.3


def test_probabilities_of_sixteen_bits_are_two_classes(capsys) -> None:
    """Also where a mask has only values that are nearly black of 16 bits, and would be white of 8."""

    def drawn(labels: np.ndarray) -> np.ndarray:
        nearly_black = np.full(labels.shape, 200, np.uint16)
        return nearly_black if (labels == labels_of(4)).all() else probabilities(labels).astype("u2") * 257

    two_splits("SPLIT/images/f{}.png", "SPLIT/masks/f{}.tif", change=drawn)
    new_recipe(exit_code=2)
    assert doctor(printed(capsys.readouterr().out, "trident doctor")) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    for split in ("train", "val"):
        dataset = open_split(load_recipe(recipe, overrides).data, split)
        for index, id in enumerate(dataset.ids):
            expected = drawn(labels_of(int(id[1:]))) >= 32768
            assert (dataset.labels(index).numpy() == expected).all()
    assert not expected.any()  # of f4


def test_probabilities_read_as_ids_are_named_with_the_threshold_as_remedy(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png", change=probabilities)
    new_recipe(exit_code=2)
    as_ids = ["data.yaml", "data.folder.values=ids"]
    assert doctor(as_ids) == 2
    out = capsys.readouterr().out
    assert "soft_masks" in out and "data.folder.values=binary" in out and "rainbow_borders" not in out
    assert doctor([*as_ids, "--fix", "copy"]) == 2 and not Path("copy").exists()
    assert "data.folder.values=binary" in capsys.readouterr().err
    assert doctor([*as_ids, "data.format=folder", "data.folder.values=binary", "--fix", "copy"]) == 0


def test_jpeg_masks_of_two_classes_in_a_recipe_of_ids_need_one_copy(capsys) -> None:
    def white(labels: np.ndarray) -> np.ndarray:
        return (labels > 0).astype(np.uint8) * 255

    draw("JPEGImages/f{}.JPG", "SegmentationClass/f{}.JPG", range(5), white)
    write("ImageSets/Segmentation/train.txt", "f0\nf1\nf2\n")
    write("ImageSets/Segmentation/val.txt", "f3\nf4\n")
    Path("v.yaml").write_text(
        "name: v\ndata: {format: voc, root: data, train: train, val: val, classes: [ground, cell]}\n"
    )
    assert doctor(["v.yaml"]) == 2
    out = capsys.readouterr().out
    assert "soft_masks" in out and "unknown_values" not in out and "rainbow" not in out
    assert doctor(["v.yaml", *re.findall(r"data\.[a-z.]+=\w+", out)[:2], "--fix", "copy"]) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    labels = open_split(load_recipe(recipe, overrides).data, "val").labels(0).numpy()
    assert (labels == (labels_of(3) > 0)).mean() > 0.99


def test_a_copy_that_still_has_findings_is_not_called_ready(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    new_recipe()
    for name in ("f0", "f1"):  # an id that no class has, in masks of half the size
        mask = Path(f"data/train/masks/{name}.png")
        save(mask, half(np.where(labels_of(0) == 2, 9, labels_of(0))).astype(np.uint8))
    capsys.readouterr()
    assert doctor(["data.yaml", "--fix", "copy"]) == 2
    out = capsys.readouterr().out
    assert "2 masks resized" in out and "unknown_values" in out and "Train on it" not in out
    ids = ["data.ids={0: 0, 1: 1, 2: 2, 9: 2}"]
    assert doctor(["data.yaml", *ids, "--fix", "agreed"]) == 0
    recipe, *overrides = printed(capsys.readouterr().out, "trident run")
    labels = open_split(load_recipe(recipe, overrides).data, "train").labels(0).numpy()
    assert overrides[-1] == "data.ids=null" and set(np.unique(labels)) == {0, 1, 2}


def test_no_copy_is_offered_of_jpeg_masks_in_colours_that_a_recipe_of_ids_cannot_read(capsys) -> None:
    draw("JPEGImages/f{}.png", "SegmentationClass/f{}.jpg", range(5), lambda labels: COLOURS[labels])
    write("ImageSets/Segmentation/train.txt", "f0\nf1\nf2\n")
    write("ImageSets/Segmentation/val.txt", "f3\nf4\n")
    Path("own.yaml").write_text(
        "name: own\ndata: {root: data, format: voc, train: train, val: val, classes: [a, b, c]}\n"
    )
    assert doctor(["own.yaml"]) == 2
    out = capsys.readouterr().out
    assert "unknown_colours" in out and "trident new" in out and "--fix" not in out
    new_recipe(exit_code=2)  # reads them by their colours, and offers the copy
    assert "--fix" in capsys.readouterr().out
