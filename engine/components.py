"""Components by name: imported by their path, and built from options that their constructor declares.

A component from outside is named by an import path, `package.module:Name`. Its options are the keyword
parameters of its constructor, with the ranges that `Annotated` gives them; those of our own components are
the fields of a dataclass. Does not import torch, since the recipe checks options too.
"""

import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_json

from engine.options import STRICT
from engine.wording import did_you_mean

IMPORT_PATH = r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*(\.\w+)*"

Component = Callable[..., Any]


class ComponentError(ValueError):
    """A component that cannot be found or built as asked for; the text says what to write instead."""

    exit_code = 2


def is_import_path(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(IMPORT_PATH, name) is not None


def import_component(path: str) -> Component:
    """The object that `package.module:Name` names.

    Raises:
        ComponentError: it cannot be imported, or cannot be called.
    """
    try:
        found = pkgutil.resolve_name(path)
    except ModuleNotFoundError as error:
        raise ComponentError(
            f"cannot import {path}: there is no module {error.name} in the working folder or among the "
            "installed packages"
        ) from error
    except (AttributeError, ValueError) as error:
        raise ComponentError(f"cannot import {path}: {error}") from error
    except (Exception, SystemExit) as error:  # importing a module may raise anything
        raise ComponentError(f"cannot import {path}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ComponentError(f"{path} is not a class or function but of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]  # of any type


def options_of(component: Component, given: Collection[str] = ()) -> dict[str, Any]:
    """The keyword parameters of a class or function as pydantic fields: name -> (type, default).

    A parameter without an annotation takes any value. One that cannot be written in a recipe, such as a
    tensor, a function, or a positional-only parameter, is left out where it has a default.

    Args:
        given: parameters that are no options, since the caller passes them.

    Raises:
        ComponentError: a parameter without a default that cannot be written in a recipe.
    """
    try:
        parameters = inspect.signature(component, eval_str=True).parameters
    except Exception as error:  # a builtin, or an annotation that cannot be evaluated
        raise ComponentError(f"its parameters cannot be read: {error}") from error
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in given or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        try:
            fields[name] = _field(parameter)
        except (PydanticUserError, PydanticSerializationError, TypeError) as error:
            if parameter.default is parameter.empty:
                raise ComponentError(
                    f"parameter `{parameter}` cannot be written in a recipe; give it a default or plain type"
                ) from error
    return fields


def _field(parameter: inspect.Parameter) -> tuple[Any, Any]:
    """Type and default. A default that is not of the annotated type makes the type wider."""
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise TypeError("options are passed by keyword")
    annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    adapter.json_schema()  # raises for what has none, such as a function
    read = BeforeValidator(lambda value: _from_plain(adapter, value))
    if parameter.default is parameter.empty:
        return Annotated[annotation, read], ...
    try:
        default = _from_plain(adapter, parameter.default, must_be_plain=True)
    except ValidationError:
        if parameter.default is None:
            return _field(parameter.replace(annotation=annotation | None))
        return Any, parameter.default
    return (Any if default in (math.inf, -math.inf) else Annotated[annotation, read]), default


def _from_plain(adapter: TypeAdapter[Any], value: Any, must_be_plain: bool = False) -> Any:
    """Validates as JSON does, where a tuple is a list, and a path or a member of an enumeration is text."""
    try:
        text = to_json(value, inf_nan_mode="constants")
    except PydanticSerializationError:
        if must_be_plain:
            raise
        return value
    return adapter.validate_json(text, strict=True)


def build_component(
    component: Component, declaration: Component, options: Mapping[str, Any], given: Mapping[str, Any]
) -> Any:
    """Calls a component with its options, and with those of `given` that it has as parameters.

    Args:
        declaration: what declares the options: the component itself, or a dataclass.
        options: those that are set; the others keep their defaults.

    Raises:
        ComponentError: an unknown option, a value that the declaration refuses, or the component refuses all.
    """
    fields = options_of(declaration, given)
    for name in options:
        if name not in fields:
            raise unknown("option", name, fields)
    model = create_model("Options", __config__=STRICT | ConfigDict(protected_namespaces=()), **fields)
    try:
        checked = model(**options)
    except ValidationError as error:
        raise _refused(error) from None
    accepted = inspect.signature(component).parameters
    passed = {name: value for name, value in given.items() if name in accepted}
    passed |= {name: getattr(checked, name) for name in options}
    try:
        return component(**passed)
    except (Exception, SystemExit) as error:  # whatever its constructor does
        if getattr(error, "exit_code", None):
            raise
        what = str(error) if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: {error}"
        raise ComponentError(f"{what} (built with {passed})") from error


def unknown(
    what: str, name: object, choices: Iterable[str], shown: Iterable[str] | None = None
) -> ComponentError:
    """The error for a name that is not among `choices`; `shown` shortens the list that is printed."""
    choices = list(choices)
    hint = did_you_mean(str(name), choices, 3)
    return ComponentError(f"unknown {what} {name!r}.{hint} Choices: {', '.join(shown or choices) or 'none'}.")


def _refused(error: ValidationError) -> ComponentError:
    """What was expected for the first refused option, and what was given."""
    errors = error.errors()
    # Every member of a union reports why it refused the value; the one that got furthest was meant.
    first = [entry for entry in errors if entry["loc"][0] == errors[0]["loc"][0]]
    depth = max(len(entry["loc"]) for entry in first)
    meant = [entry for entry in first if len(entry["loc"]) == depth]
    path = ".".join(str(part) for part in meant[0]["loc"] if isinstance(part, int) or part.isidentifier())
    if meant[0]["type"] == "literal_error" and len(meant) == 1:
        return unknown(path, meant[0]["input"], re.findall(r"'(.*?)'", meant[0]["ctx"]["expected"]))
    expected = " or ".join(entry["msg"].removeprefix("Input should be ") for entry in meant)
    return ComponentError(f"{path}: expected {expected}, got {meant[0]['input']!r}.")
