"""What the sections of a recipe are made of: strictness, ranges, and the wording of mistakes."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def mistake(text: str) -> PydanticCustomError:
    """A mistake whose text needs no rewriting."""
    return PydanticCustomError("mistake", "{text}", {"text": text})


def key(default: Any, meaning: str, **limits: Any) -> Any:
    """A key with its default and the line that editors show."""
    return Field(default, description=meaning, validate_default=True, **limits)


class Section(BaseModel):
    """Strict: no unknown key, no text for a number, no number for a switch, no infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
