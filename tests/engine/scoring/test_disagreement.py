"""Mutual information and votes, against values computed by hand and by SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from engine.scoring.disagreement import disagreement, most_bits


def pixels(*probabilities: list[float]) -> torch.Tensor:
    """(C, 1, w) from the probabilities of each pixel."""
    return torch.tensor(probabilities).T[:, None]


def test_members_that_agree_have_no_mutual_information_however_unsure_they_are() -> None:
    same = pixels([0.5, 0.5], [0.9, 0.1])
    information, votes = disagreement([same, same, same], torch.tensor([[0, 0]]))
    assert information.numpy() == pytest.approx(0, abs=1e-6)
    assert votes.tolist() == [[3, 3]]


def test_members_that_are_sure_of_different_classes_have_the_most_bits() -> None:
    sure = [pixels([float(one == number) for one in range(4)]) for number in range(3)]
    information, votes = disagreement(sure, torch.tensor([[1]]))
    assert information.item() == pytest.approx(math.log2(3)) == most_bits(3, 4)
    assert votes.item() == 1
    information, _ = disagreement([*sure, *sure], torch.tensor([[1]]))
    assert information.item() == pytest.approx(math.log2(3))
    assert most_bits(6, 3) == pytest.approx(math.log2(3))


def test_any_members_as_scipy_has_them() -> None:
    generator = torch.Generator().manual_seed(0)
    members = [torch.randn(5, 3, 4, generator=generator).softmax(dim=0) for _ in range(3)]
    labels = torch.stack(members).mean(dim=0).argmax(dim=0)
    information, votes = disagreement(members, labels)
    each = np.stack([entropy(member.numpy(), base=2, axis=0) for member in members])
    mean = entropy(torch.stack(members).mean(dim=0).numpy(), base=2, axis=0)
    assert information.numpy() == pytest.approx(mean - each.mean(axis=0), abs=1e-6)
    expected = sum((member.argmax(dim=0) == labels).int() for member in members)
    assert torch.equal(votes.int(), expected)
