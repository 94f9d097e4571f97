"""Differences of methods over seeds: computed by hand, and simulations whose true difference is known.

Simulated images have two classes of 1000 pixels each, of which a share p is right: mIoU is p / (2 - p) of the
mean p over images, so the score of a seed over the whole distribution of images is known.
"""

import numpy as np
import pytest
from scipy import stats

from engine.scoring.metrics import overlaps
from engine.scoring.seeds import Difference, SeedScores, difference
from engine.scoring.statistics import draws, gain_interval

NUM_PIXELS, NUM_IMAGES, NUM_RUNS, NUM_TRIALS = 1000, 40, 3, 300
DRAWN = draws(NUM_IMAGES, 100)
RARE = 1e-4  # how often a test may fail by chance, if its seed were not fixed


def counts(right: np.ndarray) -> np.ndarray:
    """(N, 2, 2) confusion counts from (N, 2) right pixels of each class."""
    wrong = NUM_PIXELS - right
    return np.stack([np.stack([right[:, 0], wrong[:, 0]], 1), np.stack([wrong[:, 1], right[:, 1]], 1)], 1)


def method(runs: list[np.ndarray], seeds: range | None = None, drawn: np.ndarray = DRAWN) -> SeedScores:
    return SeedScores.of(dict(zip(seeds or range(len(runs)), map(overlaps, runs), strict=True)), drawn)


def trial(
    rng: np.random.Generator, gain: float, of_seeds: float, of_images: float, num_runs: int, alike: float
) -> tuple[SeedScores, SeedScores]:
    """Two methods; seeds move p by N(0, of_seeds^2), a share `alike` of which both methods have in common.

    Images move p by up to `of_images`, one method by as much again, and pixels are right at random.
    """
    common = rng.uniform(-of_images, of_images, (NUM_IMAGES, 1))
    shared = rng.normal(0, of_seeds, num_runs)
    methods = []
    for p in (0.7 + gain, 0.7):
        own = common + rng.uniform(-of_images, of_images, (NUM_IMAGES, 1))
        moved = np.sqrt(alike) * shared + np.sqrt(1 - alike) * rng.normal(0, of_seeds, num_runs)
        chances = [np.clip(np.repeat(p + seed + own, 2, axis=1), 0, 1) for seed in moved]
        methods.append(method([counts(rng.binomial(NUM_PIXELS, chance)) for chance in chances]))
    return methods[0], methods[1]


def true_miou(p: float, of_seeds: float) -> float:
    """The mean over all seeds, on all images, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    shares = p + of_seeds * nodes
    return float((shares / (2 - shares)) @ weights / weights.sum())


def covered(truth: float, found: Difference) -> bool:
    return bool(found.low[0] <= truth <= found.high[0])


def how_often(gain: float, of_seeds: float, of_images: float, num_runs: int, alike: float = 0.0) -> int:
    """In how many trials the interval of the mIoU holds the true difference."""
    rng = np.random.default_rng(7)
    truth = true_miou(0.7 + gain, of_seeds) - true_miou(0.7, of_seeds)
    trials = (trial(rng, gain, of_seeds, of_images, num_runs, alike) for _ in range(NUM_TRIALS))
    return sum(covered(truth, difference(*pair)) for pair in trials)


def expected(share: float) -> tuple[float, float]:
    """Between which counts `NUM_TRIALS` trials lie that succeed with this probability."""
    return stats.binom.ppf([RARE / 2, 1 - RARE / 2], NUM_TRIALS, share)


def test_the_interval_covers_where_only_seeds_are_random() -> None:
    """Then it is Student's t, whose coverage is exact: neither too narrow nor too wide."""
    least, most = expected(0.95)
    assert least <= how_often(0.08, of_seeds=0.03, of_images=0.0, num_runs=NUM_RUNS) <= most


