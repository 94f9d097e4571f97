"""Torch's global settings during a training; what it builds is tested with whole runs."""

import os

import pytest
import torch

from engine.training.session import CUBLAS_WORKSPACE, torch_settings


def settings() -> tuple[object, ...]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        os.environ.get(CUBLAS_WORKSPACE),
    )


@pytest.mark.parametrize(
    ("deterministic", "device", "expected"),
    [
        (False, "cuda", ("high", True, False, None)),
        (True, "cuda", ("high", False, True, ":4096:8")),
        (True, "cpu", ("highest", False, True, ":4096:8")),
        (False, "cpu", ("highest", False, False, None)),
    ],
)
def test_settings_hold_in_the_block_and_are_restored(
    deterministic: bool, device: str, expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    before = settings()
    with pytest.raises(ZeroDivisionError), torch_settings(deterministic, torch.device(device)):
        assert settings() == expected
        raise ZeroDivisionError
    assert settings() == before == ("highest", False, False, None)
