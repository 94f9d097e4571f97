"""`build_model`: from the name and options of an architecture to the network, with random weights."""

import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn

from models.architectures import ARCHITECTURES, STRICT, SegFormerOptions
from models.errors import ModelError, unknown_choice, wrong_option

ANY_TYPE = STRICT | ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
SEGFORMER_ONLY = ("decoder_width", "head", "checkpointing")

Component = Callable[..., object]


def build_model(
    arch: Any, class_names: Sequence[str] = (), *, num_classes: int | None = None, **options: Any
) -> nn.Module:
    """The network of a recipe's `model` section, or of a name and options, with random weights.

        build_model(recipe.model, class_names)
        build_model("segformer", num_classes=3, variant="b0")
        build_model("unet", num_classes=3, encoder="resnet34")
        build_model("my_package:MyNet", num_classes=3, width=32)

    Args:
        arch: a section with the attribute `arch` and the options as attributes, or the name itself.
            "segformer" without an encoder is this project's own SegFormer, whose options
            `models.architectures` declares. A name with a colon is the import path of a class whose
            constructor takes the options, and num_classes and class_names if it has parameters of these
            names. Anything else is an architecture of segmentation_models_pytorch on `encoder`.
        class_names: one logit each, in this order.
        num_classes: K, where there are no names.
        options: of the architecture, where `arch` is a name.

    Returns:
        A module called on (B, 3, H, W) uint8 or float 0..255 that gives logits (B, K, h, w) at the same or a
        lower resolution. If it has a submodule `encoder`, that is what pretrained weights have to fill, and
        all else is the head; without one, all of it is the head.

    Raises:
        ModelError: an unknown name or option, a value out of range, or an option of another architecture.
    """
    num_classes = len(class_names) if num_classes is None else num_classes
    if num_classes < 1:
        raise ModelError(
            "build_model needs num_classes, for example build_model('segformer', num_classes=3)."
        )
    given = {"num_classes": num_classes, "class_names": tuple(class_names)}
    is_name = isinstance(arch, str)
    name, values = (arch, options) if is_name else (arch.arch, vars(arch))
    component, declaration = _find(name, values, given)
    known = signature(declaration).parameters
    if not is_name:  # a section has keys that are no options, and options of other architectures
        values = {key: value for key, value in values.items() if key in known}
    checked = _validated(name, declaration, values)
    accepted = signature(component).parameters
    try:
        model = component(**{key: value for key, value in given.items() if key in accepted}, **checked)
    except (TypeError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"model.arch={name} with {checked}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model.arch={name}: expected a torch.nn.Module, got {model!r}.")
    return model


def _find(name: str, values: Mapping[str, Any], given: Collection[str]) -> tuple[Component, Component]:
    """What makes the network, and the declaration of its options."""
    if ":" in name:
        component = _imported(name)
        return component, options_of(component, given)
    if name in ARCHITECTURES and values.get("encoder") is None:
        path, declaration = ARCHITECTURES[name]
        return pkgutil.resolve_name(path), declaration
    from models.zoo import ZooModel  # here, because segmentation_models_pytorch takes seconds to import

    defaults = {key: getattr(SegFormerOptions, key) for key in SEGFORMER_ONLY}
    if any(values.get(key, default) != default for key, default in defaults.items()):
        raise ModelError(
            "model.decoder_width, model.head and model.checkpointing belong to Trident's own SegFormer, not "
            f"to {name} on {values.get('encoder')}. Remove them, or set model.arch=segformer "
            "model.encoder=null."
        )
    component = partial(ZooModel, name)
    return component, options_of(component, given)


def _imported(path: str) -> Component:
    try:
        component = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"model.arch={path}: {error}. Expected the import path of a class, package.module:Name; is the "
            "folder of the package the current one, or on PYTHONPATH?"
        ) from error
    if not callable(component):
        raise ModelError(f"model.arch={path}: expected a class, found {component!r}.")
    return component


def options_of(component: Component, given: Collection[str]) -> type[BaseModel]:
    """A strict model of the keyword parameters of a class or function, without those that are `given`."""
    fields: dict[str, Any] = {
        name: (
            Any if parameter.annotation is parameter.empty else parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in signature(component, eval_str=True).parameters.items()
        if name not in given and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    return create_model("Options", __config__=ANY_TYPE, **fields)


def _validated(name: str, declaration: Component, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options given, as the declared types; defaults are left to the constructor."""
    known = signature(declaration).parameters
    if values.get("encoder") is None and "encoder" not in known:
        values = {key: value for key, value in values.items() if key != "encoder"}
    for key in values:
        if key not in known:
            raise unknown_choice(f"an option of model.arch={name}", key, known)
    try:
        checked = declaration(**values)
    except ValidationError as error:
        raise wrong_option(error) from None
    return {key: getattr(checked, key) for key in values}
