"""The declarations of options: readable without torch, and what the constructors use."""

import subprocess
import sys
from inspect import signature
from pathlib import Path

from models.architectures import SegFormerOptions
from models.segformer import SegFormer

ROOT = Path(__file__).parents[2]


def test_declarations_and_class_names_need_no_torch() -> None:
    code = "import sys, models.architectures, models.class_names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_constructor_of_segformer_has_the_declared_options_and_defaults() -> None:
    declared = {name: p.default for name, p in signature(SegFormerOptions).parameters.items()}
    built = {name: p.default for name, p in signature(SegFormer).parameters.items()}
    assert built.pop("num_classes") == 21
    of_the_data = {"in_channels", "mean", "std"}  # they follow from data.bands
    assert declared == {name: default for name, default in built.items() if name not in of_the_data}
