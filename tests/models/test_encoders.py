"""Encoders of every family with every head, images of any size, and timm's own maps at timm's size."""

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from models import ModelError, build_model
from models.blocks import depth_from_head
from models.encoder_table import COLUMNS, FAMILIES, HEADS, page, row_of
from models.encoders import AnySizeHiera, SubsampledConv2d, adapt

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"
ROWS = {
    cells[0]: cells[1:] for line in PAGE.read_text().splitlines() if (cells := line.strip("| ").split(" | "))
}
NUM_CLASSES = 3
DIAGONAL = [  # each head and each family once at least; the smallest members, where the table has larger ones
    ("unet", "tu-swinv2_tiny_window8_256"),
    ("fpn", "tu-test_maxvit"),
    ("segformer", "tu-hiera_tiny_224"),
    ("upernet", "tu-convnextv2_atto"),
    ("pspnet", "tu-pvt_v2_b0"),
    ("deeplabv3plus", "tu-mobilenetv4_conv_small"),
    ("linknet", "tu-efficientvit_b0"),
    ("manet", "tu-fastvit_t8"),
    ("unetplusplus", "tu-test_convnext"),
    ("deeplabv3", "tu-test_efficientnet"),
    ("pan", "tu-test_resnet"),
]


def cell(family: str, head: str) -> str:
    [column] = [i for i, heads in enumerate(COLUMNS.values()) if head in heads]
    return ROWS[family][3 + column]


def require_step(head: str, encoder: str) -> None:
    """Trains on one size and predicts another that has to be padded."""
    torch.manual_seed(0)
    model = build_model(head, num_classes=NUM_CLASSES, encoder=encoder).train()
    model(torch.rand(2, 3, 64, 96) * 255).square().mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    with torch.no_grad():
        logits = model.eval()(torch.rand(1, 3, 61, 70) * 255)
    assert logits.shape == (1, NUM_CLASSES, 61, 70) and logits.isfinite().all()


@pytest.mark.parametrize(("head", "encoder"), DIAGONAL)
def test_families_of_encoders_train_with_a_head(head: str, encoder: str) -> None:
    require_step(head, encoder)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_pair_of_the_table_trains_or_is_refused(family: str, head: str) -> None:
    if cell(family, head) == "yes":
        require_step(head, FAMILIES[family])
        return
    with pytest.raises(ModelError) as caught:
        build_model(head, num_classes=NUM_CLASSES, encoder=FAMILIES[family])
    assert "Type model." in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize("family", ["EfficientViT", "CoAtNet"])
def test_a_row_of_the_table_is_what_can_be_built(family: str) -> None:
    assert row_of(family) in PAGE.read_text(), "type: python -m models.encoder_table > docs/encoders.md"


@pytest.mark.slow
def test_the_table_is_what_can_be_built() -> None:
    assert PAGE.read_text() == page(), "type: python -m models.encoder_table > docs/encoders.md"


@pytest.mark.slow
def test_an_encoder_of_each_module_of_timm_can_be_built_or_is_refused_with_a_remedy() -> None:
    names = {timm.model_entrypoint(name).__module__: name for name in reversed(timm.list_models())}
    built = []
    for name in names.values():
        try:
            with torch.device("meta"):
                build_model("unet", num_classes=NUM_CLASSES, encoder=f"tu-{name}")
            built.append(name)
        except ModelError as error:
            assert "Type model." in str(error), name
    assert len(built) > len(names) / 3


@pytest.mark.parametrize(
    ("head", "encoder", "words"),
    [
        ("deeplabv3plus", "tu-pvt_v2_b0", ["dilated convolutions", "model.arch=upernet"]),
        ("unet", "tu-coatnet_pico_rw_224", ["one size only", "model.encoder=tu-convnext_tiny"]),
        ("unet", "tu-shvit_s1", ["model.arch=unet", "strides 4, 8, 16 and 32"]),
    ],
)
def test_a_pair_that_cannot_be_built_is_refused_with_the_reason(head, encoder, words):
    with pytest.raises(ModelError) as caught:
        build_model(head, num_classes=NUM_CLASSES, encoder=encoder)
    assert [word for word in words if word not in str(caught.value)] == []
    remedy = dict(
        pair.split("=") for pair in re.findall(r"model\.(\w+=[\w-]+)", str(caught.value).split("Type")[1])[:1]
    )
    with torch.device("meta"):
        build_model(remedy.get("arch", head), num_classes=NUM_CLASSES, encoder=remedy.get("encoder", encoder))


# Images of any size


