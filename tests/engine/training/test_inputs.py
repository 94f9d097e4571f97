"""The inputs of a training are refused where a split that is to be scored has no labelled pixel."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data import DataError
from engine.recipe import load_recipe
from engine.training.distributed import Process
from engine.training.inputs import Inputs, open_inputs
from tests.drawn_sets import SIDE, save, three_sets

ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(three_sets(tmp_path) + "model: {arch: segformer, variant: b0, from_scratch: true}\n")
    return path


def opened(recipe: Path, *overrides: str) -> Inputs:
    return open_inputs(load_recipe(recipe, overrides), ALONE)


def test_a_further_set_whose_scored_masks_are_void_is_refused_by_its_own_keys(
    recipe: Path, tmp_path: Path
) -> None:
    assert opened(recipe).further.keys() == {"coco", "lorries"}
    with pytest.raises(DataError, match=r"^set coco: Split 'val' has no .*data\.also\.0\.val,.*also\.0\.map"):
        opened(recipe, "data.also.0.map={background: void, cat: void, couch: void}")
    for path in tmp_path.glob("lorries/val/masks/*.png"):
        save(path, np.full((SIDE, SIDE), 7, np.uint8))
    with pytest.raises(DataError, match=r"^set lorries: Split 'val' has no .*data\.also\.1\.val"):
        opened(recipe)
    assert opened(recipe, "data.also.1.val=train").further.keys() == {"coco", "lorries"}
