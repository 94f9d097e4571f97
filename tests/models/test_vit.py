"""Plain vision transformers as encoders: timm's features, SMP's heads, images and patches of any size."""

from functools import cache

import pytest
import timm
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.decoders.dpt import decoder as smp_dpt
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from models import ModelError, build_model
from models.blocks import depth_from_head
from models.weights import load_weights

NUM_CLASSES = 5
FAMILIES = [  # DINOv2 without and with registers, DINOv3, EVA-02, MAE; SigLIP, which has no class token
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "eva02_tiny_patch14_224",
    "vit_base_patch16_siglip_224",
    "vit_tiny_patch16_224",
]
TINY, TINY_14, NO_CLASS_TOKEN = "tu-test_vit", "tu-eva02_tiny_patch14_224", "tu-test_vit3"
ARCHS = ["linear", "dpt", "upernet"]


def model_of(arch: str, encoder: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    width = {} if arch == "linear" else {"decoder_width": 16}
    return build_model(arch, num_classes=NUM_CLASSES, encoder=encoder, **width | options)


@cache
def pixels(height_px: int, width_px: int, batch: int = 1) -> Tensor:
    return 255 * torch.rand(batch, 3, height_px, width_px, generator=torch.manual_seed(1))


def padded(model: nn.Module, images: Tensor, patch_px: int) -> Tensor:
    """Normalised, with zeros up to whole patches."""
    height, width = images.shape[2:]
    return F.pad((images - model.mean) / model.std, (0, -width % patch_px, 0, -height % patch_px))


def randomise(model: nn.Module) -> nn.Module:
    """Statistics, norms and biases that matter, so that one that is left out shows."""
    generator = torch.manual_seed(2)
    for name, tensor in model.state_dict().items():  # without buffers that are constants
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 2.0, generator=generator)
        elif name.endswith(("bias", "running_mean", "pos_embed", "_token")):
            nn.init.normal_(tensor, std=0.1, generator=generator)
        elif tensor.ndim == 1 and tensor.is_floating_point() and name.endswith("weight"):
            nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_the_maps_are_those_of_timm_at_any_size(name: str) -> None:
    norm = "dinov" in name
    model = randomise(model_of("dpt", f"tu-{name}", feature_norm=norm)).eval()
    own = timm.create_model(name, dynamic_img_size=True, dynamic_img_pad=True).eval()  # which pads by itself
    own.load_state_dict(model.encoder.model.state_dict())
    patch_px = own.patch_embed.patch_size[0]
    images = pixels(45, 75)
    indices = [len(own.blocks) * part // 4 - 1 for part in (1, 2, 3, 4)]
    with torch.no_grad():
        maps, _ = model.encoder(padded(model, images, patch_px))
        x = (images - model.mean) / model.std
        expected = own.forward_intermediates(x, indices=indices, norm=norm, intermediates_only=True)
    assert [x.shape[2:] for x in maps] == [(-(-45 // patch_px), -(-75 // patch_px))] * 4
    for found, of_timm in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, of_timm, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("encoder", [TINY, TINY_14, NO_CLASS_TOKEN, "tu-vit_tiny_patch16_224"])
def test_images_of_any_size(arch: str, encoder: str) -> None:
    model = model_of(arch, encoder).eval()
    for height, width in ((45, 70), (5, 9), (29, 113)):
        images = pixels(height, width).to(torch.uint8)
        with torch.no_grad():
            logits = model(images)
            torch.testing.assert_close(logits, model(images.float()))
        assert logits.shape == (1, NUM_CLASSES, height, width) and logits.is_contiguous()
        assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("arch", "grid"), [("linear", 1), ("dpt", 8), ("upernet", 4)], ids=lambda value: str(value)
)
def test_logits_in_training_mode_leave_the_last_upsampling_to_the_loss(arch: str, grid: int) -> None:
    model = model_of(arch, TINY_14).train()
    assert model(pixels(42, 70, 2)).shape == (2, NUM_CLASSES, 3 * grid, 5 * grid)
    assert model(pixels(43, 70, 2)).shape == (2, NUM_CLASSES, 43, 70), "padded: align_corners differs"
    model.eval()
    low = model.segmentation_head
    layers = low.head if arch == "dpt" else low[0]
    with torch.no_grad():
        x = layers(model.decoder(*model.encoder(padded(model, pixels(42, 70), 14))))
        expected = F.interpolate(x, (42, 70), mode="bilinear", align_corners=model.align_corners)
        torch.testing.assert_close(model(pixels(42, 70)), expected)


def test_the_linear_head_is_one_layer_on_the_normed_map() -> None:
    model = randomise(model_of("linear", TINY)).eval()
    vit, images = model.encoder.model, pixels(40, 64)
    with torch.no_grad():
        tokens = vit.forward_features(padded(model, images, 16))[:, vit.num_prefix_tokens :]  # (1, 12, C)
        norm, layer = model.decoder.norm, model.segmentation_head[0]
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        x = (tokens - norm.running_mean) * factor + norm.bias
        logits = (x @ layer.weight.flatten(1).T + layer.bias).mT.view(1, NUM_CLASSES, 3, 4)
        expected = F.interpolate(logits, (48, 64), mode="bilinear", align_corners=False)[:, :, :40]
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "readout", "stride"),
    [
        (TINY_14, "cat", 16),
        (TINY_14, "add", 16),
        (NO_CLASS_TOKEN, "cat", 16),
        (NO_CLASS_TOKEN, "ignore", 16),
        ("tu-vit_small_patch8_224", "cat", 8),
    ],
)
def test_dpt_on_an_even_grid_is_that_of_smp(encoder: str, readout: str, stride: int) -> None:
    model = randomise(model_of("dpt", encoder, readout=readout)).double().eval()
    channels, has_token = model.encoder.out_channels[0], model.encoder.has_prefix_tokens
    theirs = smp_dpt.DPTDecoder(
        [channels] * 4, [stride] * 4, has_token, readout, (16, 32, 64, 64), 16
    ).double()
    theirs.load_state_dict(model.decoder.state_dict())
    patch_px = model.encoder.output_stride
    x = padded(model, pixels(8 * patch_px - 3, 4 * patch_px).double(), patch_px)
    with torch.no_grad():
        maps = model.encoder(x)
        found = model.decoder(*maps)
        torch.testing.assert_close(found, theirs.eval()(*maps), rtol=1e-9, atol=1e-9)
    assert found.shape == (1, 16, 4 * stride, 2 * stride)


def test_upernet_is_that_of_smp_on_the_pyramid() -> None:
    model = randomise(model_of("upernet", TINY_14)).double().eval()
    state = model.decoder.state_dict()
    theirs = UPerNetDecoder([3, 8, 48, 96, 192, 192], 5, 16).double().eval()
    theirs.load_state_dict({key: value for key, value in state.items() if not key.startswith("pyramid.")})
    with torch.no_grad():
        maps, tokens = model.encoder(padded(model, pixels(70, 42).double(), 14))
        levels = [level(maps[0]) for level in model.decoder.pyramid]
        expected = theirs([maps[0], maps[0], *levels])
        torch.testing.assert_close(model.decoder(maps, tokens), expected, rtol=1e-9, atol=1e-9)
    assert [tuple(level.shape[1:]) for level in levels] == [
        (48, 20, 12), (96, 10, 6), (192, 5, 3), (192, 3, 2),
    ]  # fmt: skip
    assert torch.equal(levels[2], maps[0])


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("encoder", [TINY, TINY_14, NO_CLASS_TOKEN, "tu-vit_small_patch16_dinov3"])
def test_every_trained_parameter_has_a_gradient(arch: str, encoder: str) -> None:
    """Several processes would wait for one that has none."""
    model = model_of(arch, encoder).train()
    model(pixels(45, 48, 2)).square().sum().backward()
    named = model.named_parameters()
    assert [name for name, p in named if p.requires_grad == (p.grad is None)] == []


@pytest.mark.parametrize("encoder", [TINY, TINY_14])
def test_gradient_checkpointing_changes_no_gradient(encoder: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = model_of("linear", encoder, checkpointing=checkpointing).train()
        blocks = {id(block) for block in model.encoder.model.blocks}
        calls: list[int] = []
        for block in model.encoder.model.blocks:
            block.register_forward_pre_hook(lambda module, *_, calls=calls: calls.append(id(module)))
        model(pixels(42, 48, 2)).square().sum().backward()
        assert len(calls) == len(blocks) * (1 + checkpointing), "computed again in the backward pass"
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for one, two in zip(*gradients, strict=True):
        assert torch.equal(one, two)


def test_the_depth_of_each_parameter_counts_blocks_from_the_head() -> None:
    model = model_of("dpt", TINY_14, feature_norm=True)
    depths = depth_from_head(model)
    vit = model.encoder.model
    assert depths.keys() == {id(p) for p in model.encoder.parameters()}
    for number, block in enumerate(vit.blocks):
        assert {depths[id(p)] for p in block.parameters()} == {12 - number}
    assert (
        depths[id(vit.pos_embed)]
        == depths[id(vit.cls_token)]
        == depths[id(vit.patch_embed.proj.weight)]
        == 12
    )


def test_weights_in_the_layout_of_timm_fill_the_encoder(tmp_path) -> None:
    torch.manual_seed(3)
    published = timm.create_model("vit_tiny_patch16_224").state_dict()
    path = tmp_path / "model.safetensors"
    save_file(published, path)
    model = model_of("dpt", "tu-vit_tiny_patch16_224")
    report = load_weights(model, str(path))
    assert report.layout == "timm" and report.parts["encoder"].share == 1
    for key, tensor in model.encoder.model.state_dict().items():
        assert torch.equal(tensor, published[key]), key
    with pytest.raises(ModelError, match="fills"):
        load_weights(model_of("dpt", TINY_14), str(path))


def test_weights_by_their_tag_are_those_that_timm_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    create, asked = timm.create_model, []

    def filled(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        asked.append((name, pretrained))
        model = create(name, **options)
        nn.init.constant_(model.norm.bias, 7.0 if pretrained else 0.0)
        return model

    model = model_of("linear", TINY)
    monkeypatch.setattr(timm, "create_model", filled)
    report = load_weights(model, "smp:imagenet")
    assert asked == [("test_vit", True)] and report.parts["encoder"].share == 1
    assert (model.encoder.model.norm.bias == 7).all()


def test_the_licence_of_dinov3_is_named() -> None:
    assert model_of("linear", "tu-vit_small_patch16_dinov3").pretrained_licence() == "dinov3-license"
