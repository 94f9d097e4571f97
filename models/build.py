"""`build_model`: from the name and options of an architecture to the network, with random weights."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from engine.components import (
    Component,
    ComponentError,
    build_component,
    import_component,
    is_import_path,
    options_of,
)
from models.architectures import ARCHITECTURES, SegFormerOptions
from models.errors import ModelError

SEGFORMER_ONLY = ("decoder_width", "head", "checkpointing")


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
    try:
        component, declaration = _find(name, values)
        known = options_of(declaration, given)
        # A section also has keys that are not options, and options of other architectures.
        values = {
            key: value
            for key, value in values.items()
            if key in known or (is_name and (key, value) != ("encoder", None))
        }
        model = build_component(component, declaration, values, given)
    except ModelError:
        raise
    except ComponentError as error:
        raise ModelError(f"model.arch={name}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model.arch={name}: expected a torch.nn.Module, got {model!r}.")
    return model


def _find(name: str, values: Mapping[str, Any]) -> tuple[Component, Component]:
    """The function or class that builds the network, and the declaration of its options."""
    if is_import_path(name):
        component = import_component(name)
        return component, component
    if name in ARCHITECTURES and values.get("encoder") is None:
        path, declaration = ARCHITECTURES[name]
        return import_component(path), declaration
    from models.zoo import ZooModel  # here, because segmentation_models_pytorch takes seconds to import

    defaults = {key: getattr(SegFormerOptions, key) for key in SEGFORMER_ONLY}
    if any(values.get(key, default) != default for key, default in defaults.items()):
        raise ModelError(
            "model.decoder_width, model.head and model.checkpointing belong to Trident's own SegFormer, not "
            f"to {name} on {values.get('encoder')}. Remove them, or set model.arch=segformer "
            "model.encoder=null."
        )
    component = partial(ZooModel, name)
    return component, component
