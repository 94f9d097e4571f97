"""Times several callables against each other so that a machine whose speed drifts is fair to all of them."""

import platform
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import torch

PACKAGES = ("torch", "timm", "transformers", "segmentation_models_pytorch", "kornia", "numpy")


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int, progress: Callable[[int, int], None]
) -> dict[str, list[float]]:
    """Seconds of each call, one list a contender: all once to warm up, then `rounds` times in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    done, total = 0, (rounds + 1) * len(contenders)
    for number in range(rounds + 1):
        for name, call in contenders.items():
            _wait_for_device()
            started = time.perf_counter()
            call()
            _wait_for_device()
            if number > 0:
                seconds[name].append(time.perf_counter() - started)
            done += 1
            progress(done, total)
    return seconds


def ratio(slower: list[float], faster: list[float]) -> float:
    """How many times faster, as the median over the rounds of the ratio within a round."""
    return median(a / b for a, b in zip(slower, faster, strict=True))


def environment(threads: int) -> dict[str, object]:
    """What has to stand beside a figure."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": date.today().isoformat(),
        "device": gpu or platform.processor() or platform.machine(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def installed(package: str) -> str | None:
    """The version of a package, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
