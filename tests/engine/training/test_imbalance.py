"""The use of class counts in a training: the cache, class weights, the sampler, and advice."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.data.class_counts import ClassCounts, count_classes
from engine.data.class_weights import SCHEMES, class_weights
from engine.data.formats.files import FileDataset
from engine.data.formats.voc import open_voc
from engine.data.order import SampleOrder, WeightedOrder
from engine.recipe import Recipe, load_recipe
from engine.training.distributed import Process
from engine.training.imbalance import MOST_NAMED, advice, count_labels, decided, training_order
from losses import build_loss

ALONE = Process(0, 1, torch.device("cpu"))
NAMES = ("ground", "plant", "leaf", "bug")
COUNTS = ClassCounts(np.array([[60, 40, 0, 0], [90, 0, 10, 0], [50, 50, 0, 0], [100, 0, 0, 0]]), np.zeros(4))
RARE = ClassCounts(np.array([[9_900, 95, 5, 0], [9_900, 100, 0, 0]]), np.zeros(2))
MEDIAN = [0.295082, 0.491803, 2.213115, 1.0]  # computed in tests/engine/data/test_class_weights.py


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture
def recipe_of(tmp_path) -> Callable[..., Recipe]:
    """A recipe with these lines and overrides."""

    def load(*overrides: str, text: str = "{}") -> Recipe:
        path = tmp_path / "some.yaml"
        path.write_text(text)
        return load_recipe(path, overrides)

    return load


@pytest.fixture
def train(voc_folder):
    return open_voc(voc_folder, "train")


def same(one: ClassCounts, two: ClassCounts) -> bool:
    return np.array_equal(one.pixels, two.pixels) and np.array_equal(one.void, two.void)


def test_labels_are_scanned_once_and_then_cached(train, voc_folder, monkeypatch):
    first, notes = count_labels(train, str(voc_folder), ALONE, quiet, keep=True)
    assert notes == [] and same(first, count_classes(train, quiet))
    monkeypatch.setattr(FileDataset, "labels", lambda *_: pytest.fail("read again"))
    again, _ = count_labels(open_voc(voc_folder, "train"), str(voc_folder), ALONE, quiet, keep=True)
    assert same(again, first)


def test_counts_are_not_cached_if_not_requested(train, voc_folder):
    before = sorted(voc_folder.rglob("*"))
    asked, notes = count_labels(train, str(voc_folder), ALONE, quiet, keep=False)
    nowhere, _ = count_labels(train, None, ALONE, quiet, keep=True)
    assert same(asked, nowhere) and notes == []
    assert sorted(voc_folder.rglob("*")) == before


def test_a_data_folder_that_cannot_be_written_gives_a_note_not_an_error(train, voc_folder):
    (voc_folder / ".trident").write_text("a file where the folder should be")
    counts, notes = count_labels(train, str(voc_folder), ALONE, quiet, keep=True)
    assert same(counts, count_classes(train, quiet))
    assert len(notes) == 1 and str(voc_folder / ".trident") in notes[0]


def test_a_scheme_becomes_numbers_in_the_loss_and_the_recipe(recipe_of, tmp_path):
    asked = recipe_of("loss.0.class_weights=median")
    recipe, notes = decided(asked, COUNTS, NAMES)
    assert recipe.loss[0].class_weights == MEDIAN
    assert recipe.data.sampler == "uniform"
    assert asked.loss[0].class_weights == "median"
    assert notes == [
        "class weights of cross_entropy (median): ground 0.295, plant 0.492, leaf 2.21; "
        "1 for those without a pixel: bug"
    ]
    assert build_loss(recipe.loss, 4).terms["loss_ce"].class_weights.tolist() == pytest.approx(MEDIAN)
    saved = tmp_path / "saved.yaml"
    saved.write_text(recipe.to_yaml())
    assert load_recipe(saved) == recipe
    assert decided(load_recipe(saved), RARE, NAMES) == (recipe, [])  # other counts no longer change them


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_a_value_of_the_recipe(recipe_of, scheme):
    recipe, notes = decided(recipe_of(f"loss.0.class_weights={scheme}"), COUNTS, NAMES)
    assert recipe.loss[0].class_weights == class_weights(scheme, COUNTS)
    assert f"({scheme})" in notes[0]


@pytest.mark.parametrize("value", ["none", "[1, 2, 3, 4.5]"])
def test_weights_that_are_not_a_scheme_are_unchanged(recipe_of, value):
    recipe = recipe_of(f"loss.0.class_weights={value}", "data.sampler=uniform")
    assert decided(recipe, COUNTS, NAMES) == (recipe, [])


def test_the_sampler_auto_is_decided_by_the_shares(recipe_of, tmp_path):
    recipe, notes = decided(recipe_of(), COUNTS, NAMES)
    assert (recipe.data.sampler, notes) == ("uniform", [])
    recipe, notes = decided(recipe_of(), RARE, NAMES)
    assert recipe.data.sampler == "rare"
    assert notes == [
        "sampler auto: rare, as 2 of the 3 classes present have under 1 % of the labelled training pixels: "
        "leaf 0.025 %, plant 0.97 %"
    ]
    (tmp_path / "saved.yaml").write_text(recipe.to_yaml())
    assert decided(load_recipe(tmp_path / "saved.yaml"), COUNTS, NAMES)[0].data.sampler == "rare"
    assert decided(recipe_of("data.sampler=uniform"), RARE, NAMES)[0].data.sampler == "uniform"


def test_crops_on_rare_classes_are_decided_once(recipe_of, tmp_path):
    recipe, notes = decided(recipe_of("augment.crop_on=rare", "data.sampler=uniform"), RARE, NAMES)
    assert recipe.augment.crop_on == [2, 1]  # rarest first
    assert len(notes) == 1 and notes[0].startswith("crops are redrawn for rare classes: 2 of the 3 classes")
    assert notes[0].endswith(": leaf 0.025 %, plant 0.97 %")
    (tmp_path / "saved.yaml").write_text(recipe.to_yaml())
    assert decided(load_recipe(tmp_path / "saved.yaml"), COUNTS, NAMES) == (recipe, [])
    recipe, notes = decided(recipe_of("augment.crop_on=rare"), COUNTS, NAMES)
    assert recipe.augment.crop_on == [] and "no class is rare" in notes[-1]


def test_crops_on_a_class_that_no_training_image_has_are_named(recipe_of) -> None:
    absent = ClassCounts(np.array([[90, 10, 0]]), np.array([0]))
    recipe, notes = decided(recipe_of("augment.crop_on=[2,1]", "data.sampler=uniform"), absent, NAMES)
    assert recipe.augment.crop_on == [2, 1]
    assert notes == [f"augment.crop_on has no effect for {NAMES[2]}: no training image has a pixel of it"]


@pytest.mark.parametrize("sampler", ["auto", "rare", "uniform"])
@pytest.mark.parametrize("crop_on", ["none", "rare"])
def test_rare_classes_are_listed_once_at_the_start_of_a_run(recipe_of, sampler: str, crop_on: str) -> None:
    asked = recipe_of(f"data.sampler={sampler}", f"augment.crop_on={crop_on}")
    recipe, notes = decided(asked, RARE, NAMES)
    told = "\n".join([*notes, *advice(recipe, RARE, NAMES, asked)])
    assert told.count("leaf 0.025 %") == told.count("plant") == 1
    assert ("crops are" in told) == (crop_on == "rare")
    assert ("augment.crop_on=rare" in told) == (crop_on == "none")


def test_the_sampler_follows_the_recipe(recipe_of):
    order, notes = training_order(recipe_of("train.batch=4", "seed=9", "data.sampler=uniform"), COUNTS)
    assert order == SampleOrder(4, 4, 9) and type(order) is SampleOrder and notes == []
    order, notes = training_order(recipe_of("train.batch=4", "seed=9", "data.sampler=rare"), COUNTS)
    assert isinstance(order, WeightedOrder) and (order.num_samples, order.batch, order.seed) == (4, 4, 9)
    draws = [draw.index for step in range(100) for draw in order.update(step)]
    assert draws.count(1) > 150 > draws.count(3)  # leaf is in image 1 alone, image 3 has only ground
    assert notes[0].startswith("sampler rare: an image is drawn 0.")


def test_rare_classes_are_named_with_overrides_that_work(recipe_of):
    output = advice(recipe_of("data.sampler=uniform"), RARE, NAMES)
    assert "2 of the 3 classes present have under 1 %" in output[0]
    assert output[0].index("leaf 0.025 %") < output[0].index("plant 0.97 %")
    assert "bug" not in "".join(output) and "ground" not in "".join(output)
    overrides = re.findall(r"\b[a-z_.0-9]+=[a-z]+", "\n".join(output))
    assert overrides == ["data.sampler=rare", "augment.crop_on=rare"]
    assert advice(recipe_of(*overrides), RARE, NAMES) == []
    in_a_recipe = recipe_of(text="\n".join(re.findall(r"`(.*)`", "\n".join(output))))
    assert (in_a_recipe.data.sampler, in_a_recipe.augment.crop_on) == ("rare", "rare")


def test_only_remedies_that_are_not_in_use_are_named(recipe_of):
    output = "\n".join(advice(recipe_of("data.sampler=rare"), RARE, NAMES))
    assert "augment.crop_on=rare" in output and "data.sampler" not in output
    for crops in ("rare", "[3]"):
        output = "\n".join(advice(recipe_of(f"augment.crop_on={crops}", "data.sampler=uniform"), RARE, NAMES))
        assert "data.sampler=rare" in output and "crop_on" not in output
    with_weights = recipe_of("loss.0.class_weights=median", "data.sampler=rare", "augment.crop_on=rare")
    assert advice(with_weights, RARE, NAMES) == []


def test_without_rare_classes_there_is_no_note(recipe_of):
    assert advice(recipe_of(), COUNTS, NAMES) == []


def test_of_many_rare_classes_the_rarest_are_named(recipe_of):
    names = tuple(f"class{number:02d}" for number in range(20))
    counts = ClassCounts(np.array([[1_000_000, *range(19, 0, -1)]]), np.zeros(1))
    output = advice(recipe_of(), counts, names)[0]
    assert re.findall(r"class\d\d", output) == [f"class{n:02d}" for n in range(19, 19 - MOST_NAMED, -1)]
    assert f"and {19 - MOST_NAMED} more" in output
