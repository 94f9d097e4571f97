"""`build_model`: makes a network, with random weights, from the name and options of its architecture."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import signature
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
from models.architectures import ARCHITECTURES, EncoderOptions, SegFormerOptions, ViTOptions
from models.errors import ModelError

DEFAULTS = {  # option that not every architecture has -> its default
    key: getattr(options, key)
    for options, keys in (
        (SegFormerOptions, ("decoder_width", "head", "checkpointing")),
        (ViTOptions, ("feature_norm", "readout")),
        (EncoderOptions, ("encoder_drop_path",)),
    )
    for key in keys
}
NO_OPTIONS = ("arch", "from_scratch", "weights", "freeze", "auxiliary")  # keys of the section for all


def build_model(
    arch: Any,
    class_names: Sequence[str] = (),
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **options: Any,
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
        num_classes: K, if there are no class names.
        in_channels: n, the bands of the images; None: RGB.
        mean, std: of each band, of pixels in 0..255; None: of RGB, those of the encoder's weights.
        options: of the architecture, where `arch` is a name.

    Returns:
        A module called on (B, n, H, W) uint8 or float 0..255 that gives logits (B, K, h, w) at the same or a
        lower resolution. If it has a submodule `encoder`, that is what pretrained weights have to fill, and
        all else is the head; without one, all of it is the head.

    Raises:
        ModelError: an unknown name or option, a value out of range, an option of another architecture, or
            an architecture for RGB alone.
    """
    num_classes = len(class_names) if num_classes is None else num_classes
    if num_classes < 1:
        raise ModelError(
            "build_model needs num_classes, for example build_model('segformer', num_classes=3)."
        )
    for key, statistics in (("mean", mean), ("std", std)):
        if statistics is not None and len(statistics) != (in_channels or 3):
            raise ModelError(
                f"build_model: {key} has {len(statistics)} values, but the images have {in_channels or 3} "
                "bands; give one for each."
            )
    given: dict[str, Any] = {"num_classes": num_classes, "class_names": tuple(class_names)}
    if in_channels is not None:
        given |= {"in_channels": in_channels, "mean": mean, "std": std}
    name = arch if isinstance(arch, str) else arch.arch
    try:
        model = _built(name, options if isinstance(arch, str) else arch, given)
    except ModelError:
        raise
    except ComponentError as error:
        raise ModelError(f"model.arch={name}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model.arch={name}: expected a torch.nn.Module, got {model!r}.")
    return model


def without_effect(section: Any) -> list[str]:
    """The options, `key=value`, that a recipe's `model` section changes and its architecture does not take.

    Without those at a value that turns them off, such as a drop path rate of 0. Options in DEFAULTS are not
    listed: `build_model` refuses them.
    """
    _, declaration = _find(section.arch, vars(section))
    known = options_of(declaration, {"num_classes": 0, "class_names": ()})
    return [
        f"{key}={value}"
        for key, default in vars(SegFormerOptions()).items()
        if key not in known and key not in DEFAULTS and (value := getattr(section, key)) not in (default, 0)
    ]


def _built(name: str, section: Any, given: Mapping[str, Any]) -> object:
    """What the class or function of an architecture makes; raises ComponentError where it cannot.

    Args:
        section: the options, or a section that has the options of other architectures, too.
        given: the arguments that are no options.
    """
    values = section if isinstance(section, dict) else vars(section)
    component, declaration = _find(name, values)
    known = options_of(declaration, given)
    if is_import_path(name) and values.get("encoder") is not None and "encoder" not in known:
        raise ComponentError(
            f"it takes no encoder, but model.encoder is {values['encoder']}. Type model.encoder=null."
        )
    num_bands = given.get("in_channels", 3)
    if num_bands != 3 and "in_channels" not in signature(component).parameters:
        raise ComponentError(
            f"its constructor has no parameter in_channels, so it takes RGB; the images have {num_bands} "
            "bands. Add the parameter, or type data.bands=null."
        )
    on = f" on {values['encoder']}" if values.get("encoder") else ""
    _require_unset(f"{name}{on}", [key for key in DEFAULTS if key not in known], values)
    if isinstance(section, dict):
        chosen = {key: value for key, value in values.items() if (key, value) != ("encoder", None)}
    else:
        chosen = {key: values[key] for key in known if key in values and key not in NO_OPTIONS}
    return build_component(component, declaration, chosen, given)


def _find(name: str, values: Mapping[str, Any]) -> tuple[Component, Component]:
    """The function or class that builds the network, and the declaration of its options."""
    if is_import_path(name):
        component = import_component(name)
        return component, component
    if name in ARCHITECTURES and values.get("encoder") is None:
        path, declaration = ARCHITECTURES[name]
        return import_component(path), declaration
    from models.encoders import is_vit  # here: segmentation_models_pytorch takes seconds to import
    from models.vit import vit_model
    from models.zoo import ZooModel, segformer_on

    if name == "segformer":
        return segformer_on, segformer_on
    on_vit = name in ("linear", "dpt") or (name == "upernet" and is_vit(str(values.get("encoder"))))
    component = partial(vit_model if on_vit else ZooModel, name)
    return component, component


def _require_unset(name: str, keys: Sequence[str], values: Mapping[str, Any]) -> None:
    """Raises ModelError for options that have no effect on this architecture."""
    for key in keys:
        default = DEFAULTS[key]
        if values.get(key, default) != default:
            owner = "DPT" if hasattr(ViTOptions, key) else "Trident's own SegFormer"
            owner = "encoders of timm (tu-...)" if hasattr(EncoderOptions, key) else owner
            remedy = f"model.{key}={default if isinstance(default, str) else json.dumps(default)}"
            raise ModelError(f"model.{key} is an option of {owner}; {name} does not take it. Type {remedy}.")
