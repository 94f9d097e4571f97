"""The options of components as keys of a recipe: losses, architectures, optimisers, data formats, loggers.

Options are declared once, next to the component: for those of Trident in a table that needs no torch; for
one from outside, which a recipe names by its import path (`my_package.losses:MyLoss`), as the keyword
parameters of its constructor. Both become typed sections here.
"""

from collections.abc import Collection, Iterable
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, create_model

from engine.components import Component, ComponentError, import_component, is_import_path, options_of
from engine.data.options import Data
from engine.options import Duration, NotNegative, Section, key
from engine.recipe.source import Document, dotted
from engine.recipe.text import Path
from engine.training.options import Optimizer
from losses.terms import TERMS
from models.architectures import EncoderOptions, SegFormerOptions, ViTOptions

GIVEN = {  # what the engine passes to a component of each section, so that it is no option
    "loss": ("ignore_index", "num_classes"),
    "model": ("num_classes", "class_names"),
    "optimizer": ("params", *Optimizer.model_fields),
    "data": ("split", "class_names", "palette", *Data.model_fields),
    "log": (),
}
OWN_OPTIONS = (  # another model may have these as well
    *("encoder", *signature(SegFormerOptions).parameters),
    *signature(ViTOptions).parameters,
    *signature(EncoderOptions).parameters,
)
NAMED_BY = {"model": "arch", "optimizer": "name", "data": "format"}  # sections of one component


class Ramp(Section):
    begin: NotNegative = key(0.0, "the weight until `start`")
    end: NotNegative = key(1.0, "the weight from `ramp` steps after `start`")
    start: Duration = key(0, "when the weight starts to change")
    ramp: Duration = key("10%", "how long the change takes")


class LossTerm(Section):
    """What every term has; a subclass adds the options of one loss."""

    name: str = Field(
        description="a loss of Trident, or the import path of another: my_package.losses:MyLoss"
    )
    weight: NotNegative | Ramp = key(
        1.0, "factor of this loss in the sum; or {begin, end, start, ramp} to change it during the training"
    )

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def section_with_options(section: type[Section], component: Component, given: Collection[str] = ()) -> Any:
    """A subclass of a section with the options of a component.

    Raises:
        ComponentError: an option cannot be written in a recipe, or is required and has the name of a key that
            the section needs itself. One with such a name and a default is left out.
    """
    options = options_of(component, given)
    for name in section.model_fields.keys() & options.keys() - {*OWN_OPTIONS}:
        if options.pop(name)[1] is ...:
            raise ComponentError(f"its parameter {name} has the name of a key of this section; rename it")
    return create_model(section.__name__, __base__=section, __doc__=section.__doc__, **options)


def named_section(base: type[Section], name: str) -> Any:
    """A subclass for one component of a list, distinguished by its `name`."""
    field = Field(description=base.model_fields["name"].description)
    fields: dict[str, Any] = {"name": (Literal[name], field)}
    return create_model(_title(name), __base__=base, __doc__=base.__doc__, **fields)


def outside_section(document: Document, path: Path, base: type[Section], imports: bool) -> Any:
    """The section for the component whose import path is the value at `path`; None where it is not one.

    What cannot be imported is added to the problems of the document; its section then takes any key.

    Args:
        imports: False takes the options as they are written, those of `data` if it cannot be imported.
    """
    name = document.value(path)
    if not is_import_path(name):
        return None
    section = named_section(base, name) if path[-1] == "name" and len(path) > 2 else base
    if imports or path[0] == "data":  # nothing checks the options of data later
        try:
            return section_with_options(section, import_component(name), GIVEN[str(path[0])])
        except ComponentError as error:
            if imports:
                document.problems.append(f"{dotted(path)} ({document.place(path)}): {error}.")
                return create_model(section.__name__, __base__=section, __cls_kwargs__={"extra": "allow"})
    written = (option for option in document.value(path[:-1]) if option not in section.model_fields)
    options: dict[str, Any] = dict.fromkeys(written, (Any, ...))
    return create_model(section.__name__, __base__=section, **options)


def _title(name: str) -> str:
    """cross_entropy -> CrossEntropy, my_package.losses:MyLoss -> MyLoss: the section's name in the schema."""
    return "".join(word[:1].upper() + word[1:] for word in name.rpartition(":")[2].split("_"))


def union_of(sections: Iterable[type[Section]]) -> Any:
    """One of several named sections."""
    kinds = tuple(sections)
    return Annotated[Union[kinds], Field(discriminator="name")] if len(kinds) > 1 else kinds[0]  # noqa: UP007


LOSS_SECTIONS = {
    name: section_with_options(named_section(LossTerm, name), term.options) for name, term in TERMS.items()
}
