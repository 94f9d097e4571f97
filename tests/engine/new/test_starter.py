"""The recipe that is written opens and trains."""

from pathlib import Path

import pytest

from engine.doctor import main as doctor
from engine.recipe import load_recipe
from engine.recipe.starter import Start, starter_text
from engine.run import main as run
from tests.engine.new.drawn import new_recipe, two_splits


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
