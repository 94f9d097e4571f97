"""The declarations of options: readable without torch, and what the constructors use."""

import pkgutil
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

import losses
from losses.terms import TERMS

ROOT = Path(__file__).parents[2]


def test_declarations_need_no_torch() -> None:
    code = "import sys, losses.terms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", TERMS)
def test_a_constructor_has_the_declared_options_and_defaults(name: str) -> None:
    declared = {key: p.default for key, p in signature(TERMS[name].options).parameters.items()}
    built = {
        key: p.default
        for key, p in signature(pkgutil.resolve_name(TERMS[name].implementation)).parameters.items()
    }
    assert built.pop("ignore_index") == 255
    assert declared == built


def test_every_public_name_of_the_package_can_be_imported() -> None:
    assert all(getattr(losses, name) is not None for name in losses.__all__)
    with pytest.raises(AttributeError, match="Dise"):
        losses.Dise  # noqa: B018
