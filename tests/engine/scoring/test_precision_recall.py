"""Precision and recall by threshold: a table by hand, and a plain count over many draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.scoring.precision_recall import NUM_THRESHOLDS, ONE_IN, PrecisionRecall

CPU, VOID = torch.device("cpu"), 255


def test_a_table_by_hand() -> None:
    """Eight pixels, one of them void, and the probability of class 1 in each."""
    class_1 = torch.tensor([0.91, 0.91, 0.51, 0.51, 0.11, 0.11, 0.91, 0.31])
    labels = torch.tensor([[[1, 0, 1, 0, 1, 0, VOID, 0]]])
    counter = PrecisionRecall(2, VOID, CPU)
    counter.add(labels, torch.stack([1 - class_1, class_1])[None, :, None])
    curve = counter.curve(1)
    for threshold, tp, fp in ((0.0, 3, 4), (0.2, 2, 3), (0.4, 2, 2), (0.8, 1, 1), (0.96, 0, 0)):
        place = round(threshold * (NUM_THRESHOLDS - 1))
        found = {name: float(values[place]) for name, values in curve.items()}
        called = tp + fp
        expected = {"tp": tp, "fp": fp, "tn": 4 - fp, "fn": 3 - tp}
        expected |= {"precision": tp / called if called else 0, "recall": tp / 3}
        assert found == pytest.approx(expected)


def test_the_same_pixels_of_a_large_strip_are_sampled_each_time() -> None:
    labels = torch.randint(0, 2, (2, 80, 80), generator=torch.Generator().manual_seed(0))
    probabilities = torch.rand(2, 2, 80, 80, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    counters = [PrecisionRecall(2, VOID, CPU) for _ in range(2)]
    for counter in counters:
        counter.add(labels, probabilities)
    assert torch.equal(counters[0].counts, counters[1].counts)
    assert int(counters[0].counts[0].sum()) == 2 * 80 * 80 / ONE_IN


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_counts_equal_those_of_a_plain_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (2, 5, 7), generator=generator)
    labels[labels == 3] = VOID
    probabilities = torch.rand(2, 3, 5, 7, generator=generator).softmax(dim=1)
    counter = PrecisionRecall(3, VOID, CPU)
    counter.add(labels, probabilities)
    for class_id in range(3):
        curve = counter.curve(class_id)
        for place in (0, 7, 20, 50):
            expected = {"tp": 0, "fp": 0, "tn": 0, "fn": 0}
            for image in range(2):
                for pixel in range(35):
                    label = int(labels[image].flatten()[pixel])
                    if label == VOID:
                        continue
                    share = float(probabilities[image, class_id].flatten()[pixel])
                    taken = int(share * (NUM_THRESHOLDS - 1)) >= place
                    right = (label == class_id) == taken
                    expected[("t" if right else "f") + ("p" if taken else "n")] += 1
            if curve is None:
                assert expected["tp"] + expected["fn"] == 0
                continue
            assert {name: int(curve[name][place]) for name in expected} == expected
            positives = expected["tp"] + expected["fn"]
            assert curve["recall"][place] == pytest.approx(expected["tp"] / positives)
            called = expected["tp"] + expected["fp"]
            assert curve["precision"][place] == pytest.approx(expected["tp"] / called if called else 0)


def test_a_class_without_labels_has_no_curve() -> None:
    counter = PrecisionRecall(2, VOID, CPU)
    counter.add(torch.zeros(1, 4, 4, dtype=torch.uint8), torch.full((1, 2, 4, 4), 0.5))
    assert counter.curve(1) is None
    assert counter.curve(0)["recall"][0] == 1
    assert int(counter.counts.sum()) == 2 * 16  # each sampled pixel once per class
