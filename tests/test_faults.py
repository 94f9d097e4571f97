"""A short form of `benchmarks/faults.py`: some cases of each campaign, all as the documentation promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks/faults.py"
CASES = {"kills": 6, "signals": 7, "disk": 6, "mutations": 25}


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """The entries of the JSON file."""
    out = tmp_path_factory.mktemp("faults") / "faults.json"
    for name, cases in CASES.items():
        command = [sys.executable, str(SCRIPT), name, "--cases", str(cases), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SCRIPT.parents[1])
        assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", CASES)
def test_no_case_is_a_fault(campaigns: dict[str, dict], name: str) -> None:
    assert campaigns[name]["cases"] == CASES[name]
    assert campaigns[name]["faults"] == []


@pytest.mark.parametrize("name", ["kills", "signals", "disk"])
def test_each_repetition_goes_on_to_an_equal_end(campaigns: dict[str, dict], name: str) -> None:
    assert campaigns[name]["went_on"] == campaigns[name]["equal_ends"] == CASES[name]
    assert (
        campaigns["kills"]["inside_a_save"] > 0 and campaigns["signals"]["stopped_with_the_state_saved"] > 0
    )
    assert campaigns["disk"]["messages"] == CASES["disk"]


def test_damage_is_read_by_commands_that_refuse_it_or_are_not_changed_by_it(
    campaigns: dict[str, dict],
) -> None:
    readings = campaigns["mutations"]["readings"]
    assert readings.keys() <= {"refused", "said", "as before"} and readings["refused"] > 0
