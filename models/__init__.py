"""The networks: `build_model` builds the one in a recipe's `model` section, with random weights.

Pretrained weights come afterwards, from `models.weights.initialise`. What needs torch is imported when it is
first used, so that `models.architectures` and `models.class_names` can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from models.errors import ModelError

if TYPE_CHECKING:
    from models.build import build_model
    from models.segformer import SegFormer

__all__ = ["ModelError", "SegFormer", "build_model"]
_MODULES = {"SegFormer": "models.segformer", "build_model": "models.build"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
