"""Fitted weights, temperatures and orders, against values computed by hand or by exhaustive search."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from engine.scoring.combining import Combination
from engine.scoring.ensembles.fitting import diverse_order, fit_temperatures, fit_weights, greedy_order
from engine.scoring.ensembles.observations import PixelSamples


def samples_of(probabilities: Tensor, labels: list[int]) -> PixelSamples:
    """From (P, M, C)."""
    return PixelSamples(probabilities.float(), torch.tensor(labels), torch.zeros(len(labels)).long())


def two_classes(*of_class_1: list[float]) -> Tensor:
    """(P, M, 2) from, for each member, the probability of class 1 at each pixel."""
    p = torch.tensor(of_class_1).T  # (P, M)
    return torch.stack([1 - p, p], dim=2)


def log_loss(samples: PixelSamples, combination: Combination) -> float:
    p = combination(list(samples.probabilities.double().unbind(dim=1)))
    return float(-p.gather(1, samples.labels[:, None]).log().mean())


def test_fitted_weights_minimise_the_log_loss() -> None:
    samples = samples_of(two_classes([0.9, 0.9, 0.2, 0.6], [0.6, 0.2, 0.9, 0.7]), [1, 1, 1, 0])
    fitted = fit_weights(samples)
    grid = [Combination("probability", ((w / 1000,), (1 - w / 1000,)), (1.0, 1.0)) for w in range(1001)]
    best = min(grid, key=lambda combination: log_loss(samples, combination))
    assert fitted.weights[0][0] == pytest.approx(best.weights[0][0], abs=2e-3)
    assert fitted.weights[0][0] + fitted.weights[1][0] == pytest.approx(1)


def test_a_right_member_gets_all_weight_over_a_wrong_one() -> None:
    samples = samples_of(two_classes([0.9, 0.1], [0.2, 0.9]), [1, 0])
    assert fit_weights(samples).weights[0][0] > 0.99


def test_each_class_weights_the_member_that_recognises_it() -> None:
    """Each member recognises its own class, and is undecided between the other two."""
    knows_0, knows_2 = [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]
    at_a_loss_0, at_a_loss_2 = [0.05, 0.475, 0.475], [0.475, 0.475, 0.05]
    pixels = torch.tensor([[knows_0, at_a_loss_2], [at_a_loss_0, knows_2]])  # (2, 2, 3)
    samples = samples_of(pixels, [0, 2])
    by_class = fit_weights(samples, by_class=True)
    (first_0, _, first_2), (second_0, _, second_2) = by_class.weights
    assert first_0 > second_0 and second_2 > first_2
    assert log_loss(samples, by_class) < log_loss(samples, fit_weights(samples)) - 0.01
    assert [sum(column) for column in zip(*by_class.weights, strict=True)] == pytest.approx([1, 1, 1])


def test_the_temperature_makes_confidence_equal_accuracy() -> None:
    """80 % sure and 60 % right: logit(0.8) / T = logit(0.6), so T = ln 4 / ln 1.5."""
    samples = samples_of(two_classes([0.8] * 5, [0.6] * 5), [1, 1, 1, 0, 0])
    first, second = fit_temperatures(samples)
    assert first == pytest.approx(math.log(4) / math.log(1.5), rel=2e-3)
    assert second == pytest.approx(1.0, rel=2e-3)


def test_the_temperature_of_a_member_that_is_never_wrong_is_finite() -> None:
    [temperature] = fit_temperatures(samples_of(two_classes([1.0, 0.0]), [1, 0]))
    assert 0 < temperature < math.inf


def test_the_greedy_order_starts_with_the_best_and_adds_the_one_that_gains_most() -> None:
    """Members 0 and 1 err at the same pixel; 2 is worse, but right and sure there.

    Pixels 1 1 0 0 0 0. Member 0 errs at pixel 0 (IoU 4/5, 1/2), member 1 at 0 and 1 (4/6, 0), member 2 at 2
    and 3 (2/4, 2/4). With 2, 0 is right everywhere; then 1 takes pixel 0 away again.
    """
    first = [0.45, 0.9, 0.1, 0.1, 0.1, 0.1]
    second = [0.0, 0.4, 0.1, 0.1, 0.1, 0.1]
    third = [0.9, 0.6, 0.6, 0.6, 0.1, 0.1]
    samples = samples_of(two_classes(first, second, third), [1, 1, 0, 0, 0, 0])
    order = greedy_order(samples)
    assert [added.member for added in order] == [0, 2, 1]
    assert [added.mIoU for added in order] == pytest.approx([(4 / 5 + 1 / 2) / 2, 1, (4 / 5 + 1 / 2) / 2])


def test_the_diverse_order_prefers_disagreement_among_members_with_a_gain() -> None:
    """Pixels 1 1 1 0 0 0. Member 0 errs at pixels 0 and 3 (IoU 2/4, 2/4), and is the best alone.

    With 1, which disagrees with it at four pixels, all is right; with 2, which does at five, only pixel 3 is
    wrong (3/4, 2/3). A fourth one gains nothing.
    """
    first = [0.4, 0.9, 0.9, 0.6, 0.1, 0.1]
    second = [0.9, 0.9, 0.9, 0.1, 0.55, 0.55]
    third = [0.9, 0.4, 0.4, 0.6, 0.55, 0.55]
    none = [0.0] * 6
    samples = samples_of(two_classes(first, second, third, none), [1, 1, 1, 0, 0, 0])
    order = diverse_order(samples)
    assert [added.member for added in order] == [0, 2, 1]
    assert [added.mIoU for added in order] == pytest.approx([1 / 2, (3 / 4 + 2 / 3) / 2, 1])
    assert [added.member for added in greedy_order(samples)][:2] == [0, 1]


@pytest.fixture
def drawn() -> PixelSamples:
    """400 pixels of four classes, and three members that are right at 70, 60 and 50 % of them."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 400)
    logits = rng.normal(0, 1, (400, 3, 4))
    for member, share in enumerate((0.7, 0.6, 0.5)):
        right = rng.random(400) < share
        logits[np.arange(400)[right], member, labels[right]] += 2 + member
    of_each = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return samples_of(torch.from_numpy(of_each), labels.tolist())


