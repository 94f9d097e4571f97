"""Frozen parameters, parameter groups with their learning rates, and the optimiser."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from inspect import Parameter, signature
from typing import Any

import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    get_optimizer_info,
    list_optimizers,
)
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.components import ComponentError, import_component, is_import_path
from engine.recipe import RecipeError
from engine.training.options import Optimizer
from engine.wording import did_you_mean
from models.blocks import depth_from_head

TUNABLE = ("betas", "eps", "momentum")  # keys that only some optimisers take
KNOWN = ("adamw", "sgd", "lion", "muon")  # examples in messages


def freeze(model: nn.Module, patterns: str | list[str] | None) -> str | None:
    """Excludes parameters from training: `requires_grad` becomes False.

    To be called before the model is distributed, so that DDP does not wait for their gradients.

    Args:
        patterns: a recipe's `model.freeze`; see `matches`.

    Returns:
        A note that says how many parameters are frozen; None without `patterns`.

    Raises:
        RecipeError: a pattern matches nothing, or nothing is left to train.
    """
    if patterns is None:
        return None
    patterns = [patterns] if isinstance(patterns, str) else patterns
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for pattern in patterns:
        _require_match("model.freeze", pattern, parameters)
    frozen = {p for name, p in parameters.items() if any(matches(name, pattern) for pattern in patterns)}
    for parameter in frozen:
        parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise RecipeError(
            f"model.freeze: {', '.join(patterns)} freezes every parameter, so nothing is left to train. Type "
            "model.freeze=encoder to train the head alone, or model.freeze=null."
        )
    count, total = (sum(p.numel() for p in those) for those in (frozen, set(parameters.values())))
    return f"model.freeze: {count:,} of {total:,} parameters are frozen"


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Modules of which every parameter is frozen, such as a BatchNorm layer or a whole encoder."""
    return [
        module
        for module in model.modules()
        if (parameters := list(module.parameters())) and not any(p.requires_grad for p in parameters)
    ]


