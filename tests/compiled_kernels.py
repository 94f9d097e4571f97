"""Triton kernels compiled for an H100 or H200 (sm_90), without one."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed: its kernels are not compiled")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
needs_ptxas = pytest.mark.skipif(not PTXAS.is_file(), reason="Triton has no ptxas here")


def registers_and_spills(
    kernel: Any,
    types: dict[str, str],
    constants: dict[str, Any],
    options: dict[str, int],
    folder: Path,
    multiples_of_16: bool = False,
) -> tuple[int, list[int]]:
    """Registers of a thread, and the bytes that it spills.

    Args:
        types: of the arguments that are no constants, such as "*bf16" or "i32".
        constants: those that the kernel does not have are left out.
        options: of the compiler, such as num_warps.
        multiples_of_16: all arguments are; Triton finds out at each call.
    """
    names = kernel.arg_names
    constants = {name: value for name, value in constants.items() if name in names}
    numbers = [number for number, name in enumerate(names) if multiples_of_16 and name not in constants]
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else types[name] for name in names},
        constexprs=constants,
        attrs={(number,): [["tt.divisibility", 16]] for number in numbers},
    )
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    code = folder / f"{kernel.__name__}.ptx"
    code.write_text(built.asm["ptx"])
    command = [PTXAS, "-v", "--gpu-name=sm_90a", code, "-o", folder / "code"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    [registers] = map(int, re.findall(r"Used (\d+) registers", done.stdout + done.stderr))
    return registers, [int(number) for number in re.findall(r"(\d+) bytes spill", done.stdout + done.stderr)]
