"""`build_model` on our SegFormer and on SMP: what it builds, and its errors."""

import sys
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from models import ModelError, build_model
from models.build import without_effect
from models.segformer import SegFormer
from models.zoo import ZooModel

NAMES = ["background", "cat", "dog"]


def section(**changes) -> SimpleNamespace:
    defaults = {
        "arch": "segformer",
        "variant": "b0",
        "encoder": None,
        "decoder_width": None,
        "head": "paper",
        "weights": None,
        "from_scratch": True,
        "drop_path": 0.1,
        "dropout": 0.1,
        "checkpointing": False,
    }
    return SimpleNamespace(**defaults | changes)


@pytest.mark.parametrize(
    ("changes", "unused"),
    [
        ({"drop_path": 0.2, "dropout": 0.3}, []),
        ({"drop_path": 0.2, "dropout": 0.3, "encoder": "resnet18"}, ["variant=b0", "drop_path=0.2"]),
        (
            {"drop_path": 0.2, "dropout": 0.3, "encoder": "resnet18", "arch": "unet"},
            ["variant=b0", "drop_path=0.2", "dropout=0.3"],
        ),
        ({"drop_path": 0.0, "dropout": 0.0, "encoder": "resnet18", "arch": "unet", "variant": "b2"}, []),
        ({"drop_path": 0.2, "variant": "b2", "encoder": "tu-test_vit", "arch": "dpt"}, ["drop_path=0.2"]),
    ],
)
def test_options_that_an_architecture_does_not_take_are_named(changes, unused: list[str]) -> None:
    assert without_effect(section(**changes)) == unused
    build_model(section(**changes), NAMES)  # as a finished run of it has to be opened


def test_segformer_without_encoder_is_our_own():
    model = build_model(section(decoder_width=32, dropout=0.3, drop_path=0.2), NAMES)
    assert isinstance(model, SegFormer)
    assert model.head.classifier.weight.shape[:2] == (3, 32)
    assert model.head.dropout.p == 0.3
    assert model.encoder.stages[-1].blocks[-1].drop_path.drop_prob == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [
        ("unet", "resnet18"),
        ("deeplabv3plus", "resnet18"),
        ("pan", "resnet18"),
        ("segformer", "mit_b0"),
        ("fpn", "tu-convnext_atto"),
        ("dpt", "tu-vit_tiny_patch16_224"),
    ],
)
def test_zoo_takes_any_size(arch, encoder):
    model = build_model(section(arch=arch, encoder=encoder), NAMES).eval()
    image = torch.randint(0, 256, (2, 3, 45, 70), dtype=torch.uint8)
    with torch.no_grad():
        logits = model(image)
        assert torch.equal(logits, model(image.float()))
    assert logits.shape == (2, 3, 45, 70)
    assert sum(p.numel() for p in model.encoder.parameters()) > 0


def test_zoo_equals_smp_on_the_padded_image():
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    model = ZooModel("unet", "resnet18", 3).eval()
    reference = smp.create_model("unet", "resnet18", encoder_weights=None, classes=3).eval()
    reference.load_state_dict(model.state_dict())  # the names are the same, which this also checks
    pixels = 255 * torch.rand(1, 3, 33, 50)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (pixels / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    padded = torch.zeros(1, 3, 64, 64)
    padded[..., :33, :50] = normalised
    with torch.no_grad():
        torch.testing.assert_close(model(pixels), reference(padded)[..., :33, :50], rtol=0, atol=1e-4)


def test_timm_encoders_have_their_own_normalisation():
    half = build_model("dpt", encoder="tu-vit_tiny_patch16_224", num_classes=3)
    assert half.mean.flatten().tolist() == half.std.flatten().tolist() == [127.5] * 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": "b6"}, ["variant", "'b6'", "b0, b1, b2"]),
        ({"head": "papper"}, ["head", "Did you mean paper", "mmseg"]),
        ({"arch": "unett", "encoder": "resnet18"}, ["model.arch", "Did you mean unet", "deeplabv3plus"]),
        ({"arch": "unet"}, ["model.arch=unet needs model.encoder"]),
        ({"arch": "unet", "encoder": "resnet43"}, ["model.encoder", "Did you mean resnet34", "vgg16"]),
        ({"arch": "unet", "encoder": "tu-convnext_tinny"}, ["Did you mean tu-convnext_tiny"]),
        ({"arch": "dpt", "encoder": "resnet18"}, ["model.arch=dpt", "model.encoder=resnet18", "tu-"]),
        ({"arch": "linear", "encoder": "tu-resnet18"}, ["model.arch=linear", "model.encoder=tu-vit_"]),
        (
            {"arch": "dpt", "encoder": "tu-beit_base_patch16_224"},
            ["images of any size", "model.encoder=tu-vit_"],
        ),
        ({"arch": "unet", "encoder": "tu-vit_small_patch14_dinov2"}, ["several strides", "model.arch=dpt"]),
        ({"arch": "linear", "encoder": "tu-test_vit", "readout": "add"}, ["model.readout", "model.arch=dpt"]),
        ({"arch": "linear", "encoder": "tu-test_vit", "decoder_width": 8}, ["model.decoder_width"]),
        ({"arch": "unet", "encoder": "resnet18", "feature_norm": True}, ["model.feature_norm=false", "DPT"]),
        ({"arch": "unet", "encoder": "tu-coatnet_pico_rw_224"}, ["one size only"]),
        ({"arch": "unet", "encoder": "resnet18", "decoder_width": 64}, ["model.decoder_width"]),
        ({"arch": "unet", "encoder": "resnet18", "head": "mmseg"}, ["model.head"]),
        ({"arch": "unet", "encoder": "resnet18", "checkpointing": True}, ["model.checkpointing"]),
    ],
)
def test_the_error_for_a_model_that_cannot_be_built_has_a_reason_and_a_remedy(changes, words):
    with pytest.raises(ModelError) as caught:
        build_model(section(**changes), NAMES)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


