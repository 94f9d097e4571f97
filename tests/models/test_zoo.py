"""A model of the zoo computes what segmentation_models_pytorch (SMP) computes, logits and gradients."""

import sys

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file
from timm.layers import Conv2dSame, DropPath
from torch import nn
from torch.nn import functional as F

from losses import build_loss
from models import build_model
from models.encoders import ExportedConv
from models.weights import load_weights

NUM_CLASSES, VOID = 5, 255
PAIRS = [
    ("segformer", "resnet18"),
    ("segformer", "tu-tf_efficientnet_lite0"),
    ("segformer", "mit_b0"),
    ("segformer", "tu-convnext_atto"),  # no map at stride 2
    ("unet", "resnet18"),
    ("unetplusplus", "resnet18"),
    ("fpn", "resnet18"),
    ("deeplabv3plus", "resnet18"),
    ("pspnet", "resnet18"),
    ("pan", "resnet18"),
    ("upernet", "resnet18"),
    ("linknet", "resnet18"),
    ("dpt", "tu-test_vit"),
]


def both(arch: str, encoder: str) -> tuple[nn.Module, nn.Module]:
    """Ours and SMP's in float64, with the same random weights and without dropout."""
    torch.manual_seed(0)
    options = {"dynamic_img_size": True} if arch == "dpt" else {}
    theirs = smp.create_model(arch, encoder, encoder_weights=None, classes=NUM_CLASSES, **options).double()
    ours = build_model(arch, num_classes=NUM_CLASSES, encoder=encoder).double()
    ours.load_state_dict(theirs.state_dict())
    for module in (*theirs.modules(), *ours.modules()):
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    return ours, theirs


def normalised(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return (images - model.mean) / model.std


@pytest.mark.parametrize(("arch", "encoder"), PAIRS)
def test_logits_at_full_size_equal_those_of_smp(arch, encoder):
    ours, theirs = both(arch, encoder)
    images = torch.rand(2, 3, 128, 150, dtype=torch.float64) * 255
    padded = F.pad(normalised(ours, images), (0, 10))
    with torch.no_grad():
        found, expected = ours.eval()(images), theirs.eval()(padded)[..., :150]
    assert found.shape == (2, NUM_CLASSES, 128, 150) and found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("arch", "encoder"), PAIRS)
def test_a_training_step_has_the_loss_and_gradients_of_smp(arch, encoder):
    ours, theirs = both(arch, encoder)
    images = torch.rand(2, 3, 128, 160, dtype=torch.float64) * 255
    labels = torch.randint(0, NUM_CLASSES, (2, 128, 160))
    labels[:, :9] = VOID
    loss = build_loss([{"name": "cross_entropy"}], NUM_CLASSES, VOID, align_corners=ours.align_corners)
    found = loss(ours.train()(images), labels)["loss"]
    expected = F.cross_entropy(theirs.train()(normalised(ours, images)), labels, ignore_index=VOID)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    found.backward()
    expected.backward()
    others = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.grad is None:
            assert others[name].grad is None, name
        else:
            torch.testing.assert_close(parameter.grad, others[name].grad, rtol=1e-6, atol=1e-9)


def test_logits_in_training_mode_leave_the_last_upsampling_to_the_loss():
    model = build_model("segformer", num_classes=NUM_CLASSES, encoder="resnet18").train()
    assert model(torch.rand(2, 3, 64, 96)).shape == (2, NUM_CLASSES, 16, 24)
    assert model(torch.rand(2, 3, 64, 90)).shape == (2, NUM_CLASSES, 64, 90), "padded: align_corners differs"


def test_a_checkpoint_of_a_model_can_be_saved_as_it_is(tmp_path):
    """safetensors refuses tensors that are not contiguous."""
    model = build_model("segformer", num_classes=NUM_CLASSES, encoder="resnet18")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()


