"""The loggers that `log.to` of a recipe names, and their making. Does not import torch.

A new logger is a `Callback` in a file of its own and an entry here. Its options are the parameters of its
constructor. Where its file imports an optional package, the extra in setup.py has the logger's name.
"""

import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from engine.options import Section
from engine.recipe.components import section_with_options
from engine.reporting.callbacks import Callback

LOGGERS = {  # name -> import path
    "tensorboard": "engine.reporting.tensorboard:TensorBoard",
    "csv": "engine.reporting.log_files:CsvLog",
    "wandb": "engine.reporting.wandb_log:WandbLog",
    "mlflow": "engine.reporting.mlflow_log:MlflowLog",
}


class LoggerError(ValueError):
    """A logger or callback cannot be made."""

    exit_code = 2


def build_loggers(entries: Iterable[str | Section]) -> list[Callback]:
    """The loggers of a recipe's `log.to`.

    Args:
        entries: names of LOGGERS or import paths; or sections with `name` and the constructor's parameters.

    Raises:
        LoggerError: an unknown name, a package that is not installed, or options that are refused.
    """
    named = [{"name": entry} if isinstance(entry, str) else entry.model_dump() for entry in entries]
    return [_build(entry.pop("name"), entry) for entry in named]


def require_callbacks(callbacks: Iterable[object]) -> None:
    """Raises LoggerError where something else than a Callback was passed."""
    for callback in callbacks:
        if not isinstance(callback, Callback):
            hint = f"pass an instance: {callback.__name__}()" if isinstance(callback, type) else ""
            raise LoggerError(
                f"callbacks: {callback!r} is not a trident.Callback; {hint or 'derive its class from it'}."
            )


def _build(name: str, options: Mapping[str, Any]) -> Callback:
    if name not in LOGGERS and ":" not in name:
        raise LoggerError(
            f"log.to: there is no logger {name!r}. Choose among {', '.join(LOGGERS)}, or name the import "
            "path of a Callback, such as my_package:MyLogger."
        )
    try:
        kind = pkgutil.resolve_name(LOGGERS.get(name, name))
        section = section_with_options(Section, kind)
        values = section.model_validate(options)
        logger = kind(**{option: getattr(values, option) for option in options})
    except ModuleNotFoundError as error:
        extra = f" Type: pip install 'trident-seg[{name}]'" if name in LOGGERS else ""
        raise LoggerError(f"log.to: {name} needs {error.name}, which is not installed.{extra}") from error
    except (ImportError, AttributeError) as error:
        raise LoggerError(f"log.to: {name} cannot be imported: {error}.") from error
    except ValidationError as error:
        known = ", ".join(section.model_fields) or "none"
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise LoggerError(f"log.to: {name}: {found}. Its options are: {known}.") from error
    except ValueError as error:
        raise LoggerError(f"log.to: {name}: {error}") from error
    if not isinstance(logger, Callback):
        raise LoggerError(f"log.to: {name} is not a trident.Callback; derive its class from that.")
    return logger
