"""Agreement of members by class, against counts by hand."""

from types import SimpleNamespace

import torch

from engine.scoring.agreement import Agreement

VOID = 255


def maps(*predictions: list[list[int]]) -> dict[str, SimpleNamespace]:
    return {
        name: SimpleNamespace(prediction=torch.tensor(rows, dtype=torch.uint8)[None])
        for name, rows in zip("abc", predictions, strict=False)
    }


def test_shares_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 0, 0], [1, 1, VOID, 0]]], dtype=torch.uint8)
    first, second, third = (
        [[0, 0, 1, 0], [1, 0, 2, 0]],
        [[0, 1, 1, 0], [1, 0, 2, 0]],
        [[0, 0, 1, 0], [1, 0, 2, 2]],
    )
    agreement = Agreement("abc", 3, VOID)
    agreement.add(labels, maps(first, second, third))
    # of class 0, five pixels: agree 0, -, 1, 0, -; of class 1, two: agree 1, 0; no label has class 2
    assert agreement.shares(["x", "y", "z"]) == {
        "x": {"agree": 3 / 5, "right": 2 / 5},
        "y": {"agree": 1.0, "right": 1 / 2},
        "z": {"agree": None, "right": None},
    }


def test_batches_add_up_and_two_members_are_enough() -> None:
    agreement = Agreement("ab", 2, VOID)
    for row in ([0, 0], [0, 1]):
        agreement.add(torch.zeros(1, 1, 2, dtype=torch.uint8), maps([[0, 0]], [row]))
    assert agreement.shares(["x", "y"])["x"] == {"agree": 3 / 4, "right": 3 / 4}