def test_the_stochastic_depth_of_efficientnet_is_made_of_layers_and_changes_nothing_else():
    ours = build_model("fpn", num_classes=NUM_CLASSES, encoder="efficientnet-b0")
    theirs = smp.create_model("fpn", "efficientnet-b0", encoder_weights=None, classes=NUM_CLASSES)
    rates = [module.drop_prob for module in ours.encoder.modules() if isinstance(module, DropPath)]
    assert len(rates) == 9 and max(rates) == pytest.approx(0.2 * 14 / 16)  # with a skip connection
    theirs.load_state_dict(ours.state_dict())  # the names are SMP's
    images = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        found, expected = ours.eval()(images), theirs.eval()(normalised(ours, images))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (6, 2, 1), (3, 1, 2), (1, 2, 1), (4, 4, 1)]
)
def test_constant_padding_in_an_export_is_that_of_timm(
    kernel: int, stride: int, dilation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    conv = Conv2dSame(2, 3, kernel, stride=stride, dilation=dilation)
    images = torch.randn(1, 2, 32, 64)
    expected = conv(images)
    conv.__class__ = ExportedConv
    assert torch.equal(conv(images), expected)
    monkeypatch.setattr("torch.compiler.is_exporting", lambda: True)
    monkeypatch.setattr(sys.modules["timm.layers.conv2d_same"], "pad_same", None)  # not called
    assert torch.equal(conv(images), expected)


def test_encoders_that_pad_as_tensorflow_are_padded_by_constants_in_an_export() -> None:
    model = build_model("segformer", num_classes=2, encoder="tu-tf_efficientnet_lite0")
    kinds = [type(module) for module in model.encoder.modules() if isinstance(module, Conv2dSame)]
    assert kinds and {*kinds} == {ExportedConv}


# SegFormer's decoder, as Trident computes it


def test_its_tensors_have_the_names_and_order_of_smp():
    """So that checkpoints of SMP, and runs with their optimisers' states, fit."""
    ours = build_model("segformer", num_classes=NUM_CLASSES, encoder="resnet18", decoder_width=48)
    theirs = smp.create_model(
        "segformer", "resnet18", None, classes=NUM_CLASSES, decoder_segmentation_channels=48
    )
    shapes = [(name, tensor.shape) for name, tensor in theirs.state_dict().items()]
    assert [(name, tensor.shape) for name, tensor in ours.state_dict().items()] == shapes
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]


def test_its_dropout_is_of_whole_channels_before_the_classifier_and_only_in_training():
    ours, _ = both("segformer", "tu-test_convnext")
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64) * 255
    head = ours.segmentation_head[0]
    seen = []
    ours.decoder.register_forward_hook(lambda module, args, fused: seen.append(fused.detach()))
    ours.train()
    ours.decoder.dropout.p = 0.5
    torch.manual_seed(1)
    found = ours(images)
    torch.manual_seed(1)
    dropped = F.dropout2d(seen[0], 0.5)
    assert ((dropped == 0).flatten(2).all(2) & (seen[0] != 0).flatten(2).any(2)).any()
    torch.testing.assert_close(found, head(dropped), rtol=1e-9, atol=1e-9)
    ours.eval()
    assert torch.equal(ours(images), ours(images))


def test_its_options_are_those_of_the_recipe():
    model = build_model("segformer", num_classes=2, encoder="tu-test_convnext", decoder_width=24, dropout=0.3)
    assert (model.decoder.dropout.p, model.segmentation_head[0].in_channels) == (0.3, 24)
    default = build_model("segformer", num_classes=2, encoder="tu-test_convnext")
    assert (default.decoder.dropout.p, default.segmentation_head[0].in_channels) == (0.1, 256)


def test_a_checkpoint_of_smp_fills_all_of_it(tmp_path):
    theirs = smp.create_model("segformer", "resnet18", encoder_weights=None, classes=NUM_CLASSES)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    model = build_model("segformer", num_classes=NUM_CLASSES, encoder="resnet18")
    report = load_weights(model, str(tmp_path / "model.safetensors"))
    assert [report.parts[name].share for name in ("encoder", "head")] == [1.0, 1.0]


@pytest.mark.parametrize(("arch", "encoder"), PAIRS)
def test_each_parameter_that_is_trained_gets_a_gradient(arch: str, encoder: str) -> None:
    """DDP ends a training of several processes otherwise."""
    model = build_model(arch, num_classes=NUM_CLASSES, encoder=encoder).train()
    side = max(model.min_size_px, 64)
    model(torch.zeros(2, 3, side, side)).sum().backward()
    trained = [(name, p.grad) for name, p in model.named_parameters() if p.requires_grad]
    assert trained and [name for name, gradient in trained if gradient is None] == []
