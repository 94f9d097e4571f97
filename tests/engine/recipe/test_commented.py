"""A complete recipe with comments is the same recipe."""

from pathlib import Path

import pytest

from engine.recipe import load_recipe
from engine.recipe.commented import commented
from engine.recipe.source import shipped_recipes


@pytest.mark.parametrize("name", ["demo", "b2_adv", "dpt_vit"])
def test_it_reads_back_as_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(shipped_recipes()[name])
    text = commented(recipe, ["above", "all: of it"])
    (tmp_path / "copy.yaml").write_text(text)
    assert load_recipe(tmp_path / "copy.yaml") == recipe
    lines = text.splitlines()
    assert lines[:3] == ["# above", "# all: of it", ""]
    for key in recipe.to_dict():
        place = next(number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
        assert lines[place - 1].startswith("# ") and lines[place - 2] == ""
