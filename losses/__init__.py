"""Losses for semantic segmentation: pure functions, modules around them, and `build_loss` to mix them.

Void pixels (`ignore_index`) are ignored everywhere. What needs torch is imported when it is first used, so
that `losses.terms` can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from losses.terms import TERMS, LossError, Ohem

if TYPE_CHECKING:
    from losses.boundary import Boundary
    from losses.build import build_loss
    from losses.cross_entropy import CrossEntropy
    from losses.focal import Focal
    from losses.lovasz import Lovasz
    from losses.mcc import MCC
    from losses.mixed import MixedLoss, Ramp
    from losses.overlap import Dice, Jaccard, Tversky

__all__ = [
    "MCC",
    "TERMS",
    "Boundary",
    "CrossEntropy",
    "Dice",
    "Focal",
    "Jaccard",
    "LossError",
    "Lovasz",
    "MixedLoss",
    "Ohem",
    "Ramp",
    "Tversky",
    "build_loss",
]
_MODULES = {"build_loss": "losses.build", "MixedLoss": "losses.mixed", "Ramp": "losses.mixed"} | {
    name: module for module, name in (term.implementation.split(":") for term in TERMS.values())
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'losses' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
