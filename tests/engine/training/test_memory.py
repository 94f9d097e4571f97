"""Which setting needs less memory, and which errors are those of a full memory."""

from typing import Any

import pytest
from torch import nn

from engine.recipe import load_recipe
from engine.scoring.protocols import EvaluationProtocol
from engine.training.memory import naming_out_of_memory, smaller_update, smaller_views
from tests.engine.tiny_run import RECIPE

NORM, FREE = nn.BatchNorm2d(2), nn.Conv2d(1, 1, 1)


@pytest.mark.parametrize(
    ("model", "num_processes", "batch", "accumulate", "expected"),
    [
        (FREE, 1, 16, 1, ["train.accumulate=2"]),
        (FREE, 1, 15, 3, ["train.accumulate=5"]),
        (FREE, 1, 7, 1, ["train.accumulate=7"]),
        (NORM, 1, 16, 4, ["train.accumulate=8"]),
        (NORM, 1, 7, 1, ["train.batch=3"]),  # 7 parts would leave one image
        (NORM, 1, 9, 3, ["train.batch=6"]),
        (NORM, 2, 6, 1, ["train.batch=4"]),  # 3 images a process
        (FREE, 2, 12, 2, ["train.accumulate=3"]),
        (NORM, 1, 2, 1, ["augment.crop=224"]),
        (FREE, 4, 4, 1, ["augment.crop=224"]),
    ],
)
def test_more_parts_come_before_a_smaller_batch_and_that_before_a_smaller_crop(
    model: nn.Module, num_processes: int, batch: int, accumulate: int, expected: list[str]
) -> None:
    lines = [f"train.batch={batch}", f"train.accumulate={accumulate}", "augment.crop=480"]
    found = smaller_update(load_recipe(RECIPE, lines), model, num_processes)
    assert found == expected
    train = load_recipe(RECIPE, [*lines, *found]).train
    assert int(train.batch) % (num_processes * int(train.accumulate)) == 0


def test_an_update_that_is_as_small_as_can_be_has_no_remedy() -> None:
    assert smaller_update(load_recipe(RECIPE, ["train.batch=1", "augment.crop=32"]), FREE, 1) == []
    # Too large for a smaller crop:
    large_folds = [
        "train.batch=1",
        "augment.crop=480",
        "augment.elastic=20",
    ]
    assert smaller_update(load_recipe(RECIPE, large_folds), FREE, 1) == []


def test_a_frozen_batchnorm_needs_no_two_images() -> None:
    recipe = load_recipe(RECIPE, ["train.batch=2"])
    assert smaller_update(recipe, nn.BatchNorm2d(2).eval(), 1) == ["train.accumulate=2"]


def test_a_recorded_update_has_one_part_so_more_parts_are_not_recorded() -> None:
    lines = ["train.batch=4", "train.compile=max"]
    found = smaller_update(load_recipe(RECIPE, lines), FREE, 1)
    assert found == ["train.accumulate=2", "train.compile=true"]
    load_recipe(RECIPE, [*lines, *found])


@pytest.mark.parametrize(
    ("protocol", "size", "expected"),
    [
        ({}, (1000, 2000), ["eval.protocol=slide", "eval.window=512", "eval.stride=384"]),
        ({"scales": (0.5, 1.0, 2.0)}, (300, 400), ["eval.scales=[0.5,1]"]),
        ({"scales": (2.0,)}, (300, 400), ["eval.scales=[1]"]),
        ({}, (300, 400), ["eval.protocol=slide", "eval.window=128", "eval.stride=96"]),
        ({"name": "slide"}, (1000, 2000), ["eval.protocol=slide", "eval.window=256", "eval.stride=192"]),
        ({"name": "centercrop"}, (900, 900), ["eval.protocol=slide", "eval.window=256", "eval.stride=192"]),
        ({}, (64, 64), []),
    ],
)
def test_the_largest_view_has_at_most_half_the_pixels(
    protocol: dict[str, Any], size: tuple[int, int], expected: list[str]
) -> None:
    assert smaller_views(EvaluationProtocol(**protocol), size) == expected
    if expected:
        changed = EvaluationProtocol.of(load_recipe(RECIPE, expected).eval)
        pixels = [max(view.size[0] * view.size[1] for view in one.views(*size))
                  for one in (EvaluationProtocol(**protocol), changed)]  # fmt: skip
        assert 2 * pixels[1] <= pixels[0]


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("a")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, naming_out_of_memory(lambda: "full"):
        raise error
    assert caught.value is error
