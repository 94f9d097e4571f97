"""The declarations of options are what the constructors use."""

import pkgutil
from inspect import signature

import pytest

import losses
from losses.terms import TERMS


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
