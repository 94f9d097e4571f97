"""`model.encoder_drop_path`: the drop path rates of an encoder of timm, and who does not have them."""

import re

import pytest
import timm
import torch
from torch import Tensor, nn

from engine.recipe import load_recipe
from models import ModelError, build_model
from tests.engine.tiny_run import RECIPE

ENCODERS = [
    ("unet", "tu-test_convnext"),
    ("segformer", "tu-tf_efficientnet_lite0"),
    ("fpn", "tu-test_maxvit"),
    ("dpt", "tu-test_vit"),
]


def rates(model: nn.Module) -> list[float]:
    """Those above 0, in the order of the layers."""
    layers = (module for module in model.modules() if isinstance(module, timm.layers.DropPath))
    return [layer.drop_prob for layer in layers if layer.drop_prob]


def built(arch: str, encoder: str, rate: float | None) -> nn.Module:
    torch.manual_seed(0)
    return build_model(arch, num_classes=3, encoder=encoder, encoder_drop_path=rate)


@pytest.mark.parametrize(("arch", "encoder"), ENCODERS)
def test_the_rates_are_those_of_timm(arch: str, encoder: str) -> None:
    name = encoder.removeprefix("tu-")
    dropping = built(arch, encoder, 0.4)
    assert rates(dropping.encoder) == rates(timm.create_model(name, drop_path_rate=0.4)) != []
    plain = built(arch, encoder, None)
    assert rates(plain) == rates(timm.create_model(name))
    weights, expected = dropping.state_dict(), plain.state_dict()
    assert weights.keys() == expected.keys()
    assert [key for key in weights if not torch.equal(weights[key], expected[key])] == []


@pytest.mark.parametrize(("arch", "encoder"), ENCODERS)
def test_only_training_drops_paths(arch: str, encoder: str) -> None:
    image = 255 * torch.rand(2, 3, 64, 64)

    def logits(rate: float | None, mode: bool) -> Tensor:
        model = built(arch, encoder, rate).eval()
        model.encoder.train(mode)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        torch.manual_seed(1)
        with torch.no_grad():
            return model(image)

    assert torch.equal(logits(0.9, mode=False), logits(None, mode=False))
    assert not torch.equal(logits(0.9, mode=True), logits(None, mode=True))


def test_swin_keeps_the_rate_of_timm_unless_another_is_given() -> None:
    name = "swin_tiny_patch4_window7_224"
    with torch.device("meta"):
        own, none, half = (built("upernet", f"tu-{name}", rate) for rate in (None, 0.0, 0.5))
    assert (max(rates(own)), rates(none), max(rates(half))) == (pytest.approx(0.1), [], pytest.approx(0.5))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["model.arch=unet", "model.encoder=resnet18"], "for encoders of timm"),
        (["model.arch=unet", "model.encoder=tu-vgg11"], "no layers that drop paths"),
        (["model.arch=segformer"], "an option of encoders of timm"),
    ],
)
def test_the_key_is_refused_where_there_are_no_drop_paths(lines: list[str], words: str) -> None:
    lines = [*lines, "model.decoder_width=null"]
    with pytest.raises(ModelError, match=words) as caught:
        build_model(load_recipe(RECIPE, [*lines, "model.encoder_drop_path=0.2"]).model, num_classes=3)
    [typed] = re.findall(r"Type (\S+)\.$", str(caught.value))
    build_model(load_recipe(RECIPE, [*lines, typed]).model, num_classes=3)


def test_a_recipe_of_a_version_without_the_key_gives_the_model_that_it_gave() -> None:
    """Such a recipe holds drop_path: 0.1 for every encoder, as SegFormer's default."""
    lines = ["model.arch=unet", "model.encoder=tu-test_convnext", "model.decoder_width=null"]
    section = load_recipe(RECIPE, [*lines, "model.drop_path=0.1"]).model
    assert section.encoder_drop_path is None and rates(build_model(section, num_classes=3)) == []
    section = load_recipe(RECIPE, [*lines, "model.encoder_drop_path=0.2"]).model
    assert max(rates(build_model(section, num_classes=3))) == pytest.approx(0.2)


def test_a_rate_out_of_range_is_refused() -> None:
    with pytest.raises(ModelError, match=re.escape("encoder_drop_path")):
        built("unet", "tu-test_convnext", 1.0)
