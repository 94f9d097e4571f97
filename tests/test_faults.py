"""A short form of `benchmarks/faults.py`: some cases of each campaign, all as the documentation promises."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_campaigns(out: Path, *arguments: str) -> dict[str, Any]:
    """The entries of the JSON file."""
    command = [sys.executable, str(ROOT / "benchmarks/faults.py"), "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_after_a_kill_a_signal_or_an_error_of_the_disk_the_command_goes_on_to_an_equal_end(
    tmp_path: Path,
) -> None:
    found = run_campaigns(tmp_path / "faults.json", "--cases", "2", "kills", "signals", "disk")
    for name in ("kills", "signals", "disk"):
        assert found[name]["faults"] == []
        assert found[name]["went_on"] == found[name]["equal_ends"] == found[name]["cases"] == 2
    assert found["kills"]["inside_a_save"] == 1
    assert found["signals"]["stopped_with_the_state_saved"] > 0
    assert found["disk"]["messages"] == 2


def test_commands_refuse_a_damaged_file_or_are_not_changed_by_it(tmp_path: Path) -> None:
    readers = ("--commands", "report", "run --resume")
    found = run_campaigns(tmp_path / "faults.json", "--cases", "8", "mutations", *readers)
    assert found["mutations"]["faults"] == [] and found["mutations"]["cases"] == 8
    readings = found["mutations"]["readings"]
    assert readings.keys() <= {"refused", "said", "as before"} and readings["refused"] > 0
