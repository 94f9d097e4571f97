"""Loading weights: every layout fills the model exactly, and weights that do not fit are an error."""

from itertools import permutations
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from models import ModelError
from models import layouts as layouts_module
from models import weights as weights_module
from models.build import build_model
from models.layouts import LAYOUTS
from models.segformer import SegFormer
from models.sources import read_source
from models.state_dicts import StateDict
from models.weights import initialise, load_weights
from models.zoo import ZooModel


def meta(variant: str, **arguments) -> SegFormer:
    with torch.device("meta"):
        return SegFormer(variant, **arguments)


def saved(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


# Layouts


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("layout", [layout.name for layout in LAYOUTS])
def test_each_layout_fills_the_whole_model(in_layout, b0_state, b0_mmseg_state, layout, suffix, tmp_path):
    head = "mmseg" if layout == "mmsegmentation" else "paper"
    model = SegFormer("b0", num_classes=21, head=head)
    report = load_weights(model, saved(in_layout[layout], tmp_path / f"weights{suffix}"))
    loaded, part = model.state_dict(), "encoder." if layout == "timm_pvt_v2" else ""  # timm has no such head
    source = b0_mmseg_state if head == "mmseg" else b0_state
    assert all(torch.equal(loaded[key], value) for key, value in source.items() if key.startswith(part))
    assert report.layout == layout
    assert report.parts["encoder"].share == 1
    assert report.parts["head"].share == (0 if part else 1)
    left = [key for p in report.parts.values() for key in (*p.missing, *p.unexpected, *p.reshaped)]
    assert [key for key in left if key.startswith(part or "head.")] == []


@pytest.mark.parametrize(
    ("layout", "prefix"), [(layout.name, layout.prefix) for layout in LAYOUTS if layout.prefix]
)
def test_an_imagenet_backbone_fills_the_encoder_alone(in_layout, layout, prefix, tmp_path):
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


@pytest.mark.parametrize("is_bare", [False, True])
@pytest.mark.parametrize(("layout", "other"), list(permutations(LAYOUTS, 2)))
def test_a_wrong_layout_is_an_error(in_layout, layout, other, is_bare, tmp_path, monkeypatch):
    """A converter that renames nothing, or too little, must not pass."""
    if layout.encoder == other.encoder:
        pytest.skip(f"{layout.name} and {other.name} name a backbone alike, so that table is not wrong")
    prefix = layout.prefix if is_bare else ""
    state = {k.removeprefix(prefix): v for k, v in in_layout[layout.name].items() if k.startswith(prefix)}
    path = saved(state, tmp_path / "weights.safetensors")
    monkeypatch.setattr(layouts_module, "LAYOUTS", (other,))
    model = SegFormer("b0", num_classes=21)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ModelError, match=r"\d% of the encoder; a run needs 95%") as caught:
        load_weights(model, path)
    assert "encoder.stages.0.embed.proj.weight" in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


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
    monkeypatch.setattr(
        weights_module, "read_source", lambda source: (source, StateDict(meta(there).state_dict(), []))
    )
    with pytest.raises(ModelError) as caught:
        load_weights(meta(here), "some.safetensors")
    for word in words:
        assert word in str(caught.value)


def test_only_b5_of_timms_pvt_fits(monkeypatch):
    """The others have wider feed-forwards in two stages, which are under 5 % of B2's encoder."""
    with torch.device("meta"):
        states = {name: timm.create_model(f"pvt_v2_{name}").state_dict() for name in ("b2", "b5")}
    monkeypatch.setattr(weights_module, "read_source", lambda source: (source, StateDict(states[source], [])))
    assert load_weights(meta("b5"), "b5").parts["encoder"].share == 1
    with pytest.raises(ModelError, match="only pvt_v2_b5") as caught:
        load_weights(meta("b2"), "b2")
    assert "another shape:    encoder.stages.0.blocks.0.mlp.fc1.weight (512x64 -> 256x64)" in str(
        caught.value
    )


def test_one_tensor_of_another_shape_is_an_error(b0_state, tmp_path):
    key = "encoder.stages.0.blocks.0.norm1.weight"
    path = saved(b0_state | {key: torch.ones(33)}, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"another shape, so they are of another network(.|\n)*33 -> 32"):
        load_weights(SegFormer("b0"), path)


def test_a_first_layer_of_other_bands_is_named_with_their_number(b0_state, tmp_path):
    key = "encoder.stages.0.embed.proj.weight"
    wider = torch.zeros(32, 5, *b0_state[key].shape[2:])
    path = saved(b0_state | {key: wider}, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"for images of 5 bands\. .*data\.bands=5"):
        load_weights(SegFormer("b0"), path)