def maps_of(name: str, size_px: int) -> tuple[list[Tensor], list[Tensor]]:
    """Of our encoder and of timm's own model, with the same weights."""
    torch.manual_seed(0)
    theirs = timm.create_model(name, features_only=True).eval()
    model = build_model("unet", num_classes=NUM_CLASSES, encoder=f"tu-{name}").eval()
    model.encoder.model.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, size_px, size_px)
    with torch.no_grad():
        expected = theirs(image)
        found = model.encoder(image)[-len(expected) :]
    if found[0].shape != expected[0].shape:
        expected = [x.permute(0, 3, 1, 2) for x in expected]  # channels-last in timm
    return found, expected


@pytest.mark.parametrize(
    ("name", "size_px"),
    [
        ("test_maxvit", 160),
        pytest.param("swin_tiny_patch4_window7_224", 224, marks=pytest.mark.slow),
        pytest.param("swinv2_tiny_window8_256", 256, marks=pytest.mark.slow),
        pytest.param("swinv2_cr_tiny_ns_224", 224, marks=pytest.mark.slow),
        pytest.param("maxvit_pico_rw_256", 256, marks=pytest.mark.slow),
        pytest.param("hiera_tiny_224", 224, marks=pytest.mark.slow),
        pytest.param("hiera_small_abswin_256", 256, marks=pytest.mark.slow),
    ],
)
def test_maps_at_the_size_of_timm_are_those_of_timm(name: str, size_px: int) -> None:
    found, expected = maps_of(name, size_px)
    for ours, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


def hiera(size: tuple[int, int], by_window: bool) -> nn.Module:
    torch.manual_seed(0)
    return timm.models.hiera.Hiera(
        size, embed_dim=8, stages=(1, 2, 1, 1), abs_win_pos_embed=by_window, global_pos_size=(3, 3)
    ).eval()  # fmt: skip


@pytest.mark.parametrize("by_window", [True, False])
def test_hiera_at_another_size_is_timms_hiera_made_for_that_size(by_window: bool) -> None:
    """With its position embeddings resized as timm resizes those of a vision transformer."""
    ours, theirs = hiera((64, 64), by_window), hiera((96, 160), by_window)
    state = ours.state_dict()
    if not by_window:
        codes = state["pos_embed"]
        state["pos_embed"] = timm.layers.resample_abs_pos_embed(codes, [24, 40], [16, 16], 0)
    theirs.load_state_dict(state)
    adapt(ours)
    assert type(ours) is AnySizeHiera
    with torch.no_grad():
        for image in (torch.randn(1, 3, 96, 160), torch.randn(2, 3, 64, 64)):  # and back to its own size
            reference = theirs if image.shape[2] == 96 else hiera((64, 64), by_window)
            expected = reference.forward_intermediates(image, intermediates_only=True)
            found = ours.forward_intermediates(image, intermediates_only=True)
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


# What breaks oneDNN


def test_a_strided_1x1_convolution_of_few_channels_is_one_of_the_pixels_that_it_sees() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 1, stride=(2, 3)).double()
    x = torch.rand(2, 3, 9, 11, dtype=torch.float64, requires_grad=True)
    expected = [layer(x), *torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])]
    adapt(nn.Sequential(layer))
    assert type(layer) is SubsampledConv2d
    found = [layer(x), *torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_only_the_convolution_that_breaks_is_replaced() -> None:
    with torch.device("meta"):
        model = build_model("segformer", num_classes=NUM_CLASSES, encoder="tu-fastvit_t8")
    replaced = [name for name, module in model.named_modules() if isinstance(module, SubsampledConv2d)]
    assert replaced == ["encoder.model.stem_0.conv_scale.conv"]


# Layer decay


def test_the_layers_of_an_encoder_of_timm_are_counted_from_the_head() -> None:
    with torch.device("meta"):
        model = build_model("upernet", num_classes=NUM_CLASSES, encoder="tu-convnextv2_atto")
    depths = depth_from_head(model)
    of = {name: depths[id(parameter)] for name, parameter in model.encoder.named_parameters()}
    assert {id(p) for p in model.encoder.parameters()} == set(depths)
    assert of["model.stages_3.blocks.1.norm.weight"] == 1
    assert of["model.stages_3.blocks.0.norm.weight"] == 2
    assert of["model.stages_2.blocks.5.norm.weight"] == 3 + (
        of["model.stages_3.downsample.0.weight"] > of["model.stages_3.blocks.0.norm.weight"]
    )
    assert of["model.stem_0.weight"] == max(of.values()) >= 13  # twelve blocks


def test_layer_decay_for_an_encoder_whose_layers_are_not_known_is_refused() -> None:
    model = build_model("fpn", num_classes=NUM_CLASSES, encoder="resnet18")
    with pytest.raises(ModelError, match="layer_decay=1.0"):
        depth_from_head(model)
