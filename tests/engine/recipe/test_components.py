"""Components from outside in a recipe: found by their import path, their options typed like our own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.recipe import Recipe, RecipeError, load_recipe
from engine.recipe.differences import explain

MODULE = '''
from typing import Annotated

from pydantic import Field

class Brier:
    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        sharpness: Annotated[float, Field(gt=0, description="the exponent")] = 2.0,
        per_image: bool = False,
        span: tuple[float, float] = (0.0, 1.0),
    ):
        """Never called by the recipe."""

class Strict:
    def __init__(self, ignore_index: int, width: int):
        pass

class Tiny:
    def __init__(
        self, num_classes: int, width: Annotated[int, Field(ge=4)] = 8, dropout: float = 0.0, head: str = "x"
    ):
        pass

class Signs:
    def __init__(self, params, lr: float, weight_decay: float = 0.0, decay: float = 0.9):
        pass

class Lines:
    def __init__(self, file: str = "lines.txt", every: Annotated[int, Field(ge=1)] = 1):
        pass

def open_pairs(root, split, class_names, ignore_index, part: int = 0):
    pass

NUMBER = 3
'''
Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    (tmp_path / "outside_parts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def load(*overrides: str) -> Recipe:
        (tmp_path / "r.yaml").write_text("")
        return load_recipe(tmp_path / "r.yaml", overrides)

    yield load
    for name in ("outside_parts", "outside_odd"):
        sys.modules.pop(name, None)


def test_a_loss_has_its_own_typed_options(load: Load) -> None:
    recipe = load("loss=[{name: dice}, {name: 'outside_parts:Brier', weight: 0.5, sharpness: 3}]")
    term = recipe.loss[1]
    assert term.model_dump() == {
        "name": "outside_parts:Brier",
        "weight": 0.5,
        "sharpness": 3.0,
        "per_image": False,
        "span": (0.0, 1.0),
    }
    assert ("loss.1.per_image", False, "default") in explain(recipe)


def test_what_the_engine_passes_is_no_option(load: Load) -> None:
    with pytest.raises(RecipeError, match=r"loss.0.num_classes .*unknown key") as error:
        load("loss=[{name: 'outside_parts:Brier', num_classes: 3}]")
    assert "Keys here: name, weight, sharpness" in str(error.value)


def test_mistakes_in_options_come_together_with_the_others(load: Load) -> None:
    with pytest.raises(RecipeError) as error:
        load(
            "loss=[{name: 'outside_parts:Brier', sharpness: 0, per_imag: true}]",
            "model={arch: 'outside_parts:Tiny', width: 2}",
            "train.batch=none",
        )
    text = str(error.value)
    assert "4 mistakes" in text
    assert "loss.0.sharpness" in text and "more than 0" in text
    assert "did you mean per_image?" in text
    assert "model.width" in text and "at least 4" in text
    assert "train.batch" in text


def test_an_option_without_a_default_has_to_be_given(load: Load) -> None:
    with pytest.raises(RecipeError, match=r"loss.0.width .*expected a value"):
        load("loss=[{name: 'outside_parts:Strict'}]")
    assert load("loss=[{name: 'outside_parts:Strict', width: 3}]").loss[0].width == 3


def test_the_other_sections_take_options_beside_the_name(load: Load) -> None:
    recipe = load(
        "model={arch: 'outside_parts:Tiny', width: 16}",
        "optimizer={name: 'outside_parts:Signs', decay: 0.5}",
        "data={format: 'outside_parts:open_pairs', root: x, classes: [a, b], part: 2}",
    )
    assert (recipe.model.width, recipe.optimizer.decay, recipe.data.part) == (16, 0.5, 2)
    assert recipe.optimizer.lr == 6e-5  # a key that the section has anyway
    assert (recipe.model.dropout, recipe.model.head) == (0.0, "x")  # options of this model, not of SegFormer
    assert load("model={arch: 'outside_parts:Tiny', head: wide}").model.head == "wide"


def test_a_logger_takes_options_beside_its_name(load: Load) -> None:
    recipe = load("log.to=[csv, 'outside_parts:Lines', {name: 'outside_parts:Lines', every: 2}]")
    assert recipe.log.to[:2] == ["csv", "outside_parts:Lines"]
    assert recipe.log.to[2].model_dump() == {"name": "outside_parts:Lines", "file": "lines.txt", "every": 2}
    assert load("log.to=[{name: wandb, project: mine}]").log.to[0].project == "mine"
    with pytest.raises(RecipeError, match=r"log.to.0.width .*expected a value, since"):
        load("log.to=[{name: 'outside_parts:Strict', ignore_index: 3}]")
    with pytest.raises(RecipeError, match=r"log.to.0.every .*at least 1"):
        load("log.to=[{name: 'outside_parts:Lines', every: 0}]")
    with pytest.raises(RecipeError, match=r"log.to.0 .*cannot import outside_parts:Line"):
        load("log.to=['outside_parts:Line']")
    with pytest.raises(RecipeError, match=r"log.to.0 .*did you mean csv"):
        load("log.to=[cvs]")


UNUSUAL = """
from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from pathlib import Path


class Mode(enum.Enum):
    SUM = "sum"
    MEAN = "mean"


class Odd:
    def __init__(
        self,
        position: int = 1,
        /,
        width: int = None,
        pair: tuple[int, int] = None,
        limit: float = float("inf"),
        count: int = 1e3,
        file: Path = Path("a.txt"),
        mode: Mode = Mode.SUM,
        sizes: list[tuple[int, int]] | None = None,
        shape: Sequence[int] = (1, 2),
        activation: Callable[[int], int] = abs,
        layer=dict,
        weight: float = 3.0,
        **others: int,
    ):
        pass


