"""The losses of classes that may overlap, against their definitions on whole logits."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from losses import LossError, build_loss
from losses.terms import TERMS

VOID = 255
C, H, W = 3, 24, 40
MULTI = [name for name, term in TERMS.items() if term.takes_multi]


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (2, C, 6, 10) and overlapping masks (2, C, H, W) with void."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, C, H // 4, W // 4, generator=rng, dtype=torch.float64)
    labels = torch.randint(0, 2, (2, C, H, W), generator=rng)
    labels[torch.rand(2, C, H, W, generator=rng) < 0.2] = VOID
    labels[1, 2] = VOID
    return logits.requires_grad_(), labels


def whole(logits: Tensor) -> Tensor:
    return F.interpolate(logits, (H, W), mode="bilinear", align_corners=False)


def loss_of(name: str, logits: Tensor, labels: Tensor, **options: object) -> Tensor:
    return build_loss([{"name": name, **options}], C, VOID, multi_label=True)(logits, labels)["loss"]


def definition_of(name: str, x: Tensor, labels: Tensor) -> Tensor:
    """By plain operations, void masked out."""
    known, own = labels != VOID, (labels == 1).to(x)
    p = x.sigmoid()
    bce = F.binary_cross_entropy_with_logits(x, own, reduction="none")
    if name == "cross_entropy":
        return bce[known].mean()
    if name == "focal":
        of_label = torch.where(labels == 1, p, 1 - p)
        return ((1 - of_label) ** 2 * bce)[known].mean()
    p = p * known
    both, either = (p * own).sum((0, 2, 3)), (p + own).sum((0, 2, 3))
    if name == "dice":
        return (1 - 2 * both / either).mean()
    assert name == "jaccard"
    return (1 - both / (either - both)).mean()


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal", "jaccard"])
def test_value_and_gradient_are_those_of_the_definition(name: str) -> None:
    logits, labels = drawn()
    found, expected = loss_of(name, logits, labels), definition_of(name, whole(logits), labels)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_tversky_of_one_half_is_dice() -> None:
    logits, labels = drawn()
    half = loss_of("tversky", logits, labels, alpha=0.5, beta=0.5)
    torch.testing.assert_close(half, loss_of("dice", logits, labels))


def test_one_class_without_its_rest() -> None:
    """Binary: a pixel is right when its own probability is, whatever that of any other class."""
    logits = torch.tensor([20.0, -20.0]).view(1, 1, 1, 2)
    labels = torch.tensor([1, 0]).view(1, 1, 1, 2)
    loss = build_loss([{"name": "cross_entropy"}, {"name": "dice"}], 1, VOID, multi_label=True)
    assert loss(logits, labels)["loss"] < 1e-6
    assert loss(-logits, labels)["loss"] > 20


def test_boundary_weighs_the_pixels_around_the_outline_of_each_class() -> None:
    """Of a class whose outline is far away, or on no pixel, nothing counts."""
    labels = torch.zeros(1, 2, 8, 64, dtype=torch.int64)
    labels[0, 0, :, :4] = 1
    logits = torch.zeros(1, 2, 8, 64, requires_grad=True)
    loss = build_loss([{"name": "boundary", "sigma_px": 2.0}], 2, VOID, multi_label=True)
    loss(logits, labels)["loss"].backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, :, 3:5].abs().min() > 0
    assert logits.grad[0, 0, :, 30:].abs().max() == 0
    assert logits.grad[0, 1].abs().max() == 0


def test_all_void_is_zero() -> None:
    logits, labels = drawn()
    loss = build_loss([{"name": name} for name in MULTI], C, multi_label=True)
    value = loss(logits, torch.full_like(labels, VOID))["loss"]
    assert value == 0
    assert torch.autograd.grad(value, logits)[0].abs().max() == 0


def test_parts_of_a_batch_have_the_loss_of_the_whole() -> None:
    logits, labels = drawn()
    loss = build_loss([{"name": "cross_entropy"}, {"name": "focal"}], C, VOID, multi_label=True)
    expected = loss(logits, labels)["loss"]
    found = []
    for i, part in enumerate(loss.parts_of(labels.chunk(2))):
        loss.part = part
        found.append(loss(logits[i : i + 1], labels[i : i + 1])["loss"])
    torch.testing.assert_close(torch.stack(found).mean(), expected)


@pytest.mark.parametrize(
    ("term", "named"),
    [
        ({"name": "lovasz"}, "lovasz"),
        ({"name": "dice", "per_image": True}, "per_image"),
        ({"name": "cross_entropy", "class_weights": [1.0, 2.0, 1.0]}, "class_weights"),
        ({"name": "cross_entropy", "ohem": {"thresh": 0.5}}, "ohem"),
    ],
)
def test_what_needs_one_class_a_pixel_is_refused(term: dict[str, object], named: str) -> None:
    with pytest.raises(LossError, match=rf"{named}.* is for pixels of one class each"):
        build_loss([term], C, VOID, multi_label=True)


@pytest.mark.parametrize("labels", [torch.zeros(2, 8, 8), torch.zeros(1, C, 8, 8)])
def test_labels_that_are_no_masks_for_each_image_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(LossError, match=r"Labels have to be \(2, C, H, W\).*got torch.float32"):
        build_loss([{"name": "dice"}], C, multi_label=True)(torch.zeros(2, C, 4, 4), labels)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32])
@pytest.mark.parametrize("name", MULTI)
def test_masks_of_any_integer_type_give_the_same_loss(name: str, dtype: torch.dtype) -> None:
    logits, labels = drawn()
    labels = labels.masked_fill(labels == VOID, 1)
    assert torch.equal(loss_of(name, logits, labels.to(dtype)), loss_of(name, logits, labels))


@pytest.mark.parametrize("name", MULTI)
def test_masks_of_shares_are_refused(name: str) -> None:
    logits, labels = drawn()
    with pytest.raises(LossError, match=r"be integers.*got torch.float32.*\(masks > 0.5\).long\(\)"):
        loss_of(name, logits, labels.float())
