"""Properties of each loss term alone and of their mixture: void, permutations, precision, split batches."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

import losses
from losses import MixedLoss, build_loss
from losses.statistics import Reduce

VOID = 255
NUM_CLASSES = 4
WEIGHTS = [0.5, 1, 2, 0]
TERMS: dict[str, list[dict[str, Any]]] = {
    "cross_entropy": [{"name": "cross_entropy"}],
    "weighted": [{"name": "cross_entropy", "class_weights": WEIGHTS, "label_smoothing": 0.1}],
    "ohem": [{"name": "cross_entropy", "ohem": {"thresh": 0.4, "min_kept": 10}}],
    "dice": [{"name": "dice"}],
    "dice per image": [{"name": "dice", "per_image": True}],
    "focal": [{"name": "focal"}],
    "focal without gamma": [{"name": "focal", "gamma": 0.0}],
    "focal weighted": [{"name": "focal", "gamma": 0.5, "class_weights": WEIGHTS}],
    "lovasz": [{"name": "lovasz"}],
    "lovasz per image": [{"name": "lovasz", "per_image": True}],
    "tversky": [{"name": "tversky"}],
    "focal tversky": [{"name": "tversky", "gamma": 4 / 3}],
    "jaccard": [{"name": "jaccard"}],
    "mcc": [{"name": "mcc"}],
    "dice weighted": [{"name": "dice", "class_weights": WEIGHTS}],
    "dice per image weighted": [{"name": "dice", "per_image": True, "class_weights": WEIGHTS}],
    "tversky weighted": [{"name": "tversky", "gamma": 4 / 3, "class_weights": WEIGHTS}],
    "jaccard weighted": [{"name": "jaccard", "class_weights": WEIGHTS}],
    "lovasz per image weighted": [{"name": "lovasz", "per_image": True, "class_weights": WEIGHTS}],
    "mcc weighted": [{"name": "mcc", "class_weights": WEIGHTS}],
    "focal ohem": [{"name": "focal", "ohem": {"thresh": 0.4, "min_kept": 10}}],
    "boundary ohem": [{"name": "boundary", "sigma_px": 1.5, "ohem": {"thresh": 0.4, "min_kept": 10}}],
    "boundary": [{"name": "boundary", "sigma_px": 1.5}],
    "mixed": [{"name": "cross_entropy", "weight": 0.7}, {"name": "dice", "weight": 0.3}],
    "all": [{"name": name, "weight": 0.1} for name in losses.TERMS],
}
every_term = pytest.mark.parametrize("name", TERMS)
NOT_OVER_PROCESSES = (
    "ohem",
    "focal ohem",
    "boundary ohem",
    "lovasz",
    "all",
)  # a selection or an order over all pixels is not a sum


def build(name: str) -> MixedLoss:
    """The loss under test, in float64 where the logits are."""
    return build_loss(TERMS[name], NUM_CLASSES, VOID)


def batch(seed: int, void_share: float = 0.3) -> tuple[Tensor, Tensor]:
    """Logits (3, C, 4, 5) at half the size of the labels (3, 8, 10), in which some ids may be missing."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, NUM_CLASSES, 4, 5, dtype=torch.float64, generator=generator)
    num_ids = int(torch.randint(1, NUM_CLASSES + 1, (), generator=generator))
    labels = torch.randint(0, num_ids, (3, 8, 10), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < void_share] = VOID
    return logits.requires_grad_(), labels