@pytest.mark.parametrize("by_class", [False, True])
def test_no_other_weights_have_a_lower_log_loss(drawn: PixelSamples, by_class: bool) -> None:
    """By SciPy's gradient-free search from several starts, with the mean as a formula of NumPy."""
    probabilities, labels = drawn.probabilities.double().numpy(), drawn.labels.numpy()

    def log_loss(free: np.ndarray) -> float:
        weights = np.exp(free.reshape(3, -1))
        mixed = (probabilities * (weights / weights.sum(axis=0))).sum(axis=1)  # (P, C)
        return float(-np.log((mixed / mixed.sum(axis=1, keepdims=True))[np.arange(400), labels]).mean())

    fitted = np.log(np.array(fit_weights(drawn, by_class).weights))
    starts = [np.zeros(fitted.size), *np.random.default_rng(0).normal(0, 1, (3, fitted.size))]
    best = min(minimize(log_loss, start, method="Powell").fun for start in starts)
    assert log_loss(fitted) <= best + 1e-5


def test_each_temperature_is_the_best_by_a_fine_search(drawn: PixelSamples) -> None:
    probabilities, labels = drawn.probabilities.double().numpy(), drawn.labels.numpy()
    grid = np.exp(np.linspace(np.log(0.2), np.log(5), 4001))
    for member, temperature in enumerate(fit_temperatures(drawn)):
        logits = np.log(probabilities[:, member])
        scaled = logits[None] / grid[:, None, None]
        log_loss = np.log(np.exp(scaled).sum(axis=2)) - scaled[:, np.arange(400), labels]
        assert temperature == pytest.approx(grid[log_loss.mean(axis=1).argmin()], rel=2e-3)


def test_the_greedy_order_is_that_of_trying_all(drawn: PixelSamples) -> None:
    probabilities, labels = drawn.probabilities.double().numpy(), drawn.labels.numpy()

    def mIoU(members: list[int]) -> float:
        predicted = probabilities[:, members].mean(axis=1).argmax(axis=1)
        both = [((predicted == c) & (labels == c)).sum() for c in range(4)]
        either = [((predicted == c) | (labels == c)).sum() for c in range(4)]
        return float(np.mean(np.divide(both, either)))

    taken: list[int] = []
    for added in greedy_order(drawn):
        tried = {member: mIoU([*taken, member]) for member in range(3) if member not in taken}
        assert added == (max(tried, key=tried.__getitem__), pytest.approx(max(tried.values())))
        taken.append(added.member)
    assert sorted(taken) == [0, 1, 2]
