"""Intervals over groups of images: drawn as a whole, counted by group, and said beside the numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.comparison.files import to_markdown
from engine.comparison.groups import GROUP_FILE, Groups, groups_of
from engine.comparison.runs import Method, ScoredRun
from engine.comparison.table import compare
from engine.recipe import Recipe
from engine.scoring.metrics import overlaps
from engine.scoring.run import Run
from engine.scoring.statistics import draws, mean_iou_interval
from tests.engine.comparison.conftest import MakeRun, counts


def test_a_copy_of_each_image_in_its_group_changes_no_interval() -> None:
    """Drawn one by one, 48 images that are 24 twice would have an interval narrower by the root of 2."""
    found = overlaps(counts(0.7, seed=0))
    twice = np.repeat(found, 2, axis=0)
    groups = Groups(np.repeat(np.arange(24), 2), r"(.+)_\d")
    once = mean_iou_interval(found, draws(24))
    assert mean_iou_interval(groups.summed(twice), draws(groups.number)) == pytest.approx(once)
    alone = mean_iou_interval(twice, draws(48))
    assert 1.2 < (once.high - once.low) / (alone.high - alone.low) < 1.6


def recipe_of(**data: object) -> Recipe:
    section = {"format": "folder", "root": "d", "classes": ["a", "b"], **data}
    return Recipe.model_validate({"name": "own", "data": section})


def test_the_pattern_is_that_of_the_folds_then_of_the_recipe_then_of_the_names(tmp_path: Path) -> None:
    ids = [f"{patient}{side}_{frame}" for patient in "abc" for side in "lr" for frame in range(3)]
    assert groups_of(recipe_of(), ids).number == 6
    by_recipe = recipe_of(folder={"val_share": 0.2, "group": "^(.)"})
    assert groups_of(by_recipe, ids).of_image.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    (tmp_path / GROUP_FILE).write_text("^.(.)\n")
    data = by_recipe.data.model_copy(update={"fold": str(tmp_path / "fold_0.txt")})
    found = groups_of(by_recipe.model_copy(update={"data": data}), ids)
    assert (found.number, found.pattern, found.unit) == (2, "^.(.)", "group")
    (tmp_path / GROUP_FILE).write_text("(.+)\n")
    assert groups_of(by_recipe.model_copy(update={"data": data}), ids).unit == "image"


def methods_in_groups(make_run: MakeRun, folder: Path, pattern: str) -> list[Method]:
    """Two methods, whose 24 images, image0 to image23, are one fold."""
    folder.mkdir()
    (folder / GROUP_FILE).write_text(pattern)
    methods = []
    for name, right in (("a", 0.5), ("b", 0.9)):
        run = ScoredRun.of(Run(make_run(name, right)))
        data = run.recipe.data.model_copy(update={"fold": str(folder / "fold_0.txt")})
        run = replace(run, recipe=run.recipe.model_copy(update={"data": data}))
        methods.append(Method(name, [replace(run, folds=(run,))]))
    return methods


def test_few_groups_have_no_interval_but_an_exact_statement(make_run: MakeRun, tmp_path: Path) -> None:
    """24 images would have one; the median of 10 groups is in their range with 1 - 2 / 2^10 = 99.8 %."""
    found = compare(methods_in_groups(make_run, tmp_path / "folds", r"(image\d)"))
    assert (found.num_images, found.unit) == (24, "group")
    assert np.isnan(found.methods[1].gap.low) and np.isnan(found.methods[0].interval.low)
    [note] = [note for note in found.notes if note.startswith("b: ")]
    assert "Only 10 groups were scored" in note and "all such groups" in note and "99.8 %" in note
    text = to_markdown(found)
    assert "| 95 %, groups |" in text and r"10 groups of images by the pattern (image\d)" in text


def test_an_interval_over_groups_is_named_so(make_run: MakeRun, tmp_path: Path) -> None:
    found = compare(methods_in_groups(make_run, tmp_path / "folds", r"image2?(.+)"))
    assert found.unit == "group"
    low, high = found.methods[0].interval
    assert low < found.methods[0].values[0] < high
    assert "(groups only: one seed" in found.methods[1].verdict
