"""The mixture: what it returns, that it upsamples, and what `build_loss` refuses."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

import losses
from losses import LossError, MixedLoss, build_loss
from losses.boundary import boundary
from losses.cross_entropy import cross_entropy
from losses.focal import focal
from losses.lovasz import lovasz
from losses.overlap import tversky
from losses.statistics import Reduce
from losses.terms import Ohem

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


def test_terms_may_be_objects() -> None:
    objects = [SimpleNamespace(**term) for term in CE_AND_DICE]
    assert build_loss(objects, 3)(LOGITS, LABELS) == build_loss(CE_AND_DICE, 3)(LOGITS, LABELS)


WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("term", "log_name", "function"),
    [
        (
            {"name": "cross_entropy", "class_weights": [1, 2, 3], "label_smoothing": 0.1},
            "loss_ce",
            lambda x: cross_entropy(x, LABELS, 255, WEIGHTS, 0.1),
        ),
        (
            {"name": "cross_entropy", "ohem": {"thresh": 0.2, "min_kept": 5}},
            "loss_ce",
            lambda x: cross_entropy(x, LABELS, 255, ohem=Ohem(thresh=0.2, min_kept=5)),
        ),
        (
            {"name": "cross_entropy", "ohem": SimpleNamespace(thresh=0, min_kept=5)},
            "loss_ce",
            lambda x: cross_entropy(x, LABELS, 255, ohem=Ohem(thresh=0, min_kept=5)),
        ),
        (
            {"name": "focal", "gamma": 0, "class_weights": [1, 2, 3]},
            "loss_focal",
            lambda x: focal(x, LABELS, 255, 0, WEIGHTS),
        ),
        (
            {"name": "dice", "per_image": True},
            "loss_dice",
            lambda x: losses.Dice(255, per_image=True)(x, LABELS),
        ),
        (
            {"name": "lovasz", "per_image": True},
            "loss_lovasz",
            lambda x: lovasz(x, LABELS, 255, per_image=True),
        ),
        (
            {"name": "tversky", "alpha": 0, "beta": 0.4, "gamma": 1.5},
            "loss_tversky",
            lambda x: tversky(x, LABELS, 255, 0, 0.4, 1.5),
        ),
        ({"name": "jaccard"}, "loss_jaccard", lambda x: losses.Jaccard(255)(x, LABELS)),
        ({"name": "boundary", "sigma_px": 2}, "loss_boundary", lambda x: boundary(x, LABELS, 255, 2)),
    ],
)
def test_options_reach_the_function(
    term: dict[str, Any], log_name: str, function: Callable[[Tensor], Tensor]
) -> None:
    loss = build_loss([term], 3)
    upsampled = F.interpolate(LOGITS, (10, 16), mode="bilinear", align_corners=False)
    assert loss(LOGITS, LABELS)[log_name] == function(upsampled)
    assert loss.state_dict() == {}, "a checkpoint holds no loss"


def test_logits_of_another_number_of_classes_are_refused() -> None:
    with pytest.raises(LossError, match=r"\(B, 4, h, w\).*got .*3"):
        build_loss(CE_AND_DICE, 4)(LOGITS, LABELS)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([], ["no terms", "{name: cross_entropy}"]),
        ([{"name": "dise"}], ["'dise'", "Did you mean dice?", "cross_entropy, dice, focal,"]),
        ([{"weight": 1.0}], ["None", "cross_entropy, dice, focal,"]),
        ([{"name": "dice"}, {"name": "dice"}], ["'dice' is given twice"]),
        ([{"name": "dice", "weight": -1}], ["weight", "'dice'", "{begin, end, start, ramp}", "got -1"]),
        ([{"name": "dice", "weight": float("nan")}], ["weight", "got nan"]),
        ([{"name": "dice", "weight": "much"}], ["weight", "got 'much'"]),
        ([{"name": "dice", "weight": {"begin": 0, "end": 1}}], ["weight", "{begin, end, start, ramp}"]),
        (
            [{"name": "cross_entropy", "label_smothing": 0.1}],
            ["'cross_entropy'", "'label_smothing'", "Did you mean label_smoothing?"],
        ),
        ([{"name": "dice", "gamma": 1}], ["'gamma'", "Choices: per_image, class_weights."]),
        ([{"name": "jaccard", "per_image": True}], ["'per_image'", "Choices: class_weights."]),
        ([{"name": "cross_entropy", "label_smoothing": 1.5}], ["label_smoothing", "less than 1, got 1.5"]),
        ([{"name": "cross_entropy", "class_weights": [1, 2]}], ["has 2 numbers, but there are 3 classes."]),
        ([{"name": "focal", "class_weights": "heavy"}], ["class_weights", "'focal'", "list", "'heavy'"]),
        ([{"name": "cross_entropy", "class_weights": "median"}], ["class_weights", "numbers", "'median'"]),
        ([{"name": "cross_entropy", "class_weights": [1, -2, 1]}], ["class_weights.1", "got -2"]),
        ([{"name": "cross_entropy", "class_weights": [0, 0, 0]}], ["class_weights", "not all 0"]),
        ([{"name": "cross_entropy", "ohem": 0.7}], ["ohem", "'cross_entropy'", "got 0.7"]),
        ([{"name": "cross_entropy", "ohem": {"tresh": 0.7}}], ["ohem.tresh"]),
        ([{"name": "cross_entropy", "ohem": {"thresh": 1}}], ["ohem.thresh", "less than 1, got 1"]),
        ([{"name": "cross_entropy", "ohem": {"min_kept": 0}}], ["ohem.min_kept", "equal to 1, got 0"]),
        ([{"name": "cross_entropy", "ohem": {"min_kept": 10.0}}], ["ohem.min_kept", "integer, got 10.0"]),
        ([{"name": "dice", "per_image": 1}], ["per_image", "'dice'", "boolean, got 1"]),
        ([{"name": "focal", "gamma": -1}], ["gamma", "'focal'", "equal to 0, got -1"]),
        ([{"name": "tversky", "alpha": True}], ["alpha", "number, got True"]),
        ([{"name": "tversky", "beta": 0}], ["beta", "'tversky'", "greater than 0, got 0"]),
        ([{"name": "tversky", "gamma": 0}], ["gamma", "greater than 0, got 0"]),
        ([{"name": "boundary", "sigma_px": 0.5}], ["sigma_px", "equal to 1, got 0.5"]),
    ],
)
def test_wrong_terms_are_refused_with_the_remedy(terms: list[dict[str, Any]], words: list[str]) -> None:
    with pytest.raises(LossError) as caught:
        build_loss(terms, 3)
    assert caught.value.exit_code == 2
    assert [word for word in words if word not in str(caught.value)] == []


class FromOutsideLoss(nn.Module):
    """The mean probability of the wrong classes, to a power; with neither ignore_index nor reduce."""

    def __init__(self, num_classes: int, power: Annotated[float, Field(gt=0)] = 1.0, mode: str = "mean"):
        super().__init__()
        if mode not in ("mean", "sum"):
            raise ValueError(f"mode must be mean or sum, not {mode!r}")
        self.num_classes, self.power = num_classes, power

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        own = F.one_hot(labels.where(labels < self.num_classes, 0), self.num_classes).movedim(-1, 1)
        return ((1 - (logits.softmax(1) * own).sum(1)) ** self.power).mean()


class Reduced(nn.Module):
    """The sum of the labels over all processes."""

    def __init__(self, ignore_index: int):
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce) -> Tensor:
        return reduce(labels[labels != self.ignore_index].sum().to(logits))


class ByClass(nn.Module):
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.mean((0, 2, 3))


class Nothing(nn.Module):
    def forward(self, logits: Tensor, labels: Tensor) -> None:
        pass


class Broken(nn.Module):
    def __init__(self) -> None:
        raise RuntimeError("no table")


NOT_A_CLASS = 3


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "outside", sys.modules[__name__])


def test_a_term_by_its_import_path(outside: None) -> None:
    terms = [{"name": "outside:FromOutsideLoss", "power": 2}, {"name": "outside:Reduced", "weight": 0.5}]
    loss = build_loss(terms, 3)
    loss.sum_over_processes = lambda x: 2 * x
    found = loss(LOGITS, LABELS)
    upsampled = F.interpolate(LOGITS, (10, 16), mode="bilinear", align_corners=False)
    assert found["loss_from_outside"] == FromOutsideLoss(3, power=2.0)(upsampled, LABELS)
    assert found["loss_reduced"] == 2 * LABELS[LABELS != 255].sum()
    torch.testing.assert_close(found["loss"], found["loss_from_outside"] + found["loss_reduced"] / 2)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ({"name": "outside:Missing"}, ["outside:Missing", "no attribute 'Missing'"]),
        ({"name": "outside:Broken"}, ["outside:Broken", "RuntimeError", "no table"]),
        ({"name": "no_such_module:Loss"}, ["no_such_module:Loss", "no module no_such_module"]),
        ({"name": "outside:NOT_A_CLASS"}, ["outside:NOT_A_CLASS", "class"]),
        ({"name": "outside:keep_nothing"}, ["outside:keep_nothing", "torch.nn.Module"]),
        ({"name": "outside:FromOutsideLoss", "power": 0}, ["power", "greater than 0, got 0"]),
        ({"name": "outside:FromOutsideLoss", "power": "2"}, ["power", "number, got '2'"]),
        ({"name": "outside:FromOutsideLoss", "powr": 1}, ["'powr'", "Did you mean power?"]),
        ({"name": "outside:FromOutsideLoss", "mode": "x"}, ["outside:FromOutsideLoss", "mean or sum"]),
    ],
)
def test_a_term_from_outside_that_cannot_be_built(
    outside: None, term: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(LossError) as caught:
        build_loss([term], 3)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(("name", "found"), [("ByClass", "(3,)"), ("Nothing", "NoneType")])
def test_a_term_that_returns_no_scalar_is_named(outside: None, name: str, found: str) -> None:
    with pytest.raises(LossError) as caught:
        build_loss([{"name": f"outside:{name}"}], 3)(LOGITS, LABELS)
    assert name in str(caught.value) and found in str(caught.value)


def keep_nothing() -> None:
    """No loss."""


def test_constructors_can_be_called_with_keywords_alone() -> None:
    upsampled = F.interpolate(LOGITS, (10, 16), mode="bilinear", align_corners=False)
    expected = tversky(upsampled, LABELS, 255, 0.5, 0.5, per_image=True)
    assert losses.Dice(per_image=True)(upsampled, LABELS) == expected
    weighted = losses.CrossEntropy(class_weights=[1, 2, 3])(upsampled, LABELS)
    assert weighted == cross_entropy(upsampled, LABELS, 255, WEIGHTS)
    with pytest.raises(LossError, match="class_weights.*median"):
        losses.CrossEntropy(class_weights="median")


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


def test_labels_of_bytes_give_the_same_loss() -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 8, 8))
    labels[0, 0] = 255
    loss = build_loss([{"name": "cross_entropy"}, {"name": "lovasz"}], num_classes=3)
    assert torch.equal(loss(logits, labels.byte())["loss"], loss(logits, labels)["loss"])


def test_a_term_by_its_name_alone_is_refused() -> None:
    with pytest.raises(LossError, match="expected a mapping with its name"):
        build_loss(["dice"], num_classes=3)
