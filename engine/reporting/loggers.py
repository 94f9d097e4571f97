"""The loggers that `log.to` of a recipe names, and how they are built. Does not import torch.

A new logger is a `Callback` in a file of its own and an entry here. Its options are the parameters of its
constructor. Where its file imports an optional package, the extra in setup.py has the logger's name.
"""

import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from engine.components import ComponentError, build_component, import_component, is_import_path, unknown
from engine.options import Section
from engine.reporting.callbacks import Callback

LOGGERS = {  # name -> import path
    "tensorboard": "engine.reporting.tensorboard:TensorBoard",
    "csv": "engine.reporting.log_files:CsvLog",
    "wandb": "engine.reporting.wandb_log:WandbLog",
    "mlflow": "engine.reporting.mlflow_log:MlflowLog",
}
PACKAGES = ("wandb", "mlflow")  # packages that the loggers of these names import


def build_loggers(entries: Iterable[str | Section]) -> list[Callback]:
    """The loggers of a recipe's `log.to`.

    Args:
        entries: names of LOGGERS or import paths; or sections with `name` and the constructor's parameters.

    Raises:
        ComponentError: an unknown name, a package that is not installed, or options that are refused.
    """
    named = [{"name": entry} if isinstance(entry, str) else entry.model_dump() for entry in entries]
    return [_build(entry.pop("name"), entry) for entry in named]


def require_callbacks(callbacks: Iterable[object], origin: str = "callbacks") -> None:
    """Raises ComponentError where one of them is not a Callback."""
    for callback in callbacks:
        if isinstance(callback, type) and issubclass(callback, Callback):
            name = callback.__name__
            raise ComponentError(f"{origin}: {name} is a class. Pass an instance: {name}().")
        if not isinstance(callback, Callback):
            raise ComponentError(
                f"{origin}: {callback!r} is not a trident.Callback; derive its class from it."
            )


def _build(name: str, options: Mapping[str, Any]) -> Callback:
    origin = f"log.to: {name}"
    if name in PACKAGES and importlib.util.find_spec(name) is None:
        raise ComponentError(
            f"{origin}: the package {name} is not installed. Type: pip install 'trident-seg[{name}]'"
        )
    try:
        if name not in LOGGERS and not is_import_path(name):
            raise unknown("logger", name, [*LOGGERS, "the import path of a Callback"])
        component = import_component(LOGGERS.get(name, name))
        logger = build_component(component, component, options, {})
    except ComponentError as error:
        raise ComponentError(f"{origin}: {error}") from error
    require_callbacks([logger], origin)
    assert isinstance(logger, Callback)
    return logger
