"""The Triton kernels compiled for an H100 or H200 (sm_90), without one: registers and spills of a thread."""

import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed: its kernels are not compiled")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from losses import triton_sums  # noqa: E402

PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
INTEGERS = {"labels": "*i64"} | {
    f"{place}_{axis}": "*i32" for place in ("before", "after", "first") for axis in "xy"
}
SCALARS = ["C", "h", "w", "H", "W", "ignore_index", "most", "chunks"]


@pytest.mark.slow
@pytest.mark.skipif(not PTXAS.is_file(), reason="Triton has no ptxas here")
@pytest.mark.parametrize("num_classes", [2, 21, 150])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_two_programs_fit_a_multiprocessor_and_nothing_is_spilled(
    num_classes: int, dtype: str, tmp_path: Path
) -> None:
    classes, _, whole = triton_sums._chunks(num_classes)
    names = ["_sums_kernel", "_rows_kernel"] + ["_normaliser_kernel", "_mean_kernel"] * (not whole)
    for name in names:
        kernel = getattr(triton_sums, name)
        block, warps = triton_sums._block(128 if name == "_rows_kernel" else 512, classes)
        constants = {"ROWS": triton_sums.ROWS, "BLOCK": block, "CLASSES": classes, "WHOLE": whole}
        constants = {key: value for key, value in constants.items() if key in kernel.arg_names}
        types = {
            key: "constexpr" if key in constants else "i32" if key in SCALARS else INTEGERS.get(key, "*fp32")
            for key in kernel.arg_names
        } | {"logits": f"*{dtype}"}
        built = triton.compile(
            ASTSource(fn=kernel, signature=types, constexprs=constants),
            target=GPUTarget("cuda", 90, 32),
            options={"num_warps": warps, **triton_sums.LIMITS},
        )
        code = tmp_path / f"{name}.ptx"
        code.write_text(built.asm["ptx"])
        command = [PTXAS, "-v", "--gpu-name=sm_90a", code, "-o", tmp_path / "code"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", done.stdout + done.stderr)]
        [registers] = map(int, re.findall(r"Used (\d+) registers", done.stdout + done.stderr))
        print(name, num_classes, dtype, registers, spilled)
        assert registers <= 128 and not any(spilled), f"{name}: {registers} registers, {spilled} bytes"
