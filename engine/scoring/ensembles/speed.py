"""Images a second of predictors that share members: what each member takes, and what combining takes.

A few images of the split, held in memory: no decoding, no counting.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import mean, median

import torch
from torch import Tensor, nn

from engine.scoring.combining import Combination
from engine.scoring.predictor import Predictor

ROUNDS = 3  # counted ones, after one to warm up


@torch.no_grad()
def seconds_by_part(
    models: Sequence[nn.Module],
    combinations: Mapping[str, Combination],
    images: Sequence[Tensor],
    predictor: Predictor,
    progress: Callable[[int, int], None],
) -> tuple[list[float], dict[str, float]]:
    """Seconds an image: of each model to its probabilities, of each combination from there to labels.

    All parts run in turn in each round; these are medians over the rounds.

    Args:
        combinations: of all models, in their order.
        images: (1, 3, h, w) uint8 each.
    """
    of_models: list[list[float]] = [[] for _ in models]
    of_combinations: dict[str, list[float]] = {name: [] for name in combinations}
    for number in range(ROUNDS + 1):
        rounds = [_round(models, combinations, image, predictor) for image in images]
        if number:
            for member, seconds in enumerate(of_models):
                seconds.append(mean(spent[0][member] for spent in rounds))
            for name, seconds in of_combinations.items():
                seconds.append(mean(spent[1][name] for spent in rounds))
        progress(number + 1, ROUNDS + 1)
    return [median(times) for times in of_models], {n: median(t) for n, t in of_combinations.items()}


def _round(
    models: Sequence[nn.Module], combinations: Mapping[str, Combination], image: Tensor, predictor: Predictor
) -> tuple[list[float], dict[str, float]]:
    timed = [_timed(partial(predictor, model, image)) for model in models]
    outputs = [output for output, _ in timed]
    of_combinations = {name: _timed(partial(_labels, c, outputs))[1] for name, c in combinations.items()}
    return [seconds for _, seconds in timed], of_combinations


def _labels(combination: Combination, outputs: list[Tensor]) -> Tensor:
    return combination(outputs).argmax(dim=1)


def _timed(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    _wait_for_device()
    started = time.perf_counter()
    result = call()
    _wait_for_device()
    return result, time.perf_counter() - started


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
