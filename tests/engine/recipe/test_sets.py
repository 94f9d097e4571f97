"""A list of sets as `data`: one section with further ones, with the places of its mistakes."""

from pathlib import Path

import pytest

from engine.recipe import Recipe, RecipeError, load_recipe
from engine.recipe.differences import changes, explain

TWO = """\
data:
  - {root: /a/voc, train: train, weight: 3}
  - format: folder
    root: /b/my photos
    classes: [background, couch]
    weight: 1
    map: {couch: sofa, other: void}
"""


def recipe_of(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(text)
    return load_recipe(path, overrides)


def mistakes_of(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe_of(folder, text, *overrides)
    return str(caught.value)


def test_a_list_is_a_section_with_further_sets(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, TWO)
    [further] = recipe.data.also
    assert (recipe.data.root, recipe.data.name, recipe.data.weight) == ("/a/voc", "voc", 3)
    assert (further.root, further.name, further.weight) == ("/b/my photos", "my_photos", 1)
    assert further.map == {"couch": "sofa", "other": "void"}
    places = {key: place for key, _, place in explain(recipe)}
    assert places["data.root"].endswith("r.yaml:2")
    assert places["data.also.0.map.other"].endswith("r.yaml:7")
    assert recipe_of(tmp_path, recipe.to_yaml()) == recipe


def test_the_first_without_a_map_has_the_classes(tmp_path: Path) -> None:
    turned = recipe_of(
        tmp_path,
        "data: [{format: folder, root: b, classes: [x, couch], map: {x: void, couch: sofa}}, {root: a}]",
    )
    assert (turned.data.root, [further.root for further in turned.data.also]) == ("a", ["b"])
    text = mistakes_of(tmp_path, "data: [{root: a, map: {cat: dog}}, {root: b, map: {cat: dog}}]")
    assert "every set has a map" in text


def test_the_written_form_and_an_override_are_the_same(tmp_path: Path) -> None:
    one = recipe_of(tmp_path, "data: {root: a, also: [{root: b}]}")
    assert one == recipe_of(tmp_path, "data: [{root: a}, {root: b}]")
    assert one == recipe_of(tmp_path, "seed: 0", "data=[{root: a}, {root: b}]")
    alone = recipe_of(tmp_path, "data: [{root: a}]")
    assert alone == recipe_of(tmp_path, "data: {root: a}")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data: [{root: a, weight: 1}, {root: b, weight: 0}]", ["data.also.0.weight", "more than 0"]),
        ("data: [{root: a, weight: 1}, {root: b, weight: -2}]", ["data.also.0.weight", "more than 0"]),
        ("data: [{root: a}, {root: b, weight: 2}]", ["data.weight", "data.weight=1"]),
        ("data: [{root: a}, {root: x/a}]", ["data.also.0.name", "data.also.0.name=a2"]),
        ("data: [{root: a}, {root: b, bands: 4}]", ["data.also.0.bands", "did you mean data.bands"]),
        ("data: [{root: a}, {root: b, train: null, val: null}]", ["data.also.0.val", "leave it out"]),
        ("data: [{root: a}, {root: b, mapp: {}}]", ["data.also.0.mapp", "did you mean map"]),
        ("data: [{root: a}, {root: b, name: x/y}]", ["data.also.0.name"]),
        ("data: [{root: a}, {root: b, name: ..}]", ["data.also.0.name"]),
        ("data: []", ["data", "expected a section"]),
        ("data: [voc21, {root: a}]", ["data", "expected a section"]),
    ],
)
def test_mistakes_are_named_with_their_key(tmp_path: Path, text: str, parts: list[str]) -> None:
    found = mistakes_of(tmp_path, text)
    for part in parts:
        assert part in found


def test_a_remedy_for_missing_weights_is_enough(tmp_path: Path) -> None:
    text = "data: [{root: a}, {root: b, weight: 2}, {root: c, train: null}]"
    assert recipe_of(tmp_path, text, "data.weight=1").data.weight == 1


def test_where_a_further_set_is_never_changes_the_training(tmp_path: Path) -> None:
    before = recipe_of(tmp_path, TWO)
    moved = recipe_of(tmp_path, TWO, "data.also.0.root=/c/photos", "data.also.0.name=my_photos")
    other = recipe_of(tmp_path, TWO, "data.also.0.map.couch=void")
    assert not changes(before, moved)
    assert [change.key for change in changes(before, other)] == ["data.also.0.map.couch"]
