"""`benchmarks/loop.py`: what it compares; the measured figures are not tested."""

from pathlib import Path

import torch

from benchmarks.loop import demo_session, loops
from tests.engine.tiny_run import TINY


def test_both_loops_make_the_same_updates_and_one_writes_logs(tmp_path: Path) -> None:
    sessions = {name: demo_session(TINY) for name in ("bare loop", "trident")}
    for name, session in sessions.items():
        (tmp_path / name).mkdir()
        loops(session, tmp_path / name, 2)[name]()
    assert [session.step.count for session in sessions.values()] == [2, 2]
    one, two = (session.step.model.state_dict() for session in sessions.values())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (tmp_path / "trident/log.jsonl").read_text().count('"step"') == 1
