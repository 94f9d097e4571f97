"""The same results as the reference implementations, with the same weights, in float64 (`-m peers`)."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layouts import SMP
from models.segformer import VARIANTS, SegFormer
from models.translation import export, translate
from tests.models import golden

pytestmark = pytest.mark.peers
NUM_CLASSES = 21


def ours(variant: str) -> SegFormer:
    """In float64 and eval mode, with BatchNorm statistics that matter and biases that are not zero."""
    torch.manual_seed(0)
    model = SegFormer(variant, NUM_CLASSES).double().eval()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("bias", "running_mean")):
            nn.init.normal_(tensor, std=0.1)
        elif name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 2.0)
    return model


def hugging_face(model: SegFormer, variant: str) -> nn.Module:
    pytest.importorskip("transformers")
    return golden.transformers_of(model, variant)


def normalised(model: SegFormer, image: Tensor) -> Tensor:
    return (image - model.mean) / model.std


def image_of(height_px: int, width_px: int) -> Tensor:
    return 255 * torch.rand(1, 3, height_px, width_px, dtype=torch.float64, generator=torch.manual_seed(1))


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("size_px", [(512, 512), (375, 500), (333, 257)])
def test_logits_equal_those_of_transformers(variant: str, size_px: tuple[int, int]) -> None:
    model, image = ours(variant), image_of(*size_px)
    with torch.no_grad():
        expected = hugging_face(model, variant)(normalised(model, image)).logits
        found = model(image)
    assert expected.std() > 1e-3  # not a constant
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_gradients_equal_those_of_transformers(variant: str) -> None:
    model, image = ours(variant), image_of(128, 160)
    peer = hugging_face(model, variant)
    labels = torch.randint(0, NUM_CLASSES, (1, 128, 160), generator=torch.manual_seed(2))
    for logits in (model(image), peer(normalised(model, image)).logits):
        F.cross_entropy(F.interpolate(logits, labels.shape[-2:], mode="bilinear"), labels).backward()
    gradients = {name: parameter.grad for name, parameter in peer.named_parameters()}
    _, gradients, unknown = translate(gradients)
    assert unknown == []
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=0, atol=1e-8, msg=name)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_encoder_features_equal_those_of_smp(variant: str) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    model, image = ours(variant), image_of(256, 320)
    peer = smp.encoders.get_encoder(f"mit_{variant}", weights=None).double().eval()
    renamed, _ = export(model.state_dict(), SMP)
    encoder = {key.removeprefix("encoder."): t for key, t in renamed.items() if key.startswith("encoder.")}
    peer.load_state_dict(encoder)
    with torch.no_grad():
        expected = peer(normalised(model, image))[-4:]
        found = model.encoder(normalised(model, image))
    for ours_, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", list(golden.CASES))
def test_the_golden_logits_are_those_of_transformers(variant: str) -> None:
    pytest.importorskip("transformers")
    torch.testing.assert_close(
        golden.golden(variant), golden.transformers_logits(variant), rtol=0, atol=1e-10
    )