def test_below_95_percent_is_an_error_and_the_model_is_unchanged(b0_state, tmp_path):
    partial = {key: v for key, v in b0_state.items() if "stages.3.blocks.1" not in key}
    model = SegFormer("b0", num_classes=21)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = saved(partial, tmp_path / "partial.safetensors")
    with pytest.raises(ModelError):
        load_weights(model, path)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_limit_counts_values_not_keys(b0_state, tmp_path):
    """Without the encoder's small tensors most of the values remain, but few of the keys."""
    small = {k: v for k, v in b0_state.items() if k.startswith("head.") or v.ndim > 1}
    report = load_weights(SegFormer("b0", num_classes=21), saved(small, tmp_path / "small.safetensors"))
    encoder = report.parts["encoder"]
    assert len(encoder.missing) > len(encoder.matched)
    present = sum(v.numel() for k, v in small.items() if k.startswith("encoder."))
    total = sum(v.numel() for k, v in b0_state.items() if k.startswith("encoder."))
    assert 0.95 < encoder.share == present / total < 1


def test_other_tensors_are_an_error(tmp_path):
    path = saved({"fc.weight": torch.zeros(3, 3)}, tmp_path / "garbage.safetensors")
    with pytest.raises(ModelError) as caught:
        load_weights(SegFormer("b0"), path)
    for word in (path, "0.0%", "fc.weight", "model.weights=hf:nvidia/mit-b0", "model.from_scratch=true"):
        assert word in str(caught.value)


def test_a_classifier_of_other_classes_is_left_out_and_reported(b0_state, tmp_path):
    model = SegFormer("b0", num_classes=7)
    before = model.head.classifier.weight.clone()
    report = load_weights(model, saved(b0_state, tmp_path / "weights.safetensors"))
    assert report.parts["head"].reshaped == [
        "head.classifier.weight (21x256x1x1 -> 7x256x1x1)",
        "head.classifier.bias (21 -> 7)",
    ]
    assert torch.equal(model.head.classifier.weight, before)
    assert torch.equal(model.head.fuse.weight, b0_state["head.fuse.weight"])


def test_the_head_is_loaded_without_a_batch_counter(b0_state, tmp_path):
    older = {key: value for key, value in b0_state.items() if not key.endswith("num_batches_tracked")}
    report = load_weights(SegFormer("b0", num_classes=21), saved(older, tmp_path / "older.safetensors"))
    assert report.parts["head"].missing == []
    assert len(report.parts["head"].matched) == len([key for key in older if key.startswith("head.")])


@pytest.mark.parametrize("arguments", [{"head": "mmseg"}, {"decoder_width": 64}])
def test_a_head_of_another_kind_is_not_loaded_at_all(b0_state, arguments, tmp_path):
    """The two heads share names, but the order of their scales differs: a part would be useless."""
    model = SegFormer("b0", num_classes=21, **arguments)
    before = model.head.classifier.bias.clone()
    report = load_weights(model, saved(b0_state, tmp_path / "weights.safetensors"))
    assert report.parts["encoder"].share == 1
    assert report.parts["head"].matched == []
    assert torch.equal(model.head.classifier.bias, before)


# From a recipe


def section(weights=None, from_scratch=False):
    return SimpleNamespace(weights=weights, from_scratch=from_scratch)


def test_training_without_weights_needs_from_scratch():
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


def test_an_smp_model_loads_weights_saved_by_smp(tmp_path):
    torch.manual_seed(0)
    one, other = ZooModel("unet", "resnet18", 3), ZooModel("unet", "resnet18", 4)
    report = load_weights(other, saved(one.state_dict(), tmp_path / "unet.safetensors"))
    assert report.parts["encoder"].share == 1
    assert len(report.parts["head"].reshaped) == 2
    assert torch.equal(other.encoder.conv1.weight, one.encoder.conv1.weight)


def test_an_smp_model_refuses_another_encoder(tmp_path):
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


