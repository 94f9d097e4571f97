"""The Triton kernels compiled for an H100 or H200 (sm_90), without one: registers and spills of a thread."""

from collections import defaultdict
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: its kernels are not compiled")

from losses import triton_sums
from tests.compiled_kernels import needs_ptxas, registers_and_spills

TYPES = {"labels": "*i64"} | {
    f"{place}_{axis}": "*i32" for place in ("before", "after", "first") for axis in "xy"
}
TYPES |= dict.fromkeys(["C", "h", "w", "H", "W", "ignore_index", "most", "chunks"], "i32")


@pytest.mark.slow
@needs_ptxas
@pytest.mark.parametrize("num_classes", [2, 21, 150])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_two_programs_fit_a_multiprocessor_and_nothing_is_spilled(
    num_classes: int, dtype: str, tmp_path: Path
) -> None:
    classes, _, whole = triton_sums._chunks(num_classes)
    names = ["_sums_kernel", "_rows_kernel"] + ["_normaliser_kernel", "_mean_kernel"] * (not whole)
    for name in names:
        block, warps = triton_sums._block(128 if name == "_rows_kernel" else 512, classes)
        registers, spilled = registers_and_spills(
            getattr(triton_sums, name),
            defaultdict(lambda: "*fp32", TYPES | {"logits": f"*{dtype}"}),
            {"ROWS": triton_sums.ROWS, "BLOCK": block, "CLASSES": classes, "WHOLE": whole},
            {"num_warps": warps, **triton_sums.LIMITS},
            tmp_path,
        )
        print(name, num_classes, dtype, registers, spilled)
        assert registers <= 128 and not any(spilled), f"{name}: {registers} registers, {spilled} bytes"
