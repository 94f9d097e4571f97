"""Loading weights: every layout fills the model exactly, and what does not fit stops."""

import json
from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from models import ModelError
from models import layouts as layouts_module
from models import weights as weights_module
from models.layouts import LAYOUTS, architecture, translate
from models.segformer import VARIANTS, SegFormer
from models.weights import initialise, load_weights
from models.zoo import ZooModel


def meta(variant: str, **arguments) -> SegFormer:
    with torch.device("meta"):
        return SegFormer(variant, **arguments)


@pytest.fixture
def in_layout(b0_state, as_hugging_face, as_nvlabs):
    return {
        "trident": b0_state,
        "hugging_face": as_hugging_face(b0_state),
        "nvlabs": as_nvlabs(b0_state),
    }


def saved(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


# Layouts


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("layout", ["trident", "hugging_face", "nvlabs"])
def test_each_layout_fills_the_whole_model(in_layout, b0_state, layout, suffix, tmp_path):
    model = SegFormer("b0", num_classes=21)
    report = load_weights(model, saved(in_layout[layout], tmp_path / f"weights{suffix}"))
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in b0_state.items())
    assert report.layout == layout
    assert report.parts["encoder"].share == report.parts["head"].share == 1
    leftovers = [
        key for part in report.parts.values() for key in (*part.missing, *part.unexpected, *part.reshaped)
    ]
    assert leftovers == []


@pytest.mark.parametrize("layout", ["hugging_face", "nvlabs"])
def test_an_imagenet_backbone_fills_the_encoder_alone(in_layout, layout, tmp_path):
    prefix = {"hugging_face": "segformer.", "nvlabs": "backbone."}[layout]
    state = {
        key.removeprefix(prefix): value for key, value in in_layout[layout].items() if key.startswith(prefix)
    }
    state["head.weight"] = torch.zeros(1000, 256)  # the ImageNet classifier of mit_b0.pth
    model = SegFormer("b0", num_classes=21)
    before = model.head.fuse.weight.clone()
    report = load_weights(model, saved(state, tmp_path / "mit_b0.pth"))
    assert report.parts["encoder"].share == 1
    assert report.parts["head"].matched == []
    assert report.parts["other"].unexpected == ["head.weight"]
    assert torch.equal(model.head.fuse.weight, before)


def test_key_and_value_are_stacked_in_this_order(in_layout, b0_state):
    theirs = in_layout["hugging_face"]
    key = theirs["segformer.encoder.block.2.1.attention.self.key.weight"]
    value = theirs["segformer.encoder.block.2.1.attention.self.value.weight"]
    assert torch.equal(b0_state["encoder.stages.2.blocks.1.attn.kv.weight"], torch.cat([key, value]))


@pytest.mark.parametrize(("layout", "other"), list(permutations(LAYOUTS, 2)))
def test_the_wrong_table_stops(in_layout, layout, other, tmp_path, monkeypatch):
    """The failure that this project exists for: a converter that renames no key must not pass."""
    path = saved(in_layout[layout.name], tmp_path / "weights.safetensors")
    monkeypatch.setattr(layouts_module, "LAYOUTS", (other,))
    with pytest.raises(ModelError, match=r"0\.0% of the encoder") as caught:
        load_weights(SegFormer("b0"), path)
    assert "layout detected:  none" in str(caught.value)
    assert "encoder.stages.0.embed.proj.weight" in str(caught.value)


@pytest.mark.parametrize("variant", VARIANTS)
def test_architecture_is_read_from_the_shapes(variant):
    found = architecture(meta(variant).state_dict())
    assert found.name == variant
    assert found == (VARIANTS[variant].channels, VARIANTS[variant].depths)


def test_a_stage_that_is_absent_leaves_the_architecture_open(b0_state):
    assert architecture({key: v for key, v in b0_state.items() if "stages.3." not in key}) is None


