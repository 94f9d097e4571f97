"""Every shipped recipe is loaded, built, and stepped once, on a tiny folder and small crops."""

import math
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from engine.recipe import load_recipe
from engine.recipe.components import LOSS_SECTIONS
from engine.recipe.source import stage_names
from engine.training.distributed import Process, start_process
from engine.training.session import build_session
from losses import TERMS, build_loss

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
SMALL = ["augment.crop=64", "train.batch=2", "model.weights=null", "model.from_scratch=true"]


@pytest.fixture(scope="module")
def process() -> Process:
    return start_process()


STAGES = [(path, stage) for path in RECIPES for stage in stage_names(path, [], {}) or [""]]


@pytest.mark.parametrize(("path", "stage"), STAGES, ids=[f"{path.stem} {stage}" for path, stage in STAGES])
def test_the_recipe_builds_and_makes_an_update(
    path: Path, stage: str, voc_folder: Path, process: Process
) -> None:
    overrides, chosen = list(SMALL), [f"stage={stage}"] if stage else []
    if load_recipe(path, chosen).data.format != "synthetic":
        overrides += ["data.format=voc", f"data.root={voc_folder}", "data.train=train", "data.val=val"]
    if stage:  # whose own values win over those of the whole recipe
        overrides = [*(f"stages.{stage}.{text}" for text in overrides), *chosen]
    session = build_session(load_recipe(path, overrides), process, lambda what: lambda done, total: None)
    session.step.count = session.recipe.train.steps - 1  # where the discriminator takes part
    batch = next(session.batches.starting_at(0))
    session.step.backward(batch.images, batch.labels)
    named = session.step.model.named_parameters()
    without = [name for name, parameter in named if parameter.requires_grad and parameter.grad is None]
    assert without == []  # several processes would wait for such a gradient for ever
    metrics = session.step(batch)
    assert {name for name, value in metrics.items() if not math.isfinite(value)} == set()
    assert ("adv/d_loss" in metrics) == (session.recipe.adversarial is not None)
    assert session.step.count == session.recipe.train.steps


@pytest.mark.parametrize("name", TERMS)
def test_a_loss_is_built_alike_from_a_recipe_and_from_its_name(name: str) -> None:
    written, bare = (build_loss([term], 3) for term in (LOSS_SECTIONS[name](name=name), {"name": name}))
    assert written.weights == bare.weights
    (first,), (second,) = written.terms.values(), bare.terms.values()
    assert settings(first) == settings(second)


def settings(module: nn.Module) -> dict[str, Any]:
    """The options that a loss term was built with."""
    return {key: value for key, value in vars(module).items() if not key.startswith("_")}


def test_there_is_a_recipe_for_each_name_of_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert [path.name for path in RECIPES if f"`{path.name}`" not in readme] == []
