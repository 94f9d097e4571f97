"""The typed recipe: from a YAML file and overrides to a checked, frozen object, and back to YAML.

`load_recipe` reports every mistake in one message. Imports no torch. The keys of the sections are declared
next to the code that they configure; this package puts them together.
"""

import os
import re
from collections.abc import Callable, Iterable
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, PrivateAttr, ValidationError, ValidationInfo, create_model, field_validator

from engine.data.options import Augment, Data
from engine.options import Section, in_steps, key, listed, mistake
from engine.recipe.components import LOSS_SECTIONS, NAMED_BY, LossTerm, Ramp, outside_section, union_of
from engine.recipe.contradictions import contradictions, of_the_rest, without_a_start
from engine.recipe.errors import describe, paths_of
from engine.recipe.sections import (
    Adversarial,
    Distill,
    ImportPath,
    Keep,
    Log,
    Logger,
    LoggerName,
    LoggerSection,
    Model,
    Output,
    Train,
    log_steps,
    tail_steps,
)
from engine.recipe.source import (
    Document,
    dotted,
    find_recipe,
    read_recipe,
    shipped_recipes,
    stage_names,
)
from engine.recipe.stages import CHOICE, SCHEMA
from engine.recipe.text import Path, RecipeError, Sources, dump_yaml
from engine.scoring.options import Eval
from engine.training.options import Optimizer
from engine.training.schedule import Schedule

if TYPE_CHECKING:  # type checkers do not accept a union that is made from a listing
    Loss = LossTerm
else:
    Loss = union_of(LOSS_SECTIONS.values())

__all__ = [
    "Recipe",
    "RecipeError",
    "find_recipe",
    "load_recipe",
    "load_stages",
    "recipe_schema",
    "shipped_recipes",
]

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
TEACHER_EMA = 0.996  # decay of the moving average that teaches; of UniMatch V2, arXiv 2410.10777
SEVERAL_SETS = {"type": "array", "items": {"type": "object"}, "minItems": 1}
BASE = {
    "type": "string",
    "minLength": 1,
    "description": "the recipe that this one is based on, relative to this file; its name is not inherited",
}