class Tiny(nn.Module):
    """An architecture from outside, without an encoder."""

    def __init__(self, num_classes: int, width: Annotated[int, Field(ge=1)] = 4, mode: str = "plain"):
        super().__init__()
        if mode not in ("plain", "fancy"):
            raise ValueError(f"mode must be plain or fancy, not {mode!r}")
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, num_classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image.float() / 255)


class Broken(Tiny):
    def __init__(self, num_classes: int):
        raise KeyError("channels")


NOT_A_CLASS = 3


def no_module(num_classes: int) -> int:
    return num_classes


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "outside", sys.modules[__name__])
    return "outside"


def test_a_network_by_name_and_options() -> None:
    model = build_model("segformer", num_classes=3, variant="b0", decoder_width=16)
    assert isinstance(model, SegFormer)
    assert model.head.classifier.weight.shape[:2] == (3, 16)
    assert isinstance(build_model("unet", encoder="resnet18", num_classes=3), ZooModel)
    assert isinstance(build_model("segformer", NAMES, encoder=None, variant="b0"), SegFormer)


def test_a_network_by_its_import_path(outside: str) -> None:
    model = build_model(f"{outside}:Tiny", num_classes=5, width=2)
    assert model.layers[0].weight.shape[0] == 2
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 5, 8, 8)
    by_section = build_model(section(arch=f"{outside}:Tiny", width=7), NAMES)
    assert by_section.layers[1].weight.shape[:2] == (3, 7)


@pytest.mark.parametrize(
    ("arch", "options", "words"),
    [
        ("segformer", {"variant": "b9"}, ["variant", "'b9'", "b0"]),
        ("segformer", {"widht": 3}, ["'widht'", "model.arch=segformer", "decoder_width"]),
        ("segformer", {"drop_path": 1.5}, ["drop_path", "less than 1", "1.5"]),
        ("segformer", {"decoder_width": 0}, ["decoder_width", "0"]),
        ("segfomer", {}, ["model.arch", "Did you mean segformer"]),
        ("unet", {"encoder": "resnet18", "variant": "b0"}, ["'variant'", "encoder"]),
        ("unet", {"encoder": "resnet18", "head": "mmseg"}, ["unet", "model.head=paper"]),
        ("outside:Tinny", {}, ["outside:Tinny", "no attribute 'Tinny'"]),
        ("no_such_module:Net", {}, ["no_such_module:Net", "no module no_such_module"]),
        ("outside:NOT_A_CLASS", {}, ["outside:NOT_A_CLASS", "class"]),
        ("outside:no_module", {}, ["outside:no_module", "torch.nn.Module"]),
        ("outside:Tiny", {"width": 0}, ["width", "greater than or equal to 1", "0"]),
        ("outside:Tiny", {"widht": 2}, ["'widht'", "Did you mean width"]),
        ("outside:Tiny", {"mode": "x"}, ["outside:Tiny", "plain or fancy"]),
        ("outside:Tiny", {"encoder": "resnet18"}, ["outside:Tiny", "resnet18", "model.encoder=null"]),
        ("outside:Broken", {}, ["outside:Broken", "KeyError", "channels"]),
    ],
)
def test_the_error_for_a_name_that_cannot_be_built_has_a_reason(
    outside: str, arch: str, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ModelError) as caught:
        build_model(arch, num_classes=3, **options)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_missing_number_of_classes_is_an_error() -> None:
    with pytest.raises(ModelError, match="num_classes"):
        build_model("segformer", variant="b0")


@pytest.mark.parametrize(("bands", "mean"), [(4, [1.0] * 3), (None, [1.0] * 4)])
def test_a_mean_for_each_band_is_needed(bands: int | None, mean: list[float]) -> None:
    with pytest.raises(ModelError, match=f"mean has {len(mean)} values"):
        build_model("segformer", num_classes=3, variant="b0", in_channels=bands, mean=mean, std=mean)
