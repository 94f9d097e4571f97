"""`MixedLoss`: the sum of its terms, its gradients, and what it refuses as logits and labels."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses import TERMS, LossError, MixedLoss, build_loss
from losses.cross_entropy import cross_entropy
from losses.overlap import tversky
from losses.statistics import Reduce

LOGITS = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 255, 1] * 64).view(2, 10, 16)
CE_AND_DICE = [{"name": "cross_entropy", "weight": 2.0}, {"name": "dice", "weight": 0.5}]


def test_total_is_the_weighted_sum_at_the_size_of_the_labels() -> None:
    upsampled = F.interpolate(LOGITS, (10, 16), mode="bilinear", align_corners=False)
    ce, overlap = cross_entropy(upsampled, LABELS, 255), tversky(upsampled, LABELS, 255, 0.5, 0.5)
    losses = build_loss(CE_AND_DICE, num_classes=3, ignore_index=255)(LOGITS, LABELS)
    assert list(losses) == ["loss", "loss_ce", "loss_dice"]
    expected = {"loss": 2 * ce + overlap / 2, "loss_ce": ce, "loss_dice": overlap}
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)


EVERY_TERM = [
    {"name": "cross_entropy", "class_weights": [1, 2, 3], "label_smoothing": 0.1},
    {"name": "dice", "weight": 0.5},
    {"name": "tversky", "gamma": 1.3},
    {"name": "jaccard", "weight": 2.0},
    {"name": "focal"},
    {"name": "lovasz"},
]


def test_mixed_terms_equal_each_term_alone() -> None:
    def found(terms: list[dict]) -> tuple[Tensor, Tensor]:
        leaf = LOGITS.clone().requires_grad_()
        losses = build_loss(terms, 3)(leaf, LABELS)
        losses["loss"].backward()
        assert leaf.grad is not None
        return losses["loss"].detach(), leaf.grad

    alone = [found([term]) for term in EVERY_TERM]
    expected = tuple(torch.stack(parts).sum(0) for parts in zip(*alone, strict=True))
    torch.testing.assert_close(found(EVERY_TERM), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("term", EVERY_TERM[:4], ids=lambda term: term["name"])
def test_a_term_from_sums_is_the_term_from_logits_at_full_size(term: dict) -> None:
    """Value and gradient, to 1e-12 in float64."""
    loss = build_loss([term], 3)
    [module] = loss.terms.values()
    assert module.takes_sums
    results = []
    for compute in (
        lambda z: loss(z, LABELS)["loss"] / loss.weight(next(iter(loss.terms))),
        lambda z: module(F.interpolate(z, (10, 16), mode="bilinear", align_corners=False), LABELS),
    ):
        leaf = LOGITS.clone().requires_grad_()
        value = compute(leaf)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_a_ramp_is_linear_from_begin_to_end() -> None:
    ramp = {"begin": 2.0, "end": 0.5, "start": 10, "ramp": 3}
    loss = build_loss([{"name": "cross_entropy"}, {"name": "dice", "weight": ramp}], 3)
    weights = []
    for step in (0, 10, 11, 12, 13, 99):
        loss.step = step
        weights.append(loss.weight("loss_dice"))
        losses = loss(LOGITS, LABELS)
        expected = losses["loss_ce"] + weights[-1] * losses["loss_dice"]
        torch.testing.assert_close(losses["loss"], expected)
    assert weights == pytest.approx([2.0, 2.0, 1.5, 1.0, 0.5, 0.5])


def test_a_ramp_of_no_length_is_a_switch() -> None:
    loss = build_loss([{"name": "dice", "weight": SimpleNamespace(begin=0, end=1, start=5, ramp=0)}], 3)
    weights = []
    for loss.step in (4, 5, 6):
        weights.append(loss.weight("loss_dice"))
    assert weights == [0, 0, 1]


def test_gradient_norms_on_request() -> None:
    """Of the weighted terms at the logits; none without a gradient, and the total's gradient is the same."""
    terms = [{"name": "cross_entropy", "weight": 2.0}, {"name": "dice", "weight": 0}, {"name": "lovasz"}]
    loss, plain = build_loss(terms, 3), build_loss(terms, 3)
    loss.gradient_norms = True
    assert "grad_ce" not in loss(LOGITS, LABELS)
    leaf, other = (LOGITS.clone().requires_grad_() for _ in range(2))
    losses = loss(leaf, LABELS)
    losses["loss"].backward()
    plain(other, LABELS)["loss"].backward()
    assert leaf.grad is not None and other.grad is not None
    torch.testing.assert_close(leaf.grad, other.grad)
    for term in terms:
        alone = LOGITS.clone().requires_grad_()
        build_loss([term], 3)(alone, LABELS)["loss"].backward()
        name = {"cross_entropy": "grad_ce", "dice": "grad_dice", "lovasz": "grad_lovasz"}[term["name"]]
        assert alone.grad is not None
        torch.testing.assert_close(losses[name], alone.grad.norm())
    assert losses["grad_dice"] == 0 < losses["grad_ce"]


