"""`build_model` on our SegFormer and on the zoo: what it builds, and how it refuses."""

from types import SimpleNamespace

import pytest
import torch

from models import ModelError, build_model
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


def test_timm_encoders_bring_their_own_normalisation():
    half = ZooModel("dpt", "tu-vit_tiny_patch16_224", 3)
    assert half.mean.flatten().tolist() == half.std.flatten().tolist() == [127.5] * 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": "b6"}, ["model.variant", "'b6'", "b0, b1, b2"]),
        ({"head": "papper"}, ["model.head", "Did you mean paper", "mmseg"]),
        ({"arch": "unett", "encoder": "resnet18"}, ["model.arch", "Did you mean unet", "deeplabv3plus"]),
        ({"arch": "unet"}, ["model.arch=unet needs model.encoder"]),
        ({"arch": "unet", "encoder": "resnet43"}, ["model.encoder", "Did you mean resnet34", "vgg16"]),
        ({"arch": "unet", "encoder": "tu-convnext_tinny"}, ["Did you mean tu-convnext_tiny"]),
        ({"arch": "dpt", "encoder": "resnet18"}, ["model.arch=dpt", "model.encoder=resnet18", "tu-"]),
        ({"arch": "dpt", "encoder": "tu-vit_small_patch14_dinov2"}, ["14 px"]),
        ({"arch": "unet", "encoder": "tu-swin_tiny_patch4_window7_224"}, ["one size only"]),
        ({"arch": "unet", "encoder": "resnet18", "decoder_width": 64}, ["model.decoder_width"]),
        ({"arch": "unet", "encoder": "resnet18", "head": "mmseg"}, ["model.head"]),
        ({"arch": "unet", "encoder": "resnet18", "checkpointing": True}, ["model.checkpointing"]),
    ],
)
def test_what_cannot_be_built_says_why_and_what_instead(changes, words):
    with pytest.raises(ModelError) as caught:
        build_model(section(**changes), NAMES)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)
