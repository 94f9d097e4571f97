"""`benchmarks/gpu_ensemble.py` on a CPU, small: every way gives the members' logits."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu_ensemble

pytestmark = pytest.mark.filterwarnings(
    "ignore:There is a performance drop"
)  # vmap has no rule for attention


def test_every_way_gives_the_logits_of_all_members(tmp_path: Path) -> None:
    small = ["--size", "32", "--batches", "1", "--rounds", "1", "--backend", "eager"]
    assert gpu_ensemble.main([str(tmp_path), "b0", *small]) == 0
    rows = json.loads((tmp_path / "ensemble-b0.json").read_text())["rows"]
    ways = ["one member", "one after another", "compiled", "one batched forward pass"]
    ways += ["one batched forward pass, attention as products"]
    for precision, allowed in (("float32", 1e-5), ("bfloat16", 2**-5)):
        of_precision = [row for row in rows if row["precision"] == precision]
        assert [row["way"] for row in of_precision] == ways
        assert all(row["difference"] < allowed for row in of_precision)
        assert all(row["images_per_s"] == pytest.approx(1 / row["seconds"][0]) for row in of_precision)
    assert (tmp_path / "ensemble-b0.md").read_text().count("| B0 | 1 |") == len(rows)
