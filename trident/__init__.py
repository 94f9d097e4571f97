"""Trident from Python.

    import trident

    run = trident.train("recipes/demo.yaml", ["train.steps=300"])
    labels, probabilities = run.load().predict("photo.jpg")

What needs torch is imported when it is first used, so `import trident` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trident.own_engine import engine  # before anything else imports an `engine`

if TYPE_CHECKING:
    from engine import load
    from engine.recipe import Recipe, load_recipe
    from engine.reporting.callbacks import Callback, Evaluation, RunContext, RunEnd
    from engine.scoring.run import Run
    from engine.training.interrupt import RunStopped
    from losses import Boundary, CrossEntropy, Dice, Focal, Jaccard, Lovasz, Tversky, build_loss
    from models import SegFormer, build_model
    from trident.api import evaluate, train

__all__ = [
    "Boundary",
    "Callback",
    "CrossEntropy",
    "Dice",
    "Evaluation",
    "Focal",
    "Jaccard",
    "Lovasz",
    "Recipe",
    "Run",
    "RunContext",
    "RunEnd",
    "RunStopped",
    "SegFormer",
    "Tversky",
    "__version__",
    "build_loss",
    "build_model",
    "evaluate",
    "load",
    "load_recipe",
    "train",
]
__version__ = engine.__version__
_MODULES = {  # of what is not in `losses`
    "Callback": "engine.reporting.callbacks",
    "Evaluation": "engine.reporting.callbacks",
    "Recipe": "engine.recipe",
    "Run": "engine.scoring.run",
    "RunContext": "engine.reporting.callbacks",
    "RunEnd": "engine.reporting.callbacks",
    "RunStopped": "engine.training.interrupt",
    "SegFormer": "models",
    "build_model": "models",
    "evaluate": "trident.api",
    "load": "engine",
    "load_recipe": "engine.recipe",
    "train": "trident.api",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'trident' has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "losses")), name)


def __dir__() -> list[str]:
    return __all__