@pytest.mark.parametrize("variant", ["b2", "b5"])
def test_each_tensor_of_a_large_model_has_a_place(variant, as_hugging_face, as_nvlabs):
    state = meta(variant).state_dict()
    for rename in (as_hugging_face, as_nvlabs):
        _, renamed, unknown = translate(rename(state))
        assert unknown == []
        assert {key: value.shape for key, value in renamed.items()} == {
            key: value.shape for key, value in state.items()
        }


# The guard


@pytest.mark.parametrize(
    ("there", "here", "words"),
    [
        ("b0", "b2", ["these look like b0 weights", "32-64-160-256 channels", "the recipe asks for b2"]),
        ("b2", "b1", ["these look like b2 weights", "3-4-6-3 blocks", "the recipe asks for b1"]),
        ("b1", "b2", ["these look like b1 weights", "model.variant=b1"]),
    ],
)
def test_another_variant_is_named(there, here, words, monkeypatch):
    monkeypatch.setattr(weights_module, "read_source", lambda source: (source, meta(there).state_dict()))
    with pytest.raises(ModelError) as caught:
        load_weights(meta(here), "some.safetensors")
    for word in words:
        assert word in str(caught.value)


def test_below_95_percent_stops_and_leaves_the_model_alone(b0_state, tmp_path):
    partial = {key: v for key, v in b0_state.items() if "stages.3.blocks.1" not in key}
    model = SegFormer("b0", num_classes=21)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = saved(partial, tmp_path / "partial.safetensors")
    with pytest.raises(ModelError):
        load_weights(model, path)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_limit_counts_values_not_keys(b0_state, tmp_path):
    """Of the encoder's tensors, the small ones gone leave most of the values and few of the keys."""
    small = {k: v for k, v in b0_state.items() if k.startswith("head.") or v.ndim > 1}
    report = load_weights(SegFormer("b0", num_classes=21), saved(small, tmp_path / "small.safetensors"))
    encoder = report.parts["encoder"]
    assert len(encoder.missing) > len(encoder.matched)
    present = sum(v.numel() for k, v in small.items() if k.startswith("encoder."))
    total = sum(v.numel() for k, v in b0_state.items() if k.startswith("encoder."))
    assert 0.95 < encoder.share == present / total < 1


def test_garbage_stops(tmp_path):
    path = saved({"fc.weight": torch.zeros(3, 3)}, tmp_path / "garbage.safetensors")
    with pytest.raises(ModelError) as caught:
        load_weights(SegFormer("b0"), path)
    for word in (path, "0.0%", "fc.weight", "model.weights=hf:nvidia/mit-b0", "model.from_scratch=true"):
        assert word in str(caught.value)


def test_a_classifier_of_other_classes_is_left_out_and_told(b0_state, tmp_path):
    model = SegFormer("b0", num_classes=7)
    before = model.head.classifier.weight.clone()
    report = load_weights(model, saved(b0_state, tmp_path / "weights.safetensors"))
    assert report.parts["head"].reshaped == [
        "head.classifier.weight (21x256x1x1 -> 7x256x1x1)",
        "head.classifier.bias (21 -> 7)",
    ]
    assert torch.equal(model.head.classifier.weight, before)
    assert torch.equal(model.head.fuse.weight, b0_state["head.fuse.weight"])


def test_a_missing_batch_counter_does_not_cost_the_head(b0_state, tmp_path):
    older = {key: value for key, value in b0_state.items() if not key.endswith("num_batches_tracked")}
    report = load_weights(SegFormer("b0", num_classes=21), saved(older, tmp_path / "older.safetensors"))
    assert report.parts["head"].missing == []
    assert len(report.parts["head"].matched) == len([key for key in older if key.startswith("head.")])


