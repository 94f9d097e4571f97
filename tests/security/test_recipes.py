"""YAML tags and import paths: a recipe holds plain values, and only a component that it names is imported."""

from pathlib import Path

import pytest

from engine.command import main as command_line
from engine.recipe import RecipeError, load_recipe
from engine.scoring.run import Run
from tests.engine.tiny_run import tiny

TAGS = {
    "a call": "!!python/object/apply:os.system ['touch {canary}']",
    "a call with keywords": "!!python/object/apply:subprocess.check_call {{args: [[touch, {canary}]]}}",
    "an object": "!!python/object:evil_module.Evil {{}}",
    "a new object": "!!python/object/new:evil_module.Evil []",
    "a call of exec": "!!python/object/apply:builtins.exec ['open({canary!r}, \"w\")']",
    "a module": "!!python/module:evil_module",
    "a name": "!!python/name:evil_module.Evil",
    "a tuple": "!!python/tuple [1, 2]",
    "bytes": "!!binary aGVsbG8=",
    "a full tag": "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {canary}']",
    "a tag of another": "!include /etc/passwd",
    "a merge": "{{<<: !!python/object/apply:os.system ['touch {canary}']}}",
}


@pytest.mark.parametrize("key", ["name", "data.root", "seed", "loss.0.name"])
@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_in_an_override_is_a_mistake(canary: Path, evil_module: str, tag: str, key: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe("demo", [f"{key}={TAGS[tag].format(canary=str(canary))}"])


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_in_a_file_is_a_mistake_and_nothing_is_created(
    tmp_path: Path, canary: Path, evil_module: str, tag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text(f"base: demo\nnotes: {TAGS[tag].format(canary=str(canary))}\n")
    assert command_line(["run", str(path), f"output.dir={tmp_path / 'runs'}"]) == 2
    said = capsys.readouterr().err
    assert "evil.yaml" in said and "Traceback" not in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("base", ["/etc/passwd", "../../../../../../etc/passwd"])
def test_another_file_than_a_recipe_is_not_shown(tmp_path: Path, base: str) -> None:
    (tmp_path / "r.yaml").write_text(f"base: {base}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert "root:x" not in str(caught.value)


NAMES = [
    "../outside",
    "/tmp/outside",
    "a/b",
    "..",
    ".",
    "",
    "a\nb",
    "a\0b",
    "\x1b[2J",
    "a\\b",
    "C:x",
    "x" * 300,
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_the_name_of_a_run_is_the_name_of_a_folder(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert command_line(["run", *tiny(tmp_path / "runs", "x"), f"name={name!r}".replace("'", '"')]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and "\x1b" not in said
    assert sorted(tmp_path.rglob("*")) == before


COMPONENTS = {
    "a loss": "loss: [{name: 'evil_module:Loss'}]",
    "an optimiser": "optimizer: {name: 'evil_module:Optimizer'}",
    "a logger": "log: {to: ['evil_module:Logger']}",
}


@pytest.mark.parametrize("component", COMPONENTS)
def test_reading_a_run_imports_no_component_that_is_for_training_only(
    tmp_path: Path, canary: Path, evil_module: str, component: str
) -> None:
    path = tmp_path / "run/recipe.yaml"
    path.parent.mkdir()
    path.write_text(f"name: run\ndata: {{format: synthetic}}\n{COMPONENTS[component]}\n")
    assert Run(path.parent).recipe is not None


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_recipe_that_is_trained_does_as_docs_security_says(
    tmp_path: Path, canary: Path, evil_module: str, component: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"data: {{format: synthetic}}\n{COMPONENTS[component]}\n")
    with pytest.raises(RecipeError, match="evil_module"):  # it has no such name, but was imported
        load_recipe(path)
    canary.unlink()
