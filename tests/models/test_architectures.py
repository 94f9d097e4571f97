"""The declarations of options are what the constructors use."""

from inspect import signature

from models.architectures import SegFormerOptions
from models.segformer import SegFormer


def test_the_constructor_of_segformer_has_the_declared_options_and_defaults() -> None:
    declared = {name: p.default for name, p in signature(SegFormerOptions).parameters.items()}
    built = {name: p.default for name, p in signature(SegFormer).parameters.items()}
    assert built.pop("num_classes") == 21
    of_the_data = {"in_channels", "mean", "std"}  # they follow from data.bands
    assert declared == {name: default for name, default in built.items() if name not in of_the_data}
