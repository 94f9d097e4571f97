"""The discriminator: void pixels, the weight of a cell, and the sizes it takes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.discriminator import PatchDiscriminator


@pytest.fixture(scope="module")
def discriminator() -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(num_classes=4, channels=8, layers=3)


def batch(height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = 255 * torch.rand(2, 3, height, width, generator=generator)
    return image, torch.randn(2, 4, height, width, generator=generator).softmax(1)


def test_values_under_void_change_nothing(discriminator):
    image, probabilities = batch(40, 56)
    other_image, other_probabilities = batch(40, 56, seed=1)
    valid = torch.ones(2, 1, 40, 56, dtype=torch.bool)
    valid[:, :, 5:20, 10:30] = False

    logits, weight = discriminator(image, probabilities, valid)
    hidden_image = torch.where(valid, image, other_image)
    hidden_probabilities = torch.where(valid, probabilities, other_probabilities)
    hidden_probabilities[~valid.expand_as(hidden_probabilities)] = torch.nan  # not even NaN
    same_logits, same_weight = discriminator(hidden_image, hidden_probabilities, valid)
    assert torch.equal(logits, same_logits) and torch.equal(weight, same_weight)

    seen_logits, _ = discriminator(other_image, probabilities, valid)
    assert not torch.equal(logits, seen_logits)  # whereas other pixels do


def test_void_pixels_get_no_gradient(discriminator):
    image, probabilities = batch(40, 56)
    probabilities.requires_grad_()
    valid = torch.zeros(2, 1, 40, 56, dtype=torch.bool)
    valid[..., :20] = True
    discriminator(image, probabilities, valid)[0].sum().backward()
    assert not probabilities.grad[..., 20:].any()
    assert probabilities.grad[..., :20].any()


def test_weight_is_the_share_of_valid_pixels_of_each_cell(discriminator):
    image, probabilities = batch(20, 16)  # cells of 8 px: the last row of cells is half padding
    valid = torch.ones(2, 1, 20, 16, dtype=torch.bool)
    valid[0, 0, 0:4, 0:8] = False
    logits, weight = discriminator(image, probabilities, valid)
    assert logits.shape == weight.shape == (2, 1, 3, 2)
    assert weight[0, 0].tolist() == [[0.5, 1.0], [1.0, 1.0], [0.5, 0.5]]
    assert weight[1, 0].tolist() == [[1.0, 1.0], [1.0, 1.0], [0.5, 0.5]]


def test_an_all_void_image_has_weight_0(discriminator):
    image, probabilities = batch(32, 32)
    logits, weight = discriminator(image, probabilities, torch.zeros(2, 1, 32, 32, dtype=torch.bool))
    assert not weight.any()
    assert logits.isfinite().all()


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size(discriminator, height, width):
    image, probabilities = batch(height, width)
    logits, weight = discriminator(image, probabilities, torch.ones(2, 1, height, width, dtype=torch.bool))
    assert logits.shape == weight.shape == (2, 1, max(2, -(-height // 8)), max(2, -(-width // 8)))
    assert logits.isfinite().all()
    assert weight.sum().item() * 64 == pytest.approx(2 * height * width)


def test_layers_are_those_of_pix2pix():
    model = PatchDiscriminator(num_classes=21)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [m.in_channels for m in convolutions] == [24, 64, 128, 256, 512]
    assert [m.stride[0] for m in convolutions] == [2, 2, 2, 2, 1]
    assert sum(isinstance(m, nn.InstanceNorm2d) for m in model.modules()) == 3  # none on the first layer


def test_initialisation_follows_the_seed():
    def fresh(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in PatchDiscriminator(21).parameters() if p.ndim == 4])

    assert torch.equal(fresh(0), fresh(0))
    assert not torch.equal(fresh(0), fresh(1))
    assert fresh(0).std().item() == pytest.approx(0.02, rel=0.02)


def test_bytes_and_floats_of_the_same_pixels_agree(discriminator):
    image, probabilities = batch(24, 24)
    image = image.to(torch.uint8)
    valid = torch.ones(2, 1, 24, 24, dtype=torch.bool)
    assert torch.equal(
        discriminator(image, probabilities, valid)[0], discriminator(image.float(), probabilities, valid)[0]
    )


def test_without_the_image_it_scores_the_probabilities_alone():
    torch.manual_seed(0)
    alone = PatchDiscriminator(num_classes=4, channels=8, layers=3, sees_image=False)
    image, probabilities = batch(40, 56)
    other_image, other_probabilities = batch(40, 56, seed=1)
    valid = torch.ones(2, 1, 40, 56, dtype=torch.bool)
    logits, _ = alone(image, probabilities, valid)
    assert torch.equal(logits, alone(other_image, probabilities, valid)[0])
    assert not torch.equal(logits, alone(image, other_probabilities, valid)[0])


@pytest.mark.parametrize(("width", "pads"), [(56, 0), (50, 2)])
def test_whole_cells_are_not_copied_to_be_padded(discriminator, width: int, pads: int) -> None:
    """`F.pad` by nothing is a copy; by something it is needed for the input and for the weight."""
    image, probabilities = batch(40, width)
    counted = Operations()
    with counted:
        discriminator(image, probabilities, torch.ones(2, 1, 40, width, dtype=torch.bool))
    assert counted.names.count("aten::constant_pad_nd") == pads


class Operations(TorchDispatchMode):
    """The names of the operations that run in the block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name().partition(".")[0])
        return function(*args, **(kwargs or {}))
