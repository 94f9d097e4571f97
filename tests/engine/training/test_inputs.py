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


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_unreadable_mask_does_not_end_the_search_for_a_label(
    recipe: Path, tmp_path: Path, on_error: str
) -> None:
    """The first mask is damaged, and the others are void until the last one has a label."""
    damaged, *others, last = sorted(
        tmp_path / f"voc/SegmentationClass/{id:06d}.png" for id in (100, 101, 102)
    )
    labelled = last.read_bytes()
    damaged.write_bytes(labelled[:60])
    for path in (*others, last):
        save(path, np.full((SIDE, SIDE), 255, np.uint8))
    with pytest.raises(DataError, match="'val' has no labelled pixel") as caught:
        opened(recipe, f"data.on_error={on_error}", "data.select=train")
    assert "checkpoint" not in str(caught.value)  # they are chosen on data.select
    last.write_bytes(labelled)
    assert len(opened(recipe, f"data.on_error={on_error}").val) == 3
    for path in (*others, last):
        path.write_bytes(labelled[:60])
    assert len(opened(recipe, f"data.on_error={on_error}").val) == 3  # reported where they are read
