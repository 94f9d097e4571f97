"""`trident new` from masks of classes that may overlap to a recipe that opens and trains."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import open_split
from engine.new import main
from engine.recipe import Recipe, load_recipe
from engine.run import main as run

H, W = 64, 72
NAMES = ("road", "car", "red_car")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.sources.weights_within_reach", lambda *_, **__: "none")


def mask_of(number: int, place: int) -> np.ndarray:
    """Masks of neighbouring places overlap."""
    mask = np.zeros((H, W), np.uint8)
    mask[4 + number : 40 + number, 8 * place : 8 * place + 30] = 1
    return mask


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, pixels) if path.suffix == ".npy" else Image.fromarray(pixels).save(path)


Draw = Callable[[Path, int], None]


def files(pattern: str, scale: int = 1, numbers: range = range(9)) -> Draw:
    """A mask file for each class; `numbers`: the images with the last class."""

    def draw(masks: Path, number: int) -> None:
        for place, name in enumerate(NAMES):
            if name != NAMES[-1] or number in numbers:
                save(masks / pattern.format(image=f"f{number}", name=name), scale * mask_of(number, place))

    return draw


def bands(ending: str, number_of_bands: int, scale: int = 1) -> Draw:
    def draw(masks: Path, number: int) -> None:
        layers = [scale * mask_of(number, place) for place in range(number_of_bands)]
        save(masks / f"f{number}{ending}", np.stack(layers, axis=2))

    return draw


def write_data(draw: Draw) -> None:
    noise = np.random.default_rng(0)
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        for number in numbers:
            photo = noise.integers(0, 256, (H, W, 3)).astype(np.uint8)
            save(Path("data", split, "images", f"f{number}.jpg"), photo)
            draw(Path("data", split, "masks"), number)


def new_recipe(*more: str) -> Recipe:
    assert main(["data", *more]) == 0
    return load_recipe("data.yaml")


@pytest.mark.parametrize(
    ("draw", "classes", "values"),
    [
        (files("{name}/{image}.png"), ["car", "red_car", "road"], "ids"),
        (files("{name}/{image}.png", scale=255), ["car", "red_car", "road"], "binary"),
        (files("{image}_{name}.png"), ["car", "red_car", "road"], "ids"),
        (files("{image}-{name}.png", scale=255), ["car", "red_car", "road"], "binary"),
        (bands(".npy", 2), ["class_1", "class_2"], "ids"),
        (bands(".npy", 5, scale=255), [f"class_{n}" for n in range(1, 6)], "binary"),
        (bands(".png", 3), ["class_1", "class_2", "class_3"], "ids"),
    ],
)
def test_layouts_of_class_masks(draw: Draw, classes: list[str], values: str) -> None:
    """Each label is the mask that was drawn, and every file is needed."""
    write_data(draw)
    data = new_recipe().data
    assert (data.labels, data.classes) == ("multi", classes)
    assert (data.folder.values, data.folder.missing_masks) == (values, "error")
    order = [NAMES.index(name) if name in NAMES else place for place, name in enumerate(classes)]
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        for number, sample in zip(numbers, open_split(data, split), strict=True):
            assert (sample.labels.numpy() == [mask_of(number, place) for place in order]).all()


def test_a_class_without_a_file_is_not_on_the_image(capsys: pytest.CaptureFixture[str]) -> None:
    write_data(files("{name}/{image}.png", numbers=range(1, 5)))
    data = new_recipe().data
    assert data.folder.missing_masks == "empty"
    assert "2 of 6 images have no mask file of a class" in capsys.readouterr().out
    assert not open_split(data, "train")[0].labels[1].any()


def test_a_share_of_one_folder_is_val() -> None:
    for number in range(6):
        save(Path("data/images", f"f{number}.png"), np.full((H, W, 3), number, np.uint8))
        files("{name}/{image}.png")(Path("data/masks"), number)
    data = new_recipe().data
    assert data.labels == "multi" and data.folder.val_share
    assert len(open_split(data, data.train)) + len(open_split(data, data.val)) == 6


def test_void_of_a_mask_stays_void() -> None:
    """255 next to 1 is void, so it is not the class."""

    def draw(masks: Path, number: int) -> None:
        for place, name in enumerate(NAMES):
            mask = mask_of(number, place)
            mask[:2] = 255
            save(masks / name / f"f{number}.png", mask)

    write_data(draw)
    data = new_recipe().data
    assert data.folder.values == "ids" and (open_split(data, "train")[0].labels[:, :2] == 255).all()


def no_overlap(masks: Path, number: int) -> None:
    """One mask an image, in folders that are no classes."""
    save(masks / ("early" if number < 3 else "late") / f"f{number}.png", mask_of(number, 0))


def objects(masks: Path, number: int) -> None:
    save(masks / f"f{number}.png", mask_of(number, 0))
    save(masks / f"f{number}_{number}.png", mask_of(number, 1))


def grey(masks: Path, number: int) -> None:
    save(masks / f"f{number}.png", np.repeat(mask_of(number, 0)[..., None], 3, axis=2))


def opaque(masks: Path, number: int) -> None:
    save(masks / f"f{number}.png", np.stack([mask_of(number, 0), np.full((H, W), 255, np.uint8)], axis=2))


@pytest.mark.parametrize("draw", [no_overlap, grey, opaque, bands(".png", 3, scale=255)])
def test_masks_of_one_class_a_pixel_are_left_so(draw: Draw) -> None:
    write_data(draw)
    assert new_recipe().data.labels == "single"


def test_numbered_masks_of_objects_are_no_classes(capsys: pytest.CaptureFixture[str]) -> None:
    write_data(objects)
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    assert "f0_0" in capsys.readouterr().err


def test_soft_masks_are_named_before_anything_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    write_data(files("{name}/{image}.png", scale=100))
    assert main(["data"]) == 2 and not Path("data.yaml").exists()
    assert "holds 100" in capsys.readouterr().err


def test_classes_that_files_name_keep_these_names(capsys: pytest.CaptureFixture[str]) -> None:
    write_data(files("{name}/{image}.png"))
    assert main(["data", "--classes", "a", "b", "c"]) == 2 and not Path("data.yaml").exists()
    assert "car, red_car, road" in capsys.readouterr().err
    assert new_recipe("--classes", *NAMES).data.classes == [*NAMES]


def test_void_is_a_name_like_others() -> None:
    write_data(bands(".npy", 2))
    assert new_recipe("--classes", "void", "lane").data.classes == ["void", "lane"]


def test_the_recipe_trains_as_it_stands() -> None:
    write_data(files("{name}/{image}.png", numbers=range(1, 6)))
    new_recipe()
    assert run(["data.yaml", "train.steps=2", "train.batch=2", "eval.every=2", "log.to=[]"]) == 0
    assert Path("checkpoints/data/report.html").exists()
