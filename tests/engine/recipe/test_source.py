"""Reading recipes: the source of each value, unreadable files, `base:` chains, merging and overrides."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recipe import load_recipe
from engine.recipe.source import Document, find_recipe, read_recipe, shipped_recipes
from engine.recipe.text import RecipeError


def read(folder: Path, text: str, *overrides: str, defaults: dict[str, Any] | None = None) -> Document:
    (folder / "r.yaml").write_text(text)
    return read_recipe(folder / "r.yaml", overrides, defaults or {})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("train:\n  batch: [1, 2\nseed: 1\n", "r.yaml:3:5"),
        ("train:\n\tbatch: 1\n", "r.yaml:2:1"),
        ("a: 1\n b: 2\n", "r.yaml:2:3"),
        ("a: 'x\n", "r.yaml:2:1"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2:1"),
        ("a: *nowhere\n", "r.yaml:1:4"),
        ("a: \x01\n", "r.yaml"),
    ],
)
def test_broken_yaml_names_line_and_column(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(RecipeError, match="not valid YAML") as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/{place}: ")


def test_duplicate_keys_name_both_lines(tmp_path: Path) -> None:
    document = read(tmp_path, "train:\n  batch: 1\n  steps: 2\n  batch: 3\nseed: 1\nseed: 2\n")
    file = tmp_path / "r.yaml"
    assert document.problems == [
        f"{file}:4: duplicate key `train.batch`, which is already at {file}:2; keep one",
        f"{file}:6: duplicate key `seed`, which is already at {file}:5; keep one",
    ]


@pytest.mark.parametrize(
    "text", ["a: &x [*x]", "a: &x {b: *x}", "? [1]\n: 2", "a: !!python/name:os.system x", "a: !!int b"]
)
def test_unsupported_yaml_is_a_mistake_with_its_line(tmp_path: Path, text: str) -> None:
    document = read(tmp_path, f"seed: 1\n{text}\n")
    assert len(document.problems) == 1
    assert document.problems[0].startswith(f"{tmp_path / 'r.yaml'}:2: ")


def test_every_value_has_its_line(tmp_path: Path) -> None:
    document = read(tmp_path, "name: x\nloss:\n  - name: dice\n    weight: 2\ndata: {root: a,\n  val: b}\n")
    lines = {path: source.removeprefix(f"{tmp_path}/") for path, source in document.sources.items() if path}
    assert lines == {
        ("name",): "r.yaml:1",
        ("loss",): "r.yaml:2",
        ("loss", 0): "r.yaml:3",
        ("loss", 0, "name"): "r.yaml:3",
        ("loss", 0, "weight"): "r.yaml:4",
        ("data",): "r.yaml:5",
        ("data", "root"): "r.yaml:5",
        ("data", "val"): "r.yaml:6",
    }


def test_empty_file_holds_nothing_but_its_name(tmp_path: Path) -> None:
    document = read(tmp_path, "# only a comment\n")
    assert document.values == {"name": "r"}
    assert document.sources["name",] == "file name"


@pytest.mark.parametrize("text", ["- a\n", "3\n", "just words\n"])
def test_a_file_that_is_not_a_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="made of `key: value` lines"):
        read(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(RecipeError, match=r"latin\.yaml: not a text file in UTF-8"):
        read_recipe(tmp_path / "latin.yaml", [], {})
    with pytest.raises(RecipeError, match="is a folder, not a recipe file.* trident new"):
        read_recipe(tmp_path, [], {})


def test_the_error_for_a_missing_file_lists_the_recipes_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"no recipe file .*b2_avd.yaml; did you mean b2_adv\?.* b2_adv, b2_ce"
    ):
        read_recipe(tmp_path / "b2_avd.yaml", [], {})  # the shipped one
    (tmp_path / "b2_adv.yaml").touch()
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(RecipeError) as error:
        read_recipe(tmp_path / "b2_avd", [], {})
    assert f"no recipe file {tmp_path}/b2_avd; did you mean {tmp_path}/b2_adv.yaml?" in str(error.value)
    assert f"Recipes in {tmp_path}: b2_adv.yaml, demo.yaml." in str(error.value)
    with pytest.raises(RecipeError, match=r"the folder .*/nowhere does not exist"):
        read_recipe(tmp_path / "nowhere" / "x.yaml", [], {})


def test_a_name_is_a_file_first_and_then_a_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = shipped_recipes()["b2_adv"]
    assert find_recipe("b2_adv") == shipped
    assert read_recipe("b2_adv", [], {}).values["adversarial"]["weight"] == 0.01
    (tmp_path / "b2_adv").mkdir()  # such as a run folder
    assert find_recipe("b2_adv") == shipped
    (tmp_path / "b2_adv.yaml").write_text("seed: 5\n")
    assert find_recipe("b2_adv") == Path("b2_adv.yaml")
    assert find_recipe("b2_ce.yaml") == Path("b2_ce.yaml")  # a file name is never another file's
    with pytest.raises(RecipeError, match=r"no recipe file b2_ce\.yaml; did you mean b2_ce\?"):
        read_recipe("b2_ce.yaml", [], {})


def test_base_may_be_a_shipped_recipe_unless_there_is_a_file_of_that_name(tmp_path: Path) -> None:
    shipped = shipped_recipes()["b2_ce_dice"]
    for base in ("b2_ce_dice.yaml", "b2_ce_dice"):
        assert str(shipped) in read(tmp_path, f"base: {base}\n").sources["train", "batch"]
    (tmp_path / "b2_ce_dice.yaml").write_text("train: {batch: 3}\n")
    for base in ("b2_ce_dice.yaml", "b2_ce_dice"):
        assert read(tmp_path, f"base: {base}\n").values["train"] == {"batch": 3}


def test_base_merges_sections_and_replaces_lists(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "root.yaml").write_text(
        "name: root\ntrain: {steps: 5, batch: 4}\nloss: [{name: dice}]\nadversarial: {lr: 1}"
    )
    (tmp_path / "deep/mid.yaml").write_text(
        "base: ../root.yaml\nname: mid\ntrain: {steps: 6}\nadversarial: null\n"
    )
    document = read(
        tmp_path, "base: deep/mid.yaml\nloss:\n- {name: a, weight: 1}\n- {name: b}\ntrain:\n  ema: 0.9\n"
    )
    assert document.values == {
        "name": "r",  # never inherited: two recipes must not share a run folder
        "train": {"steps": 6, "batch": 4, "ema": 0.9},
        "loss": [{"name": "a", "weight": 1}, {"name": "b"}],
        "adversarial": None,
    }
    places = {path: source.removeprefix(f"{tmp_path}/") for path, source in document.sources.items()}
    assert places["train", "steps"] == "deep/mid.yaml:3"
    assert places["train", "batch"] == "root.yaml:2"
    assert places["train", "ema"] == "r.yaml:6"
    assert places["adversarial",] == "deep/mid.yaml:4"
    assert ("adversarial", "lr") not in places
    assert "base" not in document.values


def test_errors_of_base_name_the_line_of_base(tmp_path: Path) -> None:
    (tmp_path / "rood.yaml").touch()
    with pytest.raises(
        RecipeError, match=r"r\.yaml:2: base: no recipe file .*/root\.yaml; did you mean .*/rood\.yaml"
    ):
        read(tmp_path, "seed: 1\nbase: root.yaml\n")
    with pytest.raises(
        RecipeError, match=r"r\.yaml:1: base: expected the name of one recipe file, got \['a', 'b'\]"
    ):
        read(tmp_path, "base: [a, b]\n")
    with pytest.raises(RecipeError, match=r"r\.yaml:1: base goes in a circle: .*/r\.yaml -> .*/r\.yaml$"):
        read(tmp_path, "base: ./r.yaml\n")
    (tmp_path / "a.yaml").write_text("base: r.yaml\n")
    with pytest.raises(RecipeError, match=r"a\.yaml:1: .*circle: .*/r\.yaml -> .*/a\.yaml -> .*/r\.yaml$"):
        read(tmp_path, "base: a.yaml\n")
    (tmp_path / "a.yaml").write_text("x: [")
    with pytest.raises(RecipeError, match=r"a\.yaml:1:\d+: not valid YAML"):
        read(tmp_path, "base: a.yaml\n")


SECTIONS = st.dictionaries(
    st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xy"), st.integers())
)


@given(SECTIONS, SECTIONS)
def test_each_value_is_that_of_the_last_file_that_sets_it(
    lower: dict[str, Any], upper: dict[str, Any]
) -> None:
    merged = Document(*_tagged(lower, "lower"), [])
    merged.merge(Document(*_tagged(upper, "upper"), []))
    expected = {
        key: {**lower[key], **upper[key]}
        if isinstance(lower.get(key), dict) and isinstance(upper.get(key), dict)
        else upper.get(key, lower.get(key))
        for key in {**lower, **upper}
    }
    assert merged.values == expected
    leaves = {path for path in merged.sources if len(path) == 2 or not isinstance(expected[path[0]], dict)}
    assert leaves == {(k, n) for k, v in expected.items() if isinstance(v, dict) for n in v} | {
        (k,) for k, v in expected.items() if not isinstance(v, dict)
    }
    for path in leaves:
        in_upper = path[0] in upper and (len(path) == 1 or path[1] in _section(upper[path[0]]))
        assert merged.sources[path] == ("upper" if in_upper else "lower")


def _section(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _tagged(values: dict[str, Any], tag: str) -> tuple[dict[str, Any], dict[tuple[str | int, ...], str]]:
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    below = {(key, name): tag for key, value in values.items() for name in _section(value)}
    return copy, {**{(key,): tag for key in values}, **below}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.batch=8", "train", {"batch": 8, "steps": 5}),
        ("train.ema=.999", "train", {"batch": 4, "steps": 5, "ema": 0.999}),
        ("train={batch: 8}", "train", {"batch": 8, "steps": 5}),
        ("train.steps=12 epochs", "train", {"batch": 4, "steps": "12 epochs"}),
        ("loss.0.weight=2", "loss", [{"name": "dice", "weight": 2}]),
        ("loss=[{name: x}]", "loss", [{"name": "x"}]),
        ("scale.1=1e-1", "scale", [1, 0.1]),
        ("adversarial=null", "adversarial", None),
        ("adversarial=", "adversarial", None),
        ("new.section.key=a=b", "new", {"section": {"key": "a=b"}}),
        ("off.weight=1", "off", {"weight": 1}),
        (" seed =3", "seed", 3),
    ],
)
def test_overrides(tmp_path: Path, override: str, key: str, value: Any) -> None:
    text = (
        "train: {batch: 4, steps: 5}\nloss: [{name: dice}]\nscale: [1, 2]\nadversarial: {lr: 1}\noff: null\n"
    )
    document = read(tmp_path, text, override)
    assert document.values[key] == value
    assert document.problems == []
    assert f"override {override}" in document.sources.values()


def test_later_overrides_win_and_leave_no_stale_source(tmp_path: Path) -> None:
    document = read(tmp_path, "adversarial: {lr: 1, weight: 2}\n", "adversarial=null", "adversarial.lr=3")
    assert document.values["adversarial"] == {"lr": 3}
    assert document.sources["adversarial", "lr"] == "override adversarial.lr=3"
    assert ("adversarial", "weight") not in document.sources


def test_an_override_reaches_into_a_list_that_only_the_defaults_have(tmp_path: Path) -> None:
    defaults = {"loss": [{"name": "ce"}, {"name": "dice"}], "eval": {"scales": [1.0]}}
    document = read(tmp_path, "", "loss.1.weight=2", "eval.scales.0=0.5", defaults=defaults)
    assert document.values["loss"] == [{"name": "ce"}, {"name": "dice", "weight": 2}]
    assert document.values["eval"] == {"scales": [0.5]}
    assert defaults == {"loss": [{"name": "ce"}, {"name": "dice"}], "eval": {"scales": [1.0]}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batch", "expected key.path=value, for example train.batch=8"),
        ("=3", "expected key.path=value"),
        ("train..batch=3", "expected key.path=value"),
        ("seed=[1", "not valid YAML"),
        ("data.root=@home", "put text with special characters in quotes: root='\"...\"'"),
        ("loss.1.weight=2", "loss is a list; its places are: 0"),
        ("loss.-1.weight=2", "loss is a list; its places are: 0"),
        ("loss.dice=2", "loss is a list; its places are: 0"),
        ("seed.x=2", "seed is a single value, it has no `x`"),
        ("base=other.yaml", "base is for files; give another recipe file to the command instead"),
        ("train={batch: 1, batch: 2}", "duplicate key `batch`"),
    ],
)
def test_invalid_overrides_are_collected(tmp_path: Path, override: str, message: str) -> None:
    document = read(tmp_path, "seed: 1\nloss: [{name: dice}]\n", override, "seed=x")
    assert len(document.problems) == 1
    assert document.problems[0].startswith(f"override {override}: ")
    assert message in document.problems[0]
    assert document.values["seed"] == "x"  # values after the mistake are still read


def test_a_tilde_is_the_home_folder_in_every_key_that_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base.yaml").write_text("model: {weights: ~/weights.pth}\noutput: {dir: ~/runs}\n")
    (tmp_path / "own.yaml").write_text("base: ~/base.yaml\ndistill: {teacher: ~/teacher}\n")
    typed = ["data.root=~/data", "data.fold=~/fold.txt", "data.unlabelled.root=~/more"]
    recipe = load_recipe("~/own.yaml", typed)
    assert (recipe.model.weights, recipe.output.dir) == (f"{tmp_path}/weights.pth", f"{tmp_path}/runs")
    assert (recipe.distill.teacher, recipe.data.root) == (f"{tmp_path}/teacher", f"{tmp_path}/data")
    assert (recipe.data.fold, recipe.data.unlabelled.root) == (f"{tmp_path}/fold.txt", f"{tmp_path}/more")
    typed = ["data.root=~/data", "data.also=[{root: ~/a, classes: voc21}]"]
    assert load_recipe("~/own.yaml", typed).data.also[0].root == f"{tmp_path}/a"


def test_three_dots_copied_from_a_page_are_no_value() -> None:
    document = read_recipe("demo", ["data.root=..."], {})
    assert document.problems == ["override data.root=...: ... stands for a value of yours; type that instead"]
