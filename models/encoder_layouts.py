"""The key layouts in which weights of encoders of segmentation_models_pytorch (SMP) are published.

A layout gives, for each tensor of our model, its name in a file. The one that finds the most tensors is used.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

# timm's name of a part of an EfficientNet block -> that in the package efficientnet_pytorch. A block of the
# first stage has no expansion, so its parts have other names.
FIRST_STAGE = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
LATER_STAGES = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
STEM = {"conv_stem": "_conv_stem", "bn1": "_bn0"}

INNER = re.compile(r"^model\.(?:(?:body|model)\.)?")
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")  # in torchvision's files


def _whole_model(own: Iterable[str]) -> dict[str, str]:
    return {key: key for key in own}


def _encoder_of_smp(own: Iterable[str]) -> dict[str, str]:
    """Also torchvision's names, which SMP keeps for ResNet, VGG, DenseNet and MobileNet-v2."""
    return {key: key.removeprefix("encoder.") for key in own if key.startswith("encoder.")}


def _timm(own: Iterable[str]) -> dict[str, str]:
    """timm's model is the encoder's submodule `model`, or `body` or `model` in that, where it has hooks."""
    return {key: INNER.sub("", there) for key, there in _encoder_of_smp(own).items()}


def _efficientnet_pytorch(own: Iterable[str]) -> dict[str, str]:
    """efficientnet_pytorch numbers the blocks over all stages, timm within each stage."""
    timm = _timm(own)
    matches = {key: re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)\.(\w+)", there) for key, there in timm.items()}
    places = sorted({(int(m[1]), int(m[2])) for m in matches.values() if m})
    names = {}
    for key, there in timm.items():
        match = matches[key]
        if match:
            stage, block, part, leaf = int(match[1]), int(match[2]), match[3], match[4]
            part = (SQUEEZE | (LATER_STAGES if stage else FIRST_STAGE)).get(part, part)
            names[key] = f"_blocks.{places.index((stage, block))}.{part}.{leaf}"
        else:
            part, _, leaf = there.rpartition(".")
            names[key] = f"{STEM.get(part, part)}.{leaf}"
    return names


LAYOUTS: dict[str, Callable[[Iterable[str]], dict[str, str]]] = {
    "smp": _whole_model,
    "smp_encoder": _encoder_of_smp,
    "timm": _timm,
    "efficientnet_pytorch": _efficientnet_pytorch,
}


def translate_encoder(
    state: Mapping[str, Tensor], own: Iterable[str]
) -> tuple[str | None, dict[str, Tensor], list[str]]:
    """Renames a state dict to the names of a `ZooModel`, by the layout that finds most of its tensors.

    Dots and underscores count as the same: for its feature maps, timm makes `stages_0` of `stages.0`.

    Args:
        own: the names of the model's tensors.

    Returns:
        The layout's name (None: no key fits any), the tensors under the model's names, the other keys.
    """
    own = list(own)
    keys = {OLD_DENSENET.sub(r"\1\2.", key).replace("_", "."): key for key in state}
    best: tuple[str | None, dict[str, str]] = (None, {})
    for layout, table in LAYOUTS.items():
        found = {key: keys[plain] for key, t in table(own).items() if (plain := t.replace("_", ".")) in keys}
        if len(found) > len(best[1]):
            best = layout, found
    name, found = best
    used = set(found.values())
    return name, {key: state[there] for key, there in found.items()}, [k for k in state if k not in used]