def in_eval_mode(model: nn.Module, batch_norm: str) -> list[nn.Module]:
    """The modules that stay in eval mode: frozen modules, and with "frozen" the encoder's BatchNorms.

    Args:
        batch_norm: a recipe's `train.batch_norm`.

    Raises:
        RecipeError: it is "frozen", and there is no BatchNorm in an encoder.
    """
    if batch_norm != "frozen":
        return frozen_modules(model)
    encoder = getattr(model, "encoder", None)
    norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm)] if encoder is not None else []
    if not norms:
        raise RecipeError(
            "train.batch_norm is frozen, but the encoder of this model has no BatchNorm. Type "
            "train.batch_norm=sync."
        )
    return [*frozen_modules(model), *norms]


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches the name of a parameter, or of a module that holds it.

    `*` matches any characters, dots included: "encoder" is all of the encoder, "encoder.*.norm*" each norm
    inside it, "*.bias" each bias.
    """
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def parameter_groups(
    model: nn.Module, section: Optimizer, auxiliary: nn.Module | None = None
) -> list[dict[str, Any]]:
    """The trained parameters by learning rate and weight decay.

    Encoder and head, each with and without weight decay: norms, biases and every other parameter of one
    dimension are not decayed. The head, which starts from random weights, learns `head_lr_mult` times faster.
    Below 1, `layer_decay` slows a block down by that factor for each block between it and the head, as in
    BEiT (arXiv 2106.08254). The last pattern of `groups` that matches a parameter multiplies its rate by
    `lr_mult` and replaces its weight decay. A model without an `encoder` is trained at `lr` throughout.

    Args:
        model: its encoder is the submodule `encoder`.
        section: a recipe's `optimizer`.
        auxiliary: a second head, in the groups of the head; its parameters are called "auxiliary.*"

    Raises:
        ModelError: `layer_decay` for a model whose order of layers is not known.
        RecipeError: a pattern matches no trained parameter.
    """
    encoder = getattr(model, "encoder", None)
    in_encoder = {id(parameter) for parameter in encoder.parameters()} if encoder is not None else set()
    depths = depth_from_head(model) if section.layer_decay < 1 else {}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if auxiliary is not None:
        trained |= dict(auxiliary.named_parameters("auxiliary"))
    for pattern in section.groups:
        _require_match("optimizer.groups", pattern, trained)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in trained.items():
        depth = depths.get(id(parameter), 0)
        part = "model" if encoder is None else "encoder" if id(parameter) in in_encoder else "head"
        lr = section.lr * (section.head_lr_mult if part == "head" else section.layer_decay**depth)
        weight_decay = section.weight_decay if parameter.ndim > 1 else 0.0
        is_spared = parameter.ndim <= 1
        pattern = next((p for p in reversed(section.groups) if matches(name, p)), "")
        if pattern:
            own = section.groups[pattern]
            lr *= own.lr_mult
            if own.weight_decay is not None:
                weight_decay, is_spared = own.weight_decay, False
        words = [part, f"depth {depth}" if depth else "", pattern, "no decay" if is_spared else ""]
        title = ", ".join(filter(None, words))
        start = {"name": title, "params": [], "lr": lr, "weight_decay": weight_decay}
        groups.setdefault(title, start)["params"].append(parameter)
    return list(groups.values())


def build_optimizer(
    model: nn.Module, section: Optimizer, auxiliary: nn.Module | None = None
) -> torch.optim.Optimizer:
    """The optimiser of a recipe over `parameter_groups`, with its fused kernel if it has one.

    Args:
        model: on the device where it is trained.
        section: a recipe's `optimizer`. `name` is one of `timm.optim.list_optimizers()`, or the import path
            of a class that takes `params`, `lr`, `weight_decay` and options of its own, which are further
            fields of the section.

    Raises:
        RecipeError: an unknown optimiser, one that this training cannot use, or a key that it does not take.
    """
    groups = parameter_groups(model, section, auxiliary)
    create, options = (_imported if is_import_path(section.name) else _of_timm)(section)
    try:
        optimizer = create(groups, lr=section.lr, weight_decay=section.weight_decay, **options)
    except (Exception, SystemExit) as error:  # its constructor may raise anything
        raise _unusable(section.name, f"{type(error).__name__}: {error}".rstrip(".")) from error
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


Created = tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]


def _of_timm(section: Optimizer) -> Created:
    name, options = section.name, _tuned(section)
    if name.startswith("lookahead_"):
        raise _unusable(
            name, "it updates the weights outside the optimiser that it wraps; train.ema averages too"
        )
    names = [str(known) for known in list_optimizers()]
    if name not in names:
        raise RecipeError(
            f"optimizer.name: there is no optimiser {name!r}.{did_you_mean(name, names, 3)} "
            f"Choices: {', '.join(names)}; or an import path such as my_package:MyOptimizer."
        )
    info = get_optimizer_info(name)
    if info.second_order:
        raise _unusable(name, "it needs second derivatives, and an update computes first ones only")
    _require_taken(section, [key for key in TUNABLE if getattr(info, f"has_{key}")])
    if len(options.get("betas", ())) not in (0, info.num_betas):
        raise RecipeError(f"optimizer.betas: {name} takes {info.num_betas}, not {len(options['betas'])}.")
    try:
        optimizer_class = get_optimizer_class(name, bind_defaults=False)
    except (ImportError, AssertionError) as error:
        raise _unusable(name, str(error)) from error
    if "fused" in signature(optimizer_class).parameters:
        options["fused"] = True
    return lambda groups, **more: create_optimizer_v2(groups, name, **more), options


def _imported(section: Optimizer) -> Created:
    name = section.name
    try:
        optimizer_class = import_component(name)
    except ComponentError as error:
        raise RecipeError(f"optimizer.name: {error}.") from error
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, torch.optim.Optimizer)):
        raise _unusable(name, "it is not a subclass of torch.optim.Optimizer")
    closure = signature(optimizer_class.step).parameters.get("closure")
    if closure is not None and closure.default is Parameter.empty:
        raise _unusable(name, "its step() needs a closure that computes the loss several times per update")
    if all(callable(getattr(optimizer_class, mode, None)) for mode in ("train", "eval")):
        reason = "it exchanges the weights between training and scoring (schedule-free, arXiv 2405.15682)"
        raise _unusable(name, f"{reason}; schedule.name=wsd needs no length planned ahead either")
    taken = signature(optimizer_class).parameters
    if absent := [key for key in ("lr", "weight_decay") if key not in taken]:
        raise _unusable(name, f"its constructor does not take {' and '.join(absent)}")
    _require_taken(section, [key for key in TUNABLE if key in taken])
    own = {key: value for key, value in dict(section).items() if key not in Optimizer.model_fields}
    return optimizer_class, _tuned(section) | own


def _tuned(section: Optimizer) -> dict[str, Any]:
    values = {key: getattr(section, key) for key in TUNABLE}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if v is not None}


def _require_taken(section: Optimizer, taken: list[str]) -> None:
    for key in _tuned(section):
        if key not in taken:
            others = [name for name in KNOWN if getattr(get_optimizer_info(name), f"has_{key}")]
            raise RecipeError(
                f"optimizer.{key}: {section.name} takes no {key}, only {' and '.join(taken) or 'lr'}. "
                f"Type optimizer.{key}=null, or an optimiser that takes it, such as {', '.join(others)}."
            )


def _unusable(name: str, reason: str) -> RecipeError:
    return RecipeError(
        f"optimizer.name={name} cannot train here: {reason}. Type another one, such as optimizer.name=adamw."
    )


def _require_match(key: str, pattern: str, names: Iterable[str]) -> None:
    names = list(names)
    if any(matches(name, pattern) for name in names):
        return
    modules = (name[:end] for name in names for end, letter in enumerate(name) if letter == ".")
    near = get_close_matches(pattern, dict.fromkeys([*modules, *names]), n=4, cutoff=0.3)
    raise RecipeError(
        f"{key}: no trained parameter of this model matches {pattern!r}. Near it are "
        f"{', '.join(near) or 'none'}; at its top are {', '.join(sorted({n.split('.')[0] for n in names}))}. "
        "A pattern matches the name of a parameter or of a module around it; * matches any characters."
    )
