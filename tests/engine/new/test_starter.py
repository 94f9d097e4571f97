"""The recipe that is written opens and trains."""

from pathlib import Path

import pytest

from engine.doctor import main as doctor
from engine.recipe import load_recipe
from engine.recipe.starter import Start, starter_text
from engine.run import main as run
from tests.engine.new.drawn import draw, new_recipe, require_labels, two_splits, write


def test_the_doctor_takes_a_folder(capsys) -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    assert doctor(["data"]) == 0
    assert "3 images to train on" in capsys.readouterr().out
    assert doctor(["data", "--fix", "copy"]) == 2 and "trident new data" in capsys.readouterr().err


def test_the_recipe_trains_as_it_stands() -> None:
    two_splits("SPLIT/images/f{}.jpg", "SPLIT/masks/f{}.png")
    new_recipe()
    assert run(["data.yaml", "train.steps=2", "eval.every=2", "log.to=[]"]) == 0
    assert Path("checkpoints/data/report.html").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("weights", ["package", "hub", "none"])
@pytest.mark.parametrize("num_train", [1, 40, 100_000])
def test_every_starter_recipe_is_valid(device: str, weights: str, num_train: int) -> None:
    section = {"root": "data", "format": "folder", "classes": ["a", "b"], "folder": {"val_share": 0.2}}
    start = Start("mine", section, ["found"], num_train, (1080, 1920), weights, device)
    Path("start.yaml").write_text(starter_text(start))
    recipe = load_recipe("start.yaml")
    assert recipe.name == "mine" and 2 <= recipe.train.batch <= 16
    assert recipe.augment.crop == {"cpu": 256, "cuda": 512}[device]
    assert recipe.model.from_scratch == (weights == "none")


SECTION = {"root": "data", "format": "folder", "classes": ["a", "b"], "folder": {"val_share": 0.2}}
OWN = ("name", "data", "output")  # what differs between two recipes with the same settings


def settings_of(start: Start) -> dict:
    Path("start.yaml").write_text(starter_text(start))
    return {key: value for key, value in load_recipe("start.yaml").to_dict().items() if key not in OWN}


def test_photos_get_the_settings_that_were_chosen_on_photos() -> None:
    shipped = load_recipe("lite0_photos", ["data.root=data"]).to_dict()
    found = settings_of(Start("mine", SECTION, [], 800, (375, 500), "package", "cpu"))
    assert found == {key: value for key, value in shipped.items() if key not in OWN}


@pytest.mark.parametrize(
    "changed",
    [
        {"size": (256, 256)},
        {"size": (3000, 4000)},
        {"weights": "none"},
        {"device": "cuda"},
        {"section": {**SECTION, "bands": 4}},
    ],
)
def test_other_images_and_trainings_get_the_defaults(changed: dict) -> None:
    photos = {"section": SECTION, "size": (375, 500), "weights": "package", "device": "cpu"}
    found = settings_of(Start(name="mine", findings=[], num_train=800, **{**photos, **changed}))
    assert (found["augment"]["crop_on"], found["train"]["ema"]) == ("none", None)


def test_trainaug_of_voc_is_trained_on_where_it_is_there() -> None:
    draw("JPEGImages/f{}.jpg", "SegmentationClass/f{}.png", range(6))
    for name, numbers in {"train": range(2), "trainaug": range(4), "val": range(4, 6)}.items():
        write(f"ImageSets/Segmentation/{name}.txt", "".join(f"f{number}\n" for number in numbers))
    recipe = new_recipe()
    assert recipe.data.train == "trainaug"
    require_labels(recipe, 4, 2)
