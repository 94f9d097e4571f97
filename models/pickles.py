"""Reads files that torch.save wrote, without running code of theirs."""

import argparse
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.errors import ModelError

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".pt.tar", ".pkl")
# Arrays of NumPy, and what training scripts leave beside the tensors: options, and scores as scalars. To make
# one runs no code of the file.
SCALAR: Any = np.float64(0).__reduce__()[0]
ARRAY: Any = np.zeros(1).__reduce__()[0]
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    (ARRAY, "numpy._core.multiarray._reconstruct"),
    (ARRAY, "numpy.core.multiarray._reconstruct"),  # as NumPy 1 calls it
    *(type(np.dtype(code)) for code in "?bhilqBHILQefd"),  # booleans, integers and floating-point numbers
    (SCALAR, "numpy._core.multiarray.scalar"),
    (SCALAR, "numpy.core.multiarray.scalar"),
]
# For a user who trusts the file and has the code of its classes. Each dict or module with tensors is kept.
TENSORS_OF_A_PICKLE = (
    "import numpy, pickle, torch; "
    "t = lambda d: {{k: v for k, v in getattr(d, 'state_dict', lambda: d)().items() "
    "if isinstance(v, (torch.Tensor, numpy.ndarray))}}; "
    "c = {load}; "
    "torch.save(t(c) or {{k: t(v) for k, v in c.items() if isinstance(v, (dict, torch.nn.Module))}}, "
    "r'{out}')"
)
BY_TORCH = "torch.load(r'{file}', 'cpu', weights_only=False)"
BY_PICKLE = "pickle.load(open(r'{file}', 'rb'))"
TENSORS_OF_A_SCRIPT = "import torch; torch.save(torch.jit.load(r'{file}', 'cpu').state_dict(), r'{out}')"


def read_pickled(path: Path) -> Any:
    """What torch.save put there: tensors, arrays, containers, numbers, text, and `HARMLESS` objects.

    Raises:
        ModelError: damaged, or with other objects; the text says how to save the tensors alone.
    """
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's on files that are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|class) `?([\w.]+)", str(error))
        kind = f" of the class {named[1]}" if named else ""
        raise ModelError(
            f"{path} is damaged, or holds pickled Python objects{kind} besides tensors, which are never "
            "loaded. If you trust its origin, save its tensors alone where that class is installed, with\n"
            + _next(TENSORS_OF_A_PICKLE.replace("{load}", _way_to_load(path)), path)
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        if "TorchScript" in str(error):
            raise ModelError(
                f"{path} is an archive of TorchScript, whose code is never run. If you trust its origin, "
                "save its tensors alone, with\n" + _next(TENSORS_OF_A_SCRIPT, path)
            ) from error
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise ModelError(
            f"{path} cannot be read: {reason}. It may be incomplete: download it again."
        ) from error


def _way_to_load(path: Path) -> str:
    """The call that loads it: pickle.load for files of pickle.dump, which torch.load does not read."""
    with path.open("rb") as file:
        start = file.read(64)
    magic = torch.serialization.MAGIC_NUMBER.to_bytes(10, "little")  # of torch.save before version 1.6
    return BY_PICKLE if start.startswith(b"\x80") and magic not in start else BY_TORCH


def _next(program: str, path: Path) -> str:
    out = path.with_suffix(".tensors.pth")
    return f'    python -c "{program.format(file=path, out=out)}"\nand set model.weights={out}'