class Product(nn.Module):
    """A term with a matrix product, which autocast computes in half precision."""

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce) -> Tensor:
        return logits.flatten() @ logits.flatten()


def test_terms_run_in_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = MixedLoss({"loss_product": (Product(), 1.0)}, 3, 255)(LOGITS.bfloat16(), LABELS)
    assert {value.dtype for value in losses.values()} == {torch.float32}


def test_only_the_total_carries_a_gradient() -> None:
    losses = build_loss(CE_AND_DICE, 3)(LOGITS.clone().requires_grad_(), LABELS)
    assert {name: value.requires_grad for name, value in losses.items()} == {
        "loss": True,
        "loss_ce": False,
        "loss_dice": False,
    }


def test_a_term_of_weight_zero_is_logged_but_has_no_effect() -> None:
    terms = [{"name": "cross_entropy"}, {"name": "dice", "weight": 0}]
    losses = build_loss(terms, 3)(LOGITS, LABELS)
    assert losses["loss"] == losses["loss_ce"]
    assert losses["loss_dice"] > 0


@pytest.mark.parametrize(("output", "got"), [({"out": LOGITS}, "a dict"), (LOGITS[:, :2], "2")])
def test_what_is_no_logits_of_these_classes(output: Any, got: str) -> None:
    with pytest.raises(LossError, match=rf"\(B, 3, h, w\).*got .*{got}"):
        build_loss([{"name": "dice"}], 3)(output, LABELS)


def test_gradients_in_bf16_are_the_same_with_their_norms() -> None:
    """`log.loss_gradients` is a value of the log: it must not change the training."""
    found = []
    for norms in (False, True):
        loss = build_loss([{"name": "cross_entropy"}, {"name": "focal"}], 3)
        loss.gradient_norms = norms
        logits = LOGITS.bfloat16().requires_grad_()
        loss(logits, LABELS)["loss"].backward()
        found.append(logits.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "labels",
    [
        torch.zeros(3, 8, 8, dtype=torch.long),  # of a larger batch, whose end was ignored
        torch.zeros(1, 8, 8, dtype=torch.long),
        torch.zeros(2, 1, 8, 8, dtype=torch.long),
        torch.zeros(2, 3, 8, 8, dtype=torch.long),  # one-hot
        torch.zeros(2, 8, 8),
    ],
)
def test_labels_that_are_no_map_for_each_image_are_refused(labels: torch.Tensor) -> None:
    for terms in ([{"name": "dice"}], [{"name": "lovasz"}]):
        with pytest.raises(LossError, match=r"Labels have to be integers \(2, H, W\).*got torch"):
            build_loss(terms, num_classes=3)(torch.zeros(2, 3, 4, 4), labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("name", TERMS)
def test_labels_of_any_integer_type_give_the_same_loss(name: str, dtype: torch.dtype) -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 8, 8))
    labels[0, 0] = 255
    loss = build_loss([{"name": name}], num_classes=3)
    assert torch.equal(loss(logits, labels.to(dtype))["loss"], loss(logits, labels)["loss"])
