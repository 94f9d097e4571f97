"""`benchmarks/gpu_kernels.py` on a CPU, small: every way computes the same, and what fails is said."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu_kernels

SMALL = ["--batch", "2", "--rounds", "1", "--backend", "eager"]
WAYS_ON_CPU = (
    "torch, channels-first",
    "torch, channels-last",
    "torch without cuDNN, channels-first",
    "torch without cuDNN, channels-last",
    "torch, compiled",
    "torch, compiled, max-autotune",
    "nine products, compiled",
)


def test_every_way_of_the_depthwise_convolution_is_a_row_of_each_stage(tmp_path: Path) -> None:
    assert gpu_kernels.main([str(tmp_path), "depthwise", "--shrink", "16", *SMALL]) == 0
    rows = json.loads((tmp_path / "depthwise.json").read_text())["rows"]
    assert [(row["shape"], row["way"], row["direction"]) for row in rows] == [
        (shape, way, direction)
        for shape in ("16 channels, 8 px", "32 channels, 4 px", "80 channels, 2 px", "128 channels, 1 px")
        for way in WAYS_ON_CPU
        for direction in ("forward", "forward + backward")
    ]
    assert all(row["difference"] < 2**-7 for row in rows), "bf16 has eight bits"
    largest = 2 * 16 * 8 * 8 * 2  # bytes of one map of the first stage
    for row, num_maps in zip(rows[:2], (2, 5), strict=True):
        assert row["gb_per_s"] == pytest.approx(num_maps * largest / row["seconds"][0] / 1e9)
    table = (tmp_path / "depthwise.md").read_text()
    assert table.count("| all blocks |") == 2 * len(WAYS_ON_CPU)


def test_attention_in_groups_of_queries_is_the_same_and_what_needs_a_gpu_says_so(tmp_path: Path) -> None:
    assert gpu_kernels.main([str(tmp_path), "attention", "--shrink", "8", *SMALL]) == 0
    rows = json.loads((tmp_path / "attention.json").read_text())["rows"]
    done = {row["way"] for row in rows if "failed" not in row}
    assert done == {"flash", "flash, 16 groups", "math", "two products, compiled"}
    assert all(row["difference"] < 2**-6 for row in rows if row["way"] in done)
    assert any(row["way"] == "cudnn" and "backend" in row["failed"] for row in rows)
    lines = (tmp_path / "attention.md").read_text().splitlines()
    assert {line.count("|") for line in lines} == {8}