def test_the_interval_covers_where_only_images_are_random() -> None:
    least, most = expected(0.95)
    assert least <= how_often(0.08, of_seeds=0.0, of_images=0.1, num_runs=1) <= most


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_the_interval_covers_where_both_are_random(alike: float) -> None:
    """The interval may be wider than necessary here."""
    least, _ = expected(0.95)
    assert how_often(0.08, of_seeds=0.03, of_images=0.1, num_runs=NUM_RUNS, alike=alike) >= least


def test_false_positives_where_there_is_no_difference() -> None:
    _, most = expected(0.05)
    assert NUM_TRIALS - how_often(0.0, of_seeds=0.03, of_images=0.1, num_runs=NUM_RUNS) <= most


def test_a_gain_is_found_where_seeds_are_correlated() -> None:
    """The spread would hide it (standard error 0.03, gain 0.03); paired by seed it is clear."""
    rng = np.random.default_rng(1)
    found = difference(*trial(rng, 0.02, of_seeds=0.04, of_images=0.0, num_runs=NUM_RUNS, alike=1.0))
    assert found.is_paired and found.counts_seeds
    assert 0 < found.low[0] < true_miou(0.72, 0.04) - true_miou(0.7, 0.04) < found.high[0]


def test_with_equal_images_the_interval_is_students_t() -> None:
    """Shares right of 0.8, 0.7, 0.9 against 0.7, 0.6, 0.75: IoU p / (2 - p), the same for both classes."""
    runs = [counts(np.full((NUM_IMAGES, 2), right)) for right in (800, 700, 900, 700, 600, 750)]
    ours, theirs = np.array([0.8 / 1.2, 0.7 / 1.3, 0.9 / 1.1]), np.array([0.7 / 1.3, 0.6 / 1.4, 0.75 / 1.25])
    paired = difference(method(runs[:3]), method(runs[3:]))
    assert paired.value == pytest.approx([(ours - theirs).mean()] * 3)
    known = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert paired.low == pytest.approx([known.low] * 3)
    assert paired.high == pytest.approx([known.high] * 3)
    unpaired = difference(method(runs[:3]), method(runs[3:], range(5, 8)))
    assert not unpaired.is_paired
    known = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (unpaired.low[0], unpaired.high[0]) == pytest.approx((known.low, known.high))


def test_seeds_are_paired_in_any_order() -> None:
    rng = np.random.default_rng(0)
    runs = [counts(rng.integers(500, 900, (NUM_IMAGES, 2))) for _ in range(3)]
    ours, first = method(runs), SeedScores.of({seed: overlaps(runs[seed]) for seed in (2, 0, 1)}, DRAWN)
    found = difference(ours, first)
    assert found.is_paired
    assert (found.low == 0).all() and (found.high == 0).all()


def test_one_seed_counts_images_only_as_the_paired_bootstrap_does() -> None:
    rng = np.random.default_rng(0)
    before, after = (counts(rng.integers(500 + more, 900 + more, (400, 2))) for more in (0, 20))
    drawn = draws(400, 4000)
    found = difference(method([after], drawn=drawn), method([before], drawn=drawn))
    assert not found.counts_seeds
    percentiles = gain_interval(overlaps(before), overlaps(after), drawn)
    assert (found.low[0], found.high[0]) == pytest.approx(percentiles, abs=0.1 * (found.high - found.low)[0])
    pair = method([after, after], drawn=drawn)
    assert not difference(pair, method([before], drawn=drawn)).counts_seeds


def test_a_class_that_a_run_lacks_has_no_difference() -> None:
    whole = np.zeros((NUM_IMAGES, 3, 3), dtype=np.int64)
    whole[:, 0, 0] = whole[:, 1, 1] = 10
    invented = whole.copy()
    invented[0, 0] = (8, 0, 2)
    found = difference(method([invented]), method([whole]))
    assert np.isnan([found.value[3], found.low[3], found.high[3]]).all()
    assert np.isfinite([*found.value[:3], *found.low[:3], *found.high[:3]]).all()
    assert found.value[0] == pytest.approx((398 / 400 + 1 + 0) / 3 - 1)