class Recipe(Section):
    """Everything that decides a run. Frozen; equal when all values are equal, wherever they came from."""

    name: str = Field(
        description="name of the run, whose folder is <output.dir>/<name>/; default: the file's name"
    )
    seed: int = key(
        0, "seed of the initial weights, the order of samples, augmentation and dropout", ge=0, lt=2**32
    )
    data: Data = key(Data(), "the images and labels")
    augment: Augment = key(Augment(), "random changes of each training image")
    model: Model = key(Model(), "the model and its initial weights")
    loss: list[Loss] = key(
        [LOSS_SECTIONS[name](name=name) for name in ("cross_entropy", "dice")],
        "the loss terms, whose weighted sum is minimised",
        min_length=1,
    )
    adversarial: Adversarial | None = key(None, "training against a discriminator; null is off")
    distill: Distill | None = key(None, "learning from a trained teacher; null is off")
    optimizer: Optimizer = key(Optimizer(), "the optimiser")
    schedule: Schedule = key(Schedule(), "the learning rate schedule")
    train: Train = key(Train(), "length, batch size and precision of the training")
    eval: Eval = key(Eval(), "how and how often the val split is scored")
    keep: Keep = key(Keep(), "which checkpoints are kept")
    log: Log = key(Log(), "what is logged, and how often")
    output: Output = key(Output(), "where the run is written")

    _sources: Sources = PrivateAttr(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.to_dict() == other.to_dict()

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        if not FOLDER_NAME.fullmatch(value):
            raise mistake(
                "expected a folder name of letters, digits, '.', '_' and '-', a letter or digit first"
            )
        return value

    @field_validator("optimizer")
    @classmethod
    def _head_rate(cls, value: Optimizer, info: ValidationInfo) -> Optimizer:
        """A pretrained encoder learns slower than its new head; of random weights, both learn alike."""
        is_given = "head_lr_mult" in value.model_fields_set
        if is_given or "model" not in info.data or not info.data["model"].from_scratch:
            return value
        return value.model_copy(update={"head_lr_mult": 1.0})

    @field_validator("train")
    @classmethod
    def _has_a_teacher(cls, value: Train, info: ValidationInfo) -> Train:
        """The moving average teaches unlabelled images, so there is one."""
        data = info.data.get("data")
        if value.ema is not None or data is None or data.unlabelled is None:
            return value
        if "ema" in value.model_fields_set:
            raise mistake(
                "ema is null, but the moving average of the weights is the teacher of data.unlabelled. Leave "
                f"the key out for {TEACHER_EMA}, or type train.ema={TEACHER_EMA}"
            )
        return value.model_copy(update={"ema": TEACHER_EMA})

    @field_validator("loss")
    @classmethod
    def _each_once(cls, value: list[Loss]) -> list[Loss]:
        if len({loss.name for loss in value}) < len(value):
            raise mistake("expected each loss once: add up the weights of the same loss")
        return value

    def in_steps(self, num_train_samples: int) -> Self:
        """Every duration as a number of steps.

        Args:
            num_train_samples: in the train split; an epoch is this / `train.batch` steps, rounded up.

        Raises:
            RecipeError: such as a warm-up that is longer than the training.
        """
        assert num_train_samples >= 1
        recipe = self._in_steps(-(-num_train_samples // int(self.train.batch)))
        if found := [f"{dotted(each.keys[0])}: {each.text}" for each in contradictions(recipe)]:
            raise RecipeError("\n".join(found))
        return recipe

    def _in_steps(self, epoch_steps: int | None) -> Self:
        total = in_steps(self.train.steps, epoch_steps, None, least=1)
        total_steps = total if isinstance(total, int) else None

        def steps(duration: int | str, least: int = 0) -> int | str:
            return in_steps(duration, epoch_steps, total_steps, least)

        schedule = {
            "warmup": steps(self.schedule.warmup),
            "milestones": [steps(milestone) for milestone in self.schedule.milestones],
        }
        if self.schedule.name == "wsd":
            schedule["decay"] = steps(self.schedule.decay)
        log_every, tail_every = steps(self.log.every, least=1), steps(self.keep.tail_every, least=1)
        if log_every == "auto" and total_steps is not None:
            log_every = log_steps(self.log, total_steps)
        at_ends_of_cycles = self.schedule.name == "cyclic"  # which need not be equally far apart
        if tail_every == "auto" and total_steps is not None and self.keep.tail and not at_ends_of_cycles:
            tail_every = tail_steps(self.keep, total_steps)
        changed: dict[str, dict[str, Any]] = {
            "train": {"steps": total, "save_every": steps(self.train.save_every, least=1)},
            "eval": {"every": steps(self.eval.every, least=1)},
            "schedule": schedule,
            "log": {"every": log_every},
            "keep": {"spacing": steps(self.keep.spacing), "tail_every": tail_every},
        }
        if smaller := self.augment.progressive:
            in_time = [part.model_copy(update={"until": steps(part.until, least=1)}) for part in smaller]
            changed["augment"] = {"progressive": in_time}
        if unlabelled := self.data.unlabelled:
            ramp = {"ramp": steps(unlabelled.ramp)}
            changed["data"] = {"unlabelled": unlabelled.model_copy(update=ramp)}
        if against := self.adversarial:
            changed["adversarial"] = {"start": steps(against.start), "ramp": steps(against.ramp)}
        sections = {name: getattr(self, name).model_copy(update=values) for name, values in changed.items()}
        losses = [
            loss.model_copy(update={"weight": _ramp_in_steps(loss.weight, steps)}) for loss in self.loss
        ]
        return self.model_copy(update={**sections, "loss": losses})

    def to_dict(self) -> dict[str, Any]:
        """The whole recipe as YAML holds it: a tuple is a list, a path is text."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The whole recipe, defaults included and without `base`; `load_recipe` reads an equal one back."""
        return dump_yaml(self.to_dict())


def _ramp_in_steps(weight: float | Ramp, steps: Callable[[int | str], int | str]) -> float | Ramp:
    if not isinstance(weight, Ramp):
        return weight
    return weight.model_copy(update={"start": steps(weight.start), "ramp": steps(weight.ramp)})


def load_recipe(
    path: str | os.PathLike[str], overrides: Iterable[str] = (), *, imports: bool = True, trains: bool = False
) -> Recipe:
    """Read, merge and check a recipe.

    Shares of the training become steps here, unless its length is given in epochs: see `Recipe.in_steps`.

    Args:
        path: of the YAML file, or the name of a recipe that comes with Trident, such as "b2_adv". The files
            named by `base:` are relative to it, or come with Trident as well.
        overrides: `key.path=value` each, the value in YAML; later ones win. A single one needs no list.
        imports: whether components from outside are imported, and their options checked. False is for the
            recipe of a finished run, which can be scored where its loss cannot be imported, such as one that
            was defined in a notebook.
        trains: whether a training will start from it, for which it has to say from what weights.

    Raises:
        RecipeError: all that is wrong, each with key path, file and line.
    """
    document = read_recipe(path, listed(overrides), defaults=Recipe(name="default").model_dump())
    kind = _kind_for(document, imports)
    problems = document.problems
    wrong: set[Path] = set()
    recipe: Recipe | None
    try:
        recipe = kind.model_validate(document.values)
    except ValidationError as error:
        errors, schema = error.errors(include_url=False), recipe_schema(kind)
        problems += describe(errors, document, schema)
        wrong = paths_of(errors, document, schema)
        recipe = of_the_rest(kind, document, wrong)
    if recipe:
        recipe._sources = document.sources
        recipe = recipe._in_steps(None)
        found = [*contradictions(recipe, trains), *(without_a_start(recipe) if trains else ())]
        problems += [
            f"{dotted(each.keys[0])} ({document.place(each.keys[0])}): {each.text}"
            for each in found
            if not each.depends_on(wrong)
        ]
    if problems or not recipe:
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise RecipeError("\n  ".join([f"{os.fspath(path)}: {count}:", *problems]))
    return recipe


def load_stages(
    path: str | os.PathLike[str], overrides: Iterable[str] = (), *, trains: bool = False
) -> list[Recipe]:
    """The recipe of each stage in `stages:`, in their order; the recipe alone where it has none.

    `load_recipe` says what is read and raised.
    """
    overrides = listed(overrides)
    choices = [
        [f"{CHOICE}{name}"] for name in stage_names(path, overrides, Recipe(name="default").model_dump())
    ]
    return [load_recipe(path, [*overrides, *choice], trains=trains) for choice in choices or [[]]]


def _kind_for(document: Document, imports: bool) -> type[Recipe]:
    """Recipe, or a subclass with the options of the components from outside that a document names."""
    fields: dict[str, Any] = {}
    for name, named_by in NAMED_BY.items():
        section: Any = Recipe.model_fields[name].annotation
        fields[name] = outside_section(document, (name, named_by), section, imports)
    terms = document.value(("loss",))
    places = range(len(terms) if isinstance(terms, list) else 0)
    losses = [outside_section(document, ("loss", place, "name"), LossTerm, imports) for place in places]
    if any(losses):
        term = union_of([*LOSS_SECTIONS.values(), *filter(None, losses)])
        fields["loss"] = list[term]  # type: ignore[valid-type]  # a union that is made here
    if loggers := _outside_loggers(document, imports):
        logger = union_of([Logger, *loggers])
        to: Any = (list[LoggerName | ImportPath | logger], copy(Log.model_fields["to"]))  # type: ignore[valid-type]
        fields["log"] = create_model("Log", __base__=Log, to=to)
    replaced: dict[str, Any] = {
        name: (kind, copy(Recipe.model_fields[name])) for name, kind in fields.items() if kind
    }
    return create_model("Recipe", __base__=Recipe, **replaced) if replaced else Recipe


def _outside_loggers(document: Document, imports: bool) -> list[type[Section]]:
    """The sections of loggers from outside that have options; the others are imported, which checks them."""
    entries = document.value(("log", "to"))
    places = range(len(entries) if isinstance(entries, list) else 0)
    if imports:
        for place in places:
            outside_section(document, ("log", "to", place), LoggerSection, imports)
    named = (("log", "to", place, "name") for place in places)
    sections = [outside_section(document, path, LoggerSection, imports) for path in named]
    return [section for section in sections if section]


def recipe_schema(kind: type[Recipe] = Recipe) -> dict[str, Any]:
    """The JSON schema of a recipe file, by which editors complete and check."""
    schema = kind.model_json_schema()
    del schema["required"]  # a file without a name takes its own
    schema["properties"] = {"base": BASE, "stages": SCHEMA, **schema["properties"]}
    data = schema["properties"]["data"]
    data["anyOf"] = [{"$ref": data.pop("$ref")}, SEVERAL_SETS]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
