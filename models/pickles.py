"""Reads files that torch.save wrote, without running code of theirs."""

import argparse
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.errors import ModelError

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".pt.tar", ".pkl")
# Objects that training scripts leave beside the tensors: options, and scores as scalars of NumPy. To make one
# runs no code of the file.
SCALAR: Any = np.float64(0).__reduce__()[0]
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(code)) for code in "?bhilqBHILQefd"),  # booleans, integers and floating-point numbers
    (SCALAR, "numpy._core.multiarray.scalar"),
    (SCALAR, "numpy.core.multiarray.scalar"),  # as NumPy 1 calls it
]
# For a user who trusts the file and has the code of its classes. Each dict or module with tensors is kept.
TENSORS_OF_A_PICKLE = (
    "import torch; "
    "t = lambda d: {{k: v for k, v in getattr(d, 'state_dict', lambda: d)().items() if torch.is_tensor(v)}}; "
    "c = torch.load(r'{file}', 'cpu', weights_only=False); "
    "torch.save(t(c) or {{k: t(v) for k, v in c.items() if isinstance(v, (dict, torch.nn.Module))}}, "
    "r'{out}')"
)
TENSORS_OF_A_SCRIPT = "import torch; torch.save(torch.jit.load(r'{file}', 'cpu').state_dict(), r'{out}')"


def read_pickled(path: Path) -> Any:
    """What torch.save put there: tensors, containers, numbers, text, and `HARMLESS` objects.

    Raises:
        ModelError: damaged, or with other objects; the text says how to save the tensors alone.
    """
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|class) `?([\w.]+)", str(error))
        kind = f" of the class {named[1]}" if named else ""
        raise ModelError(
            f"{path} is damaged, or holds pickled Python objects{kind} besides tensors, which are never "
            "loaded. If you trust its origin, save its tensors alone where that class is installed, with\n"
            + _next(TENSORS_OF_A_PICKLE, path)
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


def _next(program: str, path: Path) -> str:
    out = path.with_suffix(".tensors.pth")
    return f'    python -c "{program.format(file=path, out=out)}"\nand set model.weights={out}'
