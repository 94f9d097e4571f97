"""Four small trainings have the losses of version 0.1.0, up to the rounding of another processor."""

import json

import pytest

from tests.engine.training.golden import CASES, FILE, losses


@pytest.mark.parametrize("name", CASES)
def test_the_losses_equal_those_of_version_0_1_0(name: str) -> None:
    expected = [float.fromhex(value) for value in json.loads(FILE.read_text())[name]]
    assert losses(CASES[name]) == pytest.approx(expected, rel=1e-3)