def test_a_network_without_an_encoder_is_filled_as_a_whole(tmp_path):
    """Its classifier may have another size; less than 95 % of all values is an error."""

    def network(width: int, num_classes: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Conv2d(3, width, 9), torch.nn.Conv2d(width, num_classes, 1))

    path = saved(network(8, 3).state_dict(), tmp_path / "net.safetensors")
    model = network(8, 2)
    report = load_weights(model, path)
    assert report.parts["head"].matched == ["0.weight", "0.bias"]
    assert "encoder" not in report.summary()
    torch.testing.assert_close(model.state_dict()["0.weight"], load_file(path)["0.weight"])
    with pytest.raises(ModelError, match="of the head"):
        load_weights(network(7, 3), path)
    with pytest.raises(ModelError, match="smp:imagenet.*Sequential"):
        load_weights(network(8, 3), "smp:imagenet")


@pytest.mark.parametrize(
    ("encoder", "deeper", "first"),
    [
        ("resnet18", "resnet34", "layer1.2.conv1.weight"),
        ("tu-tf_efficientnet_lite0", "tf_efficientnet_lite1", "blocks.1.2.conv_pw.weight"),
    ],
)
def test_a_deeper_network_does_not_fill_a_shallower_one(tmp_path, encoder, deeper, first):
    """Each stage of the deeper one begins with blocks of the same names and shapes."""
    model = build_model("fpn", num_classes=2, encoder=encoder)
    torch.save(timm.create_model(deeper).state_dict(), tmp_path / "deeper.pth")
    with pytest.raises(ModelError, match="of a deeper network") as error:
        load_weights(model, str(tmp_path / "deeper.pth"))
    assert first in str(error.value)
    name = encoder.removeprefix("tu-")
    torch.save(timm.create_model(name).state_dict(), tmp_path / "own.pth")
    assert load_weights(model, str(tmp_path / "own.pth")).parts["encoder"].share == 1


@pytest.mark.parametrize("name", ["rexnet_100", "hiera_tiny_224"])
def test_timms_own_file_fills_an_encoder_of_which_timm_keeps_a_part(tmp_path, name):
    """Of ReXNet it leaves out the last block; of Hiera it takes the maps by hooks."""
    torch.save(timm.create_model(name).state_dict(), tmp_path / "own.pth")
    model = build_model("fpn", num_classes=2, encoder=f"tu-{name}")
    assert load_weights(model, str(tmp_path / "own.pth")).parts["encoder"].share == 1


def test_names_within_wrapped_modules_and_models_side_by_side(b0_state, tmp_path):
    """As activation checkpointing and torch.compile of a part leave them, in a checkpoint of Lightning."""
    wrapped = {key.replace("encoder.", "encoder._orig_mod.", 1): tensor for key, tensor in b0_state.items()}
    other = {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in wrapped.items()}
    both = {
        f"{who}.{key}": t
        for who, state in (("student", wrapped), ("teacher", other))
        for key, t in state.items()
    }
    torch.save({"state_dict": both, "epoch": 1}, tmp_path / "last.ckpt")
    model = build_model("segformer", num_classes=21, variant="b0")
    key = next(key for key in b0_state if key.startswith("encoder."))
    for who, more in (("student", 0), ("teacher", 1)):
        load_weights(model, f"{tmp_path / 'last.ckpt'}#{who}")
        assert torch.equal(model.state_dict()[key], b0_state[key] + more)


TEXTS = {  # first line, what is typed or done next
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        "version https://git-lfs",
        "lfs pull",
    ),
    "page": (b"<!DOCTYPE html>\r\n<html>\r\n\t<head>", "<!DOCTYPE html>", "download that again"),
    "mark": (b"\xef\xbb\xbf\n\n<html lang='fr'>\n", "<html lang='fr'>", "download that again"),
    "letters": (
        "Accès refusé: ".encode() + b" " + 99 * "é".encode(),
        "Accès refusé",
        "download that again",
    ),  # cut
}


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_in_place_of_weights_is_shown(tmp_path, text, name):
    content, first_line, remedy = TEXTS[text]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="is a text, not weights") as error:
        read_source(str(tmp_path / name))
    assert first_line in str(error.value) and remedy in str(error.value)


def test_weights_in_several_files_are_put_together_by_the_command_that_is_shown(b0_state, tmp_path):
    keys = [*b0_state]
    for number, part in enumerate((keys[::2], keys[1::2]), start=1):
        tensors = {key: b0_state[key].contiguous() for key in part}
        save_file(tensors, tmp_path / f"model-0000{number}-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    model = build_model("segformer", num_classes=21, variant="b0")
    with pytest.raises(ModelError, match="in several files") as error:
        load_weights(model, str(tmp_path))
    [command] = [line.strip() for line in str(error.value).splitlines() if "python -c" in line]
    exec(command.split('"')[1])
    assert load_weights(model, str(tmp_path)).parts["encoder"].share == 1
