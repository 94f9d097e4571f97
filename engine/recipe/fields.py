"""What the sections of a recipe are made of: strictness, ranges, the refusal of what does not work yet."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic import GetJsonSchemaHandler as JsonHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Only:
    """Marks a key of which this version knows one value."""

    value: Any
    meaning: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: JsonHandler) -> dict[str, Any]:
        return {"const": self.value}

    def _check(self, value: Any) -> Any:
        if value != self.value:
            shown = "null" if self.value is None else self.value
            meaning = f" ({self.meaning})" if self.meaning else ""
            raise mistake(f"not available in this version: only {shown}{meaning} works")
        return value


def mistake(text: str) -> PydanticCustomError:
    """A mistake whose text needs no rewriting."""
    return PydanticCustomError("mistake", "{text}", {"text": text})


def key(default: Any, meaning: str, **limits: Any) -> Any:
    """A key with its default and the line that editors show."""
    return Field(default, description=meaning, validate_default=True, **limits)


class Section(BaseModel):
    """Strict: no unknown key, no text for a number, no number for a switch, no infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
