"""`build_loss`: options reach the losses, components from outside, and what is refused."""

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
from losses import LossError, build_loss
from losses.boundary import boundary
from losses.cross_entropy import cross_entropy
from losses.focal import focal
from losses.lovasz import lovasz
from losses.overlap import tversky
from losses.statistics import Reduce
from losses.terms import Ohem

LOGITS = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 255, 1] * 64).view(2, 10, 16)
WEIGHTS = torch.tensor([1.0, 2.0, 3.0])
CE_AND_DICE = [{"name": "cross_entropy", "weight": 2.0}, {"name": "dice", "weight": 0.5}]


def test_terms_may_be_objects() -> None:
    objects = [SimpleNamespace(**term) for term in CE_AND_DICE]
    assert build_loss(objects, 3)(LOGITS, LABELS) == build_loss(CE_AND_DICE, 3)(LOGITS, LABELS)


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


def test_a_term_by_its_name_alone_is_refused() -> None:
    with pytest.raises(LossError, match="expected a mapping with its name"):
        build_loss(["dice"], num_classes=3)


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
