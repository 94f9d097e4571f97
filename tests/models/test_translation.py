"""Key layouts against the modules of the projects, and translation in both directions."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from models.layouts import HUGGING_FACE, LAYOUTS, MMSEGMENTATION, NVLABS, SMP, TIMM_PVT, TRIDENT
from models.segformer import VARIANTS, SegFormer
from models.translation import encoder_shape, export, translate

IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
ALIKE = {"rtol": 0, "atol": 2e-5}


def meta(variant: str, **arguments) -> SegFormer:
    with torch.device("meta"):
        return SegFormer(variant, **arguments)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_export_writes_the_names_of_the_project(layout, in_layout, b0_state, b0_mmseg_state):
    own = b0_mmseg_state if layout is MMSEGMENTATION else b0_state
    written, left_out = export(own, layout)
    assert same(written, in_layout[layout.name])
    assert left_out == ([key for key in own if key.startswith("head.")] if layout is TIMM_PVT else [])


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_translating_back_restores_every_tensor(layout, in_layout, b0_state, b0_mmseg_state):
    own = b0_mmseg_state if layout is MMSEGMENTATION else b0_state
    name, back, unknown = translate(in_layout[layout.name])
    assert (name, unknown) == (layout.name, [])
    assert same(back, {key: own[key] for key in own if key in back})
    assert layout is TIMM_PVT or len(back) == len(own)


@pytest.mark.parametrize(
    ("head", "layout"), [("paper", MMSEGMENTATION), ("mmseg", HUGGING_FACE), ("mmseg", SMP)]
)
def test_a_head_without_a_place_gives_a_bare_backbone(head, layout, b0_state, b0_mmseg_state):
    own = b0_state if head == "paper" else b0_mmseg_state
    written, left_out = export(own, layout)
    assert left_out == [key for key in own if key.startswith("head.")]
    assert not any(key.startswith((layout.prefix, "decode", "segmentation_head")) for key in written)
    name, back, _ = translate(written)
    assert name == ("nvlabs" if layout is SMP else layout.name)  # whose backbones have the same names
    assert same(back, {key: value for key, value in own.items() if key.startswith("encoder.")})


@pytest.mark.parametrize("variant", ["b2", "b5"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_tensor_of_a_large_model_has_a_name(layout, variant, renamers):
    state = meta(variant, head="mmseg" if layout is MMSEGMENTATION else "paper").state_dict()
    _, renamed, unknown = translate(renamers[layout.name](state))
    assert unknown == []
    part = "encoder." if layout is TIMM_PVT else ""
    assert {key: value.shape for key, value in renamed.items()} == {
        key: value.shape for key, value in state.items() if key.startswith(part)
    }


def test_queries_keys_and_values_are_stacked_in_this_order(in_layout, b0_state):
    block = "segformer.encoder.block.2.1.attention.self"
    q, k, v = (in_layout["huggingface"][f"{block}.{name}.weight"] for name in ("query", "key", "value"))
    assert torch.equal(b0_state["encoder.stages.2.blocks.1.attn.q.weight"], q)
    assert torch.equal(b0_state["encoder.stages.2.blocks.1.attn.kv.weight"], torch.cat([k, v]))
    stacked = in_layout["mmsegmentation"]["backbone.layers.2.1.1.attn.attn.in_proj_weight"]
    assert stacked.shape == (480, 160)


def test_names_and_results_equal_those_of_smp(in_layout):
    """Its own names and shapes, and the same maps and logits from the same weights."""
    torch.manual_seed(0)
    theirs = smp.Segformer("mit_b0", encoder_weights=None, classes=21).eval()
    state = theirs.state_dict()
    assert {key: value.shape for key, value in in_layout["smp"].items()} == {
        key: value.shape for key, value in state.items()
    }
    ours = SegFormer("b0", num_classes=21).eval()
    ours.load_state_dict(translate(state)[1])
    with torch.no_grad():
        features = theirs.encoder(IMAGE)
        maps = ours.encoder(IMAGE)
        for mine, reference in zip(maps, features[2:], strict=True):
            torch.testing.assert_close(mine, reference, **ALIKE)
        reference = theirs.segmentation_head[0](theirs.decoder(features))
        torch.testing.assert_close(ours.head(maps), reference, **ALIKE)


def test_names_and_results_equal_those_of_timm():
    """pvt_v2_b5 is too large for a quick test: the same class at the sizes of B0."""
    torch.manual_seed(0)
    sizes = {"embed_dims": (32, 64, 160, 256), "num_heads": (1, 2, 5, 8), "mlp_ratios": (4, 4, 4, 4)}
    theirs = timm.models.pvt_v2.PyramidVisionTransformerV2(depths=(2, 2, 2, 2), **sizes).eval()
    name, renamed, unknown = translate(theirs.state_dict())
    assert (name, unknown) == ("timm_pvt_v2", ["head.weight", "head.bias"])
    ours = SegFormer("b0").eval()
    assert {key for key in ours.state_dict() if key.startswith("encoder.")} == renamed.keys()
    ours.load_state_dict(renamed, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(ours.encoder(IMAGE)[-1], theirs.forward_features(IMAGE), **ALIKE)


def test_stacked_weights_of_the_wrong_size_do_not_crash(b0_state):
    key = "block1.0.attn.kv.weight"
    _, renamed, _ = translate({key: torch.zeros(1, 32), "patch_embed1.proj.bias": torch.zeros(32)})
    assert renamed["encoder.stages.0.blocks.0.attn.kv.weight"].shape == (1, 32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_architecture_is_read_from_the_shapes(variant):
    found = encoder_shape(meta(variant).state_dict())
    assert found.name == variant
    assert found == (VARIANTS[variant].channels, VARIANTS[variant].depths)


def test_the_architecture_is_unknown_without_a_stage(b0_state):
    assert encoder_shape({key: v for key, v in b0_state.items() if "stages.3." not in key}) is None


def test_every_layout_names_every_part_of_the_encoder():
    parts = {part for part in TRIDENT.encoder if "stages.0." not in part}
    assert all(parts <= layout.encoder.keys() for layout in LAYOUTS)
    assert len(NVLABS.encoder) == 14