def gradient(loss: MixedLoss, logits: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the total with respect to the logits."""
    leaf = logits.detach().requires_grad_()
    loss(leaf, labels)["loss"].backward()
    assert leaf.grad is not None
    return leaf.grad


@every_term
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_void_pixels_get_no_gradient_and_are_ignored(name: str, seed: int) -> None:
    _, labels = batch(seed)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, NUM_CLASSES, 8, 10, dtype=torch.float64, generator=generator)
    void = (labels == VOID).unsqueeze(1)
    assert gradient(build(name), logits, labels).masked_select(void).eq(0).all()
    changed = torch.where(void, 50 * torch.randn(logits.shape, dtype=torch.float64), logits)
    torch.testing.assert_close(build(name)(changed, labels)["loss"], build(name)(logits, labels)["loss"])


@every_term
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_batch_does_not_matter(name: str, seed: int) -> None:
    logits, labels = batch(seed)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        build(name)(logits[order], labels[order])["loss"], build(name)(logits, labels)["loss"]
    )


@pytest.mark.parametrize("name", [name for name in TERMS if name not in NOT_OVER_PROCESSES])
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), void_share=st.sampled_from([0.0, 0.3, 1.0]))
def test_a_split_batch_gives_the_loss_and_gradient_of_the_whole(
    name: str, seed: int, void_share: float
) -> None:
    """Two processes with uneven shares, simulated in turn: each adds the sums of the other one."""
    logits, labels = batch(seed, void_share)
    whole, part, listener = build(name), build(name), build(name)
    halves = slice(0, 1), slice(1, 3)
    for mine, other in (halves, halves[::-1]):
        sums: list[Tensor] = []
        listener.sum_over_processes = remember(sums)
        listener(logits[other], labels[other])
        part.sum_over_processes = add_each(sums)
        torch.testing.assert_close(part(logits[mine], labels[mine]), whole(logits, labels))
        part.sum_over_processes = add_each(sums)
        torch.testing.assert_close(
            gradient(part, logits[mine], labels[mine]), gradient(whole, logits, labels)[mine]
        )


@given(seed=st.integers(0, 2**32 - 1))
def test_lovasz_of_a_split_batch_is_the_mean_of_the_parts(seed: int) -> None:
    logits, labels = batch(seed)
    labels[0] = VOID if seed % 3 == 0 else labels[0]
    term, part = build("lovasz"), build("lovasz")
    halves = slice(0, 1), slice(1, 3)
    alone = [term(logits[mine], labels[mine])["loss"] for mine in halves if (labels[mine] != VOID).any()]
    sums: list[Tensor] = []
    term.sum_over_processes = remember(sums)
    term(logits[halves[1]], labels[halves[1]])
    part.sum_over_processes = add_each(sums)
    torch.testing.assert_close(part(logits[halves[0]], labels[halves[0]])["loss"], torch.stack(alone).mean())


@given(seed=st.integers(0, 2**32 - 1))
def test_ohem_of_a_split_batch_is_the_mean_of_what_the_parts_keep(seed: int) -> None:
    """With as many images and hard pixels in each part, and nothing above the threshold."""
    logits, labels = batch(seed, void_share=0.0)
    term = [{"name": "cross_entropy", "ohem": {"thresh": 0.0, "min_kept": 7}}]
    whole, listener = build_loss(term, NUM_CLASSES, VOID), build_loss(term, NUM_CLASSES, VOID)
    alone = [whole(logits[[n]], labels[[n]])["loss"] for n in (0, 1)]
    sums: list[Tensor] = []
    listener.sum_over_processes = remember(sums)
    listener(logits[[1]], labels[[1]])
    whole.sum_over_processes = add_each(sums)
    torch.testing.assert_close(whole(logits[[0]], labels[[0]])["loss"], torch.stack(alone).mean())


def remember(sums: list[Tensor]) -> Reduce:
    """A reduce that only records."""

    def reduce(x: Tensor) -> Tensor:
        sums.append(x.detach())
        return x

    return reduce


def add_each(sums: list[Tensor]) -> Reduce:
    """A reduce that adds the sums of the other process, in the order in which they were taken."""
    rest = iter(sums)
    return lambda x: x + next(rest)


@every_term
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("labels", [[[VOID, VOID], [VOID, VOID]], [[0, VOID], [VOID, VOID]], [[1]]])
def test_few_or_no_labelled_pixels_give_finite_values(
    name: str, dtype: torch.dtype, autocast: bool, labels: list[list[int]]
) -> None:
    target = torch.tensor([labels])
    logits = torch.tensor([30.0, -30.0, 0.0, 5.0], dtype=dtype).view(1, 4, 1, 1).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        values = build(name)(logits, target)
    values["loss"].backward()
    assert logits.grad is not None
    assert all(
        value.dtype == max(dtype, torch.float32, key=lambda d: d.itemsize) for value in values.values()
    )
    assert all(value.isfinite() for value in values.values())
    assert logits.grad.isfinite().all()
    if (target == VOID).all():
        assert values["loss"] == 0
        assert logits.grad.eq(0).all()


@pytest.mark.parametrize("name", [name for name in TERMS if name != "weighted"])  # label smoothing has a cost
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_perfect_prediction_costs_nothing_with_any_void(name: str, dtype: torch.dtype) -> None:
    labels = (torch.arange(100).view(1, 10, 10) // 7 % NUM_CLASSES).repeat(2, 1, 1)
    logits = 200 * one_hot(labels, NUM_CLASSES).permute(0, 3, 1, 2).to(dtype)
    labels[:, ::5] = VOID  # 20 %, all predicted as something
    tolerance = torch.finfo(dtype).eps ** (1 / 2)  # focal Tversky takes rounding to the power 3/4
    assert build(name)(logits, labels)["loss"].item() == pytest.approx(0, abs=tolerance)


@every_term
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_worst_prediction_has_a_finite_gradient(name: str, dtype: torch.dtype) -> None:
    """Every pixel is certain of a class that is not in the labels, so some class has probability 0."""
    logits = torch.zeros(1, NUM_CLASSES, 6, 6, dtype=dtype)
    logits[:, 2] = 1000
    labels = torch.arange(36).view(1, 6, 6) % 2
    assert build(name)(logits, labels)["loss"].isfinite()
    assert gradient(build(name), logits, labels).isfinite().all()


@every_term
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_small_step_down_the_gradient_costs_less(name: str, seed: int) -> None:
    logits, labels = batch(seed)
    slope = gradient(build(name), logits, labels)
    length = slope.square().sum()
    before = build(name)(logits, labels)["loss"]
    after = build(name)(logits - 1e-3 * slope / length.sqrt().clamp(min=1e-12), labels)["loss"]
    assert after < before or length < 1e-12


@every_term
def test_gradcheck(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, NUM_CLASSES, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, VOID, 2, 2, 0] * 2).view(2, 2, 3)  # class 3 is absent
    assert torch.autograd.gradcheck(lambda x: build(name)(x, labels)["loss"], logits)


@every_term
def test_autocast_changes_nothing(name: str) -> None:
    logits, labels = batch(0)
    half = logits.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = build(name)(half, labels)["loss"]
    assert inside == build(name)(half.float(), labels)["loss"]


@every_term
@pytest.mark.parametrize("wrong", [NUM_CLASSES, 254, -1])
def test_an_id_outside_the_classes_is_an_error(name: str, wrong: int) -> None:
    logits, labels = batch(0)
    labels[0, 0, 0] = wrong
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        build(name)(logits, labels)


@every_term
def test_void_may_be_one_of_the_ids(name: str) -> None:
    logits, labels = batch(1)
    inside = build_loss(TERMS[name], NUM_CLASSES, ignore_index=3)
    relabelled = labels.where(labels != 3, VOID)
    as_three = relabelled.where(relabelled != VOID, 3)
    torch.testing.assert_close(inside(logits, as_three)["loss"], build(name)(logits, relabelled)["loss"])
