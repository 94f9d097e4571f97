"""The depthwise kernels of the benchmarks: right in Triton's interpreter, and compiled for an H200."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: its kernels are not checked")

from benchmarks import triton_depthwise as kernels
from tests.compiled_kernels import needs_ptxas, registers_and_spills

ROOT = Path(__file__).parents[2]


def test_they_agree_with_torch_in_their_interpreter() -> None:
    """In a process of its own, since Triton reads the variable when it loads."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, Path(__file__).with_name("depthwise_in_its_interpreter.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same") == 4


@pytest.mark.slow
@needs_ptxas
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_nothing_is_spilled(dtype: str, tmp_path: Path) -> None:
    maps = dict.fromkeys(["x", "taps", "out", "gradient"], f"*{dtype}")
    types = maps | {"partial": "*fp32"} | dict.fromkeys("HWC", "i32")
    convolutions = [(kernels._convolution_kernel, tile) for tile in kernels.TILES]
    for kernel, tile in [*convolutions, (kernels._weight_kernel, kernels.WEIGHT_TILE)]:
        constants = {"ROWS": tile.rows, "COLUMNS": tile.columns, "CHANNELS": tile.channels}
        registers, spilled = registers_and_spills(
            kernel, types, constants, {"num_warps": tile.warps}, tmp_path, multiples_of_16=True
        )
        print(kernel.__name__, *tile, dtype, registers, spilled)
        assert not any(spilled)
        assert registers <= 128, "two programs of 8 warps do not fit a multiprocessor"
