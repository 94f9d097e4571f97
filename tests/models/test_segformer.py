"""SegFormer against the paper's figures, and against its formulas written out in float64."""

from itertools import pairwise

import pytest
import timm.layers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from models import segformer_heads
from models.segformer import VARIANTS, Attention, DropPath, SegFormer
from models.segformer_heads import MMSegHead, PaperHead
from tests.models import golden

# Millions of parameters with the ADE20K head of 150 classes: table 1 of arXiv 2105.15203, rounded to 0.1.
PUBLISHED = {"b0": 3.8, "b1": 13.7, "b2": 27.5, "b3": 47.3, "b4": 64.1, "b5": 84.7}
CHANNELS = (32, 64, 160, 256)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(scope="module")
def b0() -> SegFormer:
    torch.manual_seed(0)
    return SegFormer("b0", num_classes=5).eval()


@pytest.fixture
def maps() -> list[Tensor]:
    """The output of B0's encoder for a 36 x 52 image: sizes that do not halve evenly."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(9, 13), (5, 7), (3, 4), (2, 2)]
    return [
        torch.randn(2, c, *size, generator=generator, dtype=torch.float64, requires_grad=True)
        for c, size in zip(CHANNELS, sizes, strict=True)
    ]


def randomised(head: nn.Module) -> nn.Module:
    """In float64, with random norms, so that a wrong fold changes the result."""
    generator = torch.Generator().manual_seed(2)
    for tensor in head.double().state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5)
    return head


def up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def unfolded_paper_head(head: PaperHead, maps: list[Tensor]) -> Tensor:
    """The decoder as in the paper: project, upsample, concatenate, fuse."""
    projected = [
        mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for x, mlp in zip(maps, head.mlps, strict=True)
    ]
    concatenated = torch.cat([up(x, maps[0]) for x in projected[::-1]], dim=1)
    return head.classifier(F.relu(head.norm(head.fuse(concatenated))))


def unfolded_mmseg_head(head: MMSegHead, maps: list[Tensor]) -> Tensor:
    branches = [up(conv(x), maps[0]) for x, conv in zip(maps, head.convs, strict=True)]
    return head.classifier(F.relu(head.norm(head.fuse(torch.cat(branches, dim=1)))))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("kind", "unfolded"), [(PaperHead, unfolded_paper_head), (MMSegHead, unfolded_mmseg_head)]
)
def test_folded_head_equals_the_unfolded_one(kind, unfolded, training, maps):
    head = randomised(kind(CHANNELS, 16, 5, dropout=0.0)).train(training)
    inputs = [*maps, *head.parameters()]
    direction = torch.randn(2, 5, 9, 13, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    expected = unfolded(head, maps)
    expected_gradients = torch.autograd.grad((expected * direction).mean(), inputs)
    logits = head(maps)
    gradients = torch.autograd.grad((logits * direction).mean(), inputs)

    torch.testing.assert_close(logits, expected, **EXACT)
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, reference, **EXACT)


@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_attention_equals_the_softmax_written_out(reduction):
    torch.manual_seed(0)
    B, H, W, C, heads = 2, 6, 5, 12, 3
    attention = Attention(C, heads, reduction).double()
    x = torch.randn(B, H, W, C, dtype=torch.float64)

    context = x
    if reduction > 1:
        context = attention.reduce(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        context = attention.reduce_norm(context)
    q = attention.q(x).reshape(B, -1, heads, C // heads)
    k, v = attention.kv(context).reshape(B, -1, 2 * C).split(C, dim=-1)
    k, v = k.reshape(B, -1, heads, C // heads), v.reshape(B, -1, heads, C // heads)
    scores = torch.einsum("bqhc,bkhc->bhqk", q, k) / (C // heads) ** 0.5
    expected = attention.proj(torch.einsum("bhqk,bkhc->bqhc", scores.softmax(-1), v).reshape(B, H, W, C))

    torch.testing.assert_close(attention(x), expected, **EXACT)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_count_is_the_published_one(variant):
    with torch.device("meta"):
        model = SegFormer(variant, num_classes=150)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    # The figures are rounded to 0.05; the authors' counter also leaves out a little, so 0.1 is allowed.
    assert millions == pytest.approx(PUBLISHED[variant], abs=0.1)


def test_decoder_width_and_head_follow_the_arguments():
    with torch.device("meta"):
        assert SegFormer("b2").head.classifier.in_channels == 768
        assert SegFormer("b2", head="mmseg").head.classifier.in_channels == 256
        assert SegFormer("b2", decoder_width=64).head.classifier.in_channels == 64


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 130), width=st.integers(1, 130))
def test_any_size_gives_logits_at_a_quarter(b0, height, width):
    image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
    with torch.no_grad():
        logits = b0(image)
    assert logits.shape == (1, 5, (height + 3) // 4, (width + 3) // 4)
    assert logits.isfinite().all()


def test_encoder_maps_have_the_strides_and_channels_of_the_paper(b0):
    with torch.no_grad():
        maps = b0.encoder(torch.zeros(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(CHANNELS, (4, 8, 16, 32), strict=True)
    ]


def test_bytes_and_floats_of_the_same_pixels_agree(b0):
    image = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(b0(image), b0(image.float()))


def test_normalisation_is_imagenets(b0):
    grey = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    with torch.no_grad():
        expected = b0.head(b0.encoder(torch.zeros(1, 3, 32, 32)))
        torch.testing.assert_close(b0(grey), expected, rtol=0, atol=1e-4)


def test_an_image_does_not_depend_on_the_rest_of_its_batch():
    torch.manual_seed(0)
    model = SegFormer("b0", num_classes=5).double().eval()
    images = 255 * torch.rand(3, 3, 45, 38, dtype=torch.float64)
    with torch.no_grad():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


def test_stochastic_depth_rises_linearly():
    model = SegFormer("b0", drop_path=0.7)
    rates = [block.drop_path.drop_prob for stage in model.encoder.stages for block in stage.blocks]
    assert rates == pytest.approx([0.1 * i for i in range(8)])
    assert all(a < b for a, b in pairwise(rates))


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = SegFormer("b0", num_classes=5, drop_path=0.0)
    model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_normalisation_is_not_part_of_a_checkpoint(b0):
    assert not {"mean", "std"} & b0.state_dict().keys()


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_gradient_checkpointing_saves_memory_and_changes_no_gradient(precision):
    """With stochastic depth and dropout: the second computation draws the same random numbers."""
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)

    def kept_and_gradients(checkpointing: bool) -> tuple[int, list[Tensor]]:
        torch.manual_seed(0)
        model = SegFormer("b0", num_classes=5, drop_path=0.5, checkpointing=checkpointing).to(precision)
        kept = []  # values that autograd keeps

        def keep(x: Tensor) -> Tensor:
            kept.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            logits = model(image)
        logits.square().mean().backward()
        return sum(kept), [p.grad for p in model.parameters()]

    (much, expected), (little, recomputed) = kept_and_gradients(False), kept_and_gradients(True)
    assert little < much / 2
    assert all(torch.equal(a, b) for a, b in zip(expected, recomputed, strict=True))


def test_dropped_columns_are_dropped_channels() -> None:
    """The classifier with dropped columns equals the classifier after nn.Dropout2d, gradients included."""
    torch.manual_seed(0)
    x = torch.randn(3, 16, 5, 4, dtype=torch.float64, requires_grad=True)
    dropout, classifier = nn.Dropout2d(0.5), nn.Conv2d(16, 7, 1).double()
    results = []
    for classify in (
        lambda: segformer_heads.classify(x, dropout, classifier),
        lambda: classifier(dropout(x)),
    ):
        torch.manual_seed(1)
        logits = classify()
        gradients = torch.autograd.grad(logits.square().sum(), [x, *classifier.parameters()])
        results.append((logits, *gradients))
    assert (results[0][1].abs().sum((2, 3)) == 0).any()  # some channels of some samples are dropped
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", list(golden.CASES))
def test_golden_logits_of_transformers(variant: str) -> None:
    """For weights and an image given by formulas; one of the sizes does not halve evenly."""
    expected = golden.golden(variant)
    with torch.no_grad():
        found = golden.model_of(variant)(golden.image_of(variant))
    assert expected.std() > 1e-2  # not a constant
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("head", ["paper", "mmseg"])
def test_torch_compile_finds_one_graph_without_a_break(head: str) -> None:
    """Traced only: `fullgraph` raises at a break, with any backend."""
    model = SegFormer("b0", num_classes=3, decoder_width=16, head=head, drop_path=0.0, dropout=0.0)
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(image), model(image))
    model.train()
    compiled(image).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_paths_are_dropped_as_by_timm(rate: float) -> None:
    x, found = torch.randn(40, 3, 2, 5), []
    for layer in (DropPath(rate), timm.layers.DropPath(rate)):
        torch.manual_seed(4)
        found.append(layer(x))
        assert layer.eval()(x) is x
    assert torch.equal(*found)
    assert (found[0] == 0).any() == (rate > 0)
