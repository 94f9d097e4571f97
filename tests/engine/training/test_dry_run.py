"""How `--dry-run` measures time."""

from collections.abc import Iterator
from itertools import accumulate

import pytest
import torch

from engine.training.distributed import Process
from engine.training.dry_run import timed

ALONE = Process(0, 1, torch.device("cpu"))


def measured(durations: list[float], warm_ups: int, num: int) -> tuple[list[float], int]:
    """What `timed` gives for calls of these seconds, and how many were made."""
    times: Iterator[float] = iter(t for total in accumulate([0, *durations]) for t in (total, total))
    next(times)  # each call ends where the next one starts
    done: list[int] = []
    seconds = timed(lambda: None, warm_ups, num, ALONE, lambda i, _: done.append(i), lambda: next(times))
    return seconds, len(done)


@pytest.mark.parametrize(
    ("durations", "kept", "why"),
    [
        ([9, 5, 1, 2, 3], [1, 2, 3], "the warm-up is left out"),
        ([50, 11, 1, 2, 3], [11], "after 60 s none is begun, and half of the calls are the warm-up"),
        ([20, 20, 15, 10, 3], [15, 10], "the same where there is a spread"),
        ([500, 100, 1, 2, 3], [100], "one call is never all, since the first may compile"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_warm_up_then_calls_until_the_limit(durations: list[float], kept: list[float], why: str) -> None:
    seconds, _ = measured(durations, warm_ups=2, num=3)
    assert seconds == kept


def test_the_second_of_two_slow_calls_is_the_last() -> None:
    assert measured([61, 1, 1, 1], 2, 8)[1] == 2