@pytest.mark.parametrize("arguments", [{"head": "mmseg"}, {"decoder_width": 64}])
def test_a_head_of_another_make_is_left_out_whole(b0_state, arguments, tmp_path):
    """The two heads share names, but the order of their scales differs: loading a part would be noise."""
    model = SegFormer("b0", num_classes=21, **arguments)
    before = model.head.classifier.bias.clone()
    report = load_weights(model, saved(b0_state, tmp_path / "weights.safetensors"))
    assert report.parts["encoder"].share == 1
    assert report.parts["head"].matched == []
    assert torch.equal(model.head.classifier.bias, before)


def test_the_report_can_be_read_and_stored(b0_state, tmp_path):
    path = saved(b0_state | {"extra": torch.zeros(1)}, tmp_path / "weights.safetensors")
    report = load_weights(SegFormer("b0", num_classes=7), path)
    lines = report.summary().splitlines()
    assert [line.split()[0] for line in lines] == ["weights", "encoder", "head", "other"]
    assert "100.0%" in lines[1] and "2 reshaped" in lines[2] and "extra" in lines[3]
    stored = json.loads(json.dumps(report.to_dict()))
    assert stored["layout"] == "trident"
    assert stored["parts"]["encoder"]["missing"] == []
    assert stored["num_parameters"] == sum(p.numel() for p in SegFormer("b0", num_classes=7).parameters())


# What a recipe says


def section(weights=None, from_scratch=False):
    return SimpleNamespace(weights=weights, from_scratch=from_scratch)


def test_no_weights_needs_a_word():
    with pytest.raises(ModelError) as caught:
        initialise(meta("b3"), section())
    assert "model.weights=hf:nvidia/mit-b3" in str(caught.value)
    assert "model.from_scratch=true" in str(caught.value)
    assert initialise(meta("b3"), section(from_scratch=True)) is None


def test_weights_and_from_scratch_contradict_each_other():
    with pytest.raises(ModelError, match="contradict"):
        initialise(meta("b0"), section(weights="hf:nvidia/mit-b0", from_scratch=True))


def test_weights_of_the_recipe_are_loaded(b0_state, tmp_path):
    model = SegFormer("b0")
    report = initialise(model, section(saved(b0_state, tmp_path / "weights.safetensors")))
    assert report.parts["encoder"].share == 1
    key = "encoder.stages.0.embed.proj.weight"
    assert torch.equal(model.state_dict()[key], b0_state[key])


# The zoo


def test_a_zoo_model_loads_what_smp_saved(tmp_path):
    torch.manual_seed(0)
    one, other = ZooModel("unet", "resnet18", 3), ZooModel("unet", "resnet18", 4)
    report = load_weights(other, saved(one.state_dict(), tmp_path / "unet.safetensors"))
    assert report.parts["encoder"].share == 1
    assert len(report.parts["head"].reshaped) == 2
    assert torch.equal(other.encoder.conv1.weight, one.encoder.conv1.weight)


def test_a_zoo_model_refuses_another_encoder(tmp_path):
    state = ZooModel("unet", "resnet18", 3).state_dict()
    with pytest.raises(ModelError, match="smp:imagenet"):
        load_weights(ZooModel("unet", "vgg11", 3), saved(state, tmp_path / "unet.safetensors"))


def test_smp_weights_fill_the_encoder(monkeypatch):
    model = ZooModel("unet", "resnet18", 3)
    published = {f"encoder.{key}": value + 1 for key, value in model.encoder.state_dict().items()}
    monkeypatch.setattr(ZooModel, "pretrained_state", lambda self, tag: published)
    report = load_weights(model, "smp:imagenet")
    assert report.parts["encoder"].share == 1 and report.parts["head"].matched == []
    assert torch.equal(model.encoder.conv1.weight, published["encoder.conv1.weight"])


def test_smp_tags_are_checked():
    with pytest.raises(ModelError, match="Did you mean imagenet"):
        load_weights(ZooModel("unet", "resnet18", 3), "smp:imagnet")
    with pytest.raises(ModelError, match="hf:nvidia/mit-b0"):
        load_weights(meta("b0"), "smp:imagenet")
