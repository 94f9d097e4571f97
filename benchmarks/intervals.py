"""How often the 95 % interval of a mIoU holds the true value, for three kinds of draws of the images.

    python benchmarks/intervals.py --trials 1000 > benchmarks/intervals-coverage.json

Each trial draws N images of six classes: two on every image, four on a share of the images. The true mIoU is
that of 200,000 images. Pixels and hits vary by image; a setting says how well each class is predicted.
Trials that lack a class are counted too, and given apart: no interval can know of a class that no image
holds.

Shapes: N images, C classes, S draws.
"""

import argparse
import json
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.scoring.metrics import mean_iou_of_overlaps
from engine.scoring.statistics import NUM_DRAWS, Overlaps, drawn_iou, draws, interval, mean_of_present

QUALITY = (0.9, 0.8, 0.7, 0.6, 0.5, 0.25)  # mean IoU of a class on an image
TWO_RARE = (1.0, 1.0, 0.6, 0.5, 0.05, 0.05)
# By name: the share of images that hold each class, and its mean IoU on an image
SETTINGS = {
    "every class often": ((1.0, 1.0, 0.6, 0.5, 0.4, 0.4), QUALITY),
    "one class in 5 % of the images": ((1.0, 1.0, 0.6, 0.5, 0.4, 0.05), QUALITY),
    "two classes in 5 % of the images": (TWO_RARE, QUALITY),
    "two classes in 5 % of the images, of IoU 0.9": (TWO_RARE, (*QUALITY[:4], 0.9, 0.9)),
    "two classes in 5 % of the images, of IoU 0.1": (TWO_RARE, (*QUALITY[:4], 0.1, 0.1)),
}
POPULATION = 200_000
Setting = tuple[tuple[float, ...], tuple[float, ...]]


def resampled(found: Overlaps) -> NDArray[np.float64]:
    """(S,) mIoU of images drawn with replacement (Efron 1979), as the commands do."""
    return mean_of_present(drawn_iou(found, draws(len(found))))


def weighted(found: Overlaps) -> NDArray[np.float64]:
    """(S,) mIoU with Dirichlet weights of the images (the Bayesian bootstrap, Rubin 1981)."""
    return mean_of_present(drawn_iou(found, dirichlet(len(found))))


def weighted_with_prior(found: Overlaps) -> NDArray[np.float64]:
    """(S,) the same with one more image of each class, of its mean union and an IoU uniform in 0..1.

    This is the posterior of a Dirichlet process with a prior that counts as one image (Ferguson 1973).
    """
    rng = np.random.default_rng(1)
    size = (NUM_DRAWS, found.shape[2])
    held = np.maximum((found[:, 1] > 0).sum(axis=0), 1)
    added = rng.exponential(size=size) * found[:, 1].sum(axis=0) / held  # (S, C) union
    weights = dirichlet(len(found))
    union = weights @ found[:, 1] + added
    hits = weights @ found[:, 0] + added * rng.random(size)
    return mean_of_present(np.divide(hits, union, out=np.full(size, np.nan), where=union > 0))


@cache
def dirichlet(num_images: int) -> NDArray[np.float64]:
    """(S, N) weights whose mean is 1."""
    return num_images * np.random.default_rng(0).dirichlet(np.ones(num_images), NUM_DRAWS)


WAYS: dict[str, Callable[[Overlaps], NDArray[np.float64]]] = {
    "resampled": resampled,
    "weighted": weighted,
    "weighted_with_prior": weighted_with_prior,
}


def images(num_images: int, setting: Setting, rng: np.random.Generator) -> Overlaps:
    """(N, 2, C): intersection and union of each class on drawn images."""
    shares, quality = setting
    size = (num_images, len(shares))
    union = rng.lognormal(np.log(1000), 0.8, size) * (rng.random(size) < shares)
    hits = rng.beta(4 * np.array(quality), 4 * (1 - np.array(quality)), size)
    return np.stack([union * hits, union], axis=1).astype(np.int64)


def coverage(num_images: int, setting: Setting, trials: int, seed: int) -> dict[str, object]:
    """By way: the share of trials whose interval holds the true mIoU, else where that lies; widths."""
    rng = np.random.default_rng(seed)
    truth = mean_iou_of_overlaps(images(POPULATION, setting, rng).sum(axis=0))
    found = [images(num_images, setting, rng) for _ in range(trials)]
    complete = np.array([bool((one[:, 1].sum(axis=0) > 0).all()) for one in found])
    result: dict[str, object] = {"true_mIoU": truth, "trials_with_every_class": int(complete.sum())}
    for name, way in WAYS.items():
        ends = np.array([interval(way(one)) for one in found])
        inside = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
        result[name] = {
            "coverage": float(inside.mean()),
            "coverage_with_every_class": float(inside[complete].mean()) if complete.any() else None,
            "truth_below": float((truth < ends[:, 0]).mean()),
            "truth_above": float((truth > ends[:, 1]).mean()),
            "mean_width": float((ends[:, 1] - ends[:, 0]).mean()),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--images", type=int, nargs="+", default=[2, 5, 20, 40, 100])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    measured = {
        name: {str(count): coverage(count, setting, args.trials, args.seed) for count in args.images}
        for name, setting in SETTINGS.items()
    }
    print(json.dumps({"trials": args.trials, "seed": args.seed, "settings": measured}, indent=1))


if __name__ == "__main__":
    main()
