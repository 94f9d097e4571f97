"""`trident recipes`: the table, and a copy that works in any folder."""

from pathlib import Path

import pytest

from engine.recipe import load_stages, shipped_recipes
from engine.recipes import main


def test_the_table_has_each_recipe_with_what_its_header_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    cells: dict[str, list[str]] = {}
    for name, *texts in rows:  # a recipe takes several lines, the first of which has its name
        if name.strip():
            of_recipe = cells[name.strip()] = [""] * len(texts)
        of_recipe[:] = [f"{told} {text.strip()}".strip() for told, text in zip(of_recipe, texts, strict=True)]
    assert list(cells) == list(shipped_recipes())
    what, score, time = cells["demo"]
    assert what.startswith("SegFormer-B0 from random weights") and "mIoU" in score and "minutes" in time
    assert cells["b2_ce"][1:] == ["", ""]  # not measured yet


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_copy_is_the_same_recipe_anywhere(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name]) == 0
    copy = tmp_path / "my.yaml"
    copy.write_text(capsys.readouterr().out)
    assert load_stages(copy, ["name=x"]) == load_stages(name, ["name=x"])
    schema = copy.read_text().splitlines()[0].partition("$schema=")[2]
    assert Path(schema).is_file()


def test_the_error_for_an_unknown_name_suggests_a_similar_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["b2_avd"]) == 2
    assert "did you mean b2_adv?" in capsys.readouterr().err