class Late:
    def __init__(self, value: Unknown = 1):
        pass


class Weighted:
    def __init__(self, weight: float):
        pass


class Positional:
    def __init__(self, value: int, /):
        pass
"""


def test_unusual_parameters_go_through_yaml(load: Load, tmp_path: Path) -> None:
    """A default that is not of its type, or not plain, must not make a recipe that cannot be read again."""
    (tmp_path / "outside_odd.py").write_text(UNUSUAL)
    term = load("loss=[{name: 'outside_odd:Odd'}]").loss[0]
    names = ["name", "weight", "width", "pair", "limit", "count", "file", "mode", "sizes", "shape"]
    assert list(dict(term)) == names  # and neither position, activation, layer nor others
    assert (term.weight, term.width, term.limit, term.file) == (1.0, None, float("inf"), Path("a.txt"))
    recipe = load("loss=[{name: 'outside_odd:Odd', mode: mean, sizes: [[1, 2]], pair: [3, 4], file: b.txt}]")
    term = recipe.loss[0]
    assert (term.mode.name, term.sizes, term.pair) == ("MEAN", [(1, 2)], (3, 4))
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "again.yaml") == recipe
    assert ("loss.0.file", "b.txt") in [entry[:2] for entry in explain(recipe)]
    with pytest.raises(RecipeError, match=r"loss.0.sizes.0.1 .*whole number"):
        load("loss=[{name: 'outside_odd:Odd', sizes: [[1, b]]}]")


@pytest.mark.parametrize(
    ("name", "text"),
    [("Late", "Unknown"), ("Weighted", "weight has the name of a key"), ("Positional", "value")],
)
def test_parameters_that_no_recipe_can_give(load: Load, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "outside_odd.py").write_text(UNUSUAL)
    with pytest.raises(RecipeError, match=rf"loss.0.name .*{text}"):
        load(f"loss=[{{name: 'outside_odd:{name}'}}]")


def test_a_recipe_with_them_goes_through_yaml(load: Load, tmp_path: Path) -> None:
    recipe = load(
        "loss=[{name: cross_entropy}, {name: 'outside_parts:Brier'}]", "model.arch='outside_parts:Tiny'"
    )
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "again.yaml") == recipe
    assert recipe.in_steps(10).loss[1].sharpness == 2.0


@pytest.mark.parametrize(
    ("override", "key", "text"),
    [
        ("loss=[{name: 'no_such_module:Loss'}]", "loss.0.name", "no module no_such_module"),
        ("loss=[{name: 'outside_parts:Brie'}]", "loss.0.name", "Brie"),
        ("loss=[{name: 'builtins:dict'}]", "loss.0.name", "parameters cannot be read"),
        ("loss=[{name: 'outside_parts:NUMBER'}]", "loss.0.name", "of type int"),
        ("model.arch='outside_parts:Nothing'", "model.arch", "Nothing"),
        ("optimizer.name='outside_parts:Nothing'", "optimizer.name", "Nothing"),
        ("data={format: 'outside_parts:Nothing', classes: [a, b]}", "data.format", "Nothing"),
    ],
)
def test_an_import_path_that_leads_nowhere(load: Load, override: str, key: str, text: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(override, "train.steps=-1")
    assert "2 mistakes" in str(error.value)  # the other mistake of the recipe comes in the same message
    assert f"{key} (override {override})" in str(error.value)
    assert text in str(error.value)


def test_a_module_that_fails_when_it_is_imported_is_named(load: Load, tmp_path: Path) -> None:
    for name, code, error in (("broken", "1 / 0", "ZeroDivisionError"), ("left", "exit(3)", "SystemExit")):
        (tmp_path / f"outside_{name}.py").write_text(f"{code}\n")
        with pytest.raises(RecipeError, match=rf"loss.0.name .*outside_{name}:A.*{error}"):
            load(f"loss=[{{name: 'outside_{name}:A'}}]")


def test_recipes_of_our_own_components_need_no_torch() -> None:
    code = (
        "import sys; from engine.recipe import load_recipe; load_recipe('recipes/b2_adv.yaml');"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_finished_run_is_read_without_its_components(tmp_path: Path) -> None:
    written = {
        "loss": {"name": "gone:Loss", "weight": 0.5, "power": [1, 2]},
        "model": {"arch": "gone:Net", "width": 8},
        "optimizer": {"name": "gone:Signs", "decay": 0.5},
        "data": {"format": "gone:open_pairs", "part": 2, "train": "a", "val": "b", "classes": ["x", "y"]},
    }
    file = tmp_path / "recipe.yaml"
    loggers = ["gone:Logger", {"name": "gone:Other", "rate": 1}]
    file.write_text(json.dumps({**written, "loss": [written["loss"]], "log": {"to": loggers}}))
    with pytest.raises(RecipeError, match="6 mistakes"):
        load_recipe(file)
    recipe = load_recipe(file, imports=False)
    for name, section in written.items():
        read = recipe.loss[0] if name == "loss" else getattr(recipe, name)
        assert {key: value for key, value in vars(read).items() if key in section} == section
    assert recipe.model_dump()["log"]["to"] == loggers
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "again.yaml", imports=False) == recipe


def test_a_loss_that_has_changed_since_does_not_matter_to_a_finished_run(load: Load, tmp_path: Path) -> None:
    load()  # writes the module
    file = tmp_path / "recipe.yaml"
    file.write_text("loss: [{name: 'outside_parts:Strict', width: 3, removed_since: 1}]")
    with pytest.raises(RecipeError, match="removed_since"):
        load_recipe(file)
    assert load_recipe(file, imports=False).loss[0].removed_since == 1
