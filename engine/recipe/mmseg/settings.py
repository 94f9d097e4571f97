"""The settings of a configuration of MMSegmentation, and the notes about those that are not carried over."""

from collections.abc import Iterator
from typing import Any, NamedTuple

NUMBER = (int, float)


class NotRead(NamedTuple):
    """The text of a value, or of a statement, that only running the file would give."""

    text: str
    place: str


class Settings(dict[str, Any]):
    """A `dict(...)` of a configuration, with the place (file:line) of each key, and which keys were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, str] = {}
        self.taken: set[str] = set()

    def put(self, key: str, value: Any, place: str) -> None:
        self[key], self.places[key] = value, place

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The value, if it is there and of this kind, and else the default."""
        value = self.get(key)
        is_flag = isinstance(value, bool)
        if value is None or not isinstance(value, kind) or (is_flag and kind is not bool):
            return default
        self.taken.add(key)
        return value

    def numbers(self, key: str, default: list[float]) -> list[float]:
        """The numbers of a list that is not empty, and else the default."""
        value = self.get(key)
        if not isinstance(value, list) or not value or any(type(item) not in NUMBER for item in value):
            return default
        self.taken.add(key)
        return [float(item) for item in value]

    def section(self, key: str) -> "Settings":
        found: Settings = self.take(key, Settings, Settings())
        return found

    def left(self, path: str = "") -> Iterator[tuple[str, str, Any]]:
        """(place, path, value) of each setting that nobody took."""
        for key, value in self.items():
            inner = f"{path}.{key}".lstrip(".")
            children = value if isinstance(value, list) else [value]
            sections = [child for child in children if isinstance(child, Settings)]
            if key not in self.taken:
                yield self.places[key], inner, value
            for section in sections if key in self.taken else ():
                yield from section.left(inner)


def merged(base: Settings, over: Settings) -> Settings:
    """`over` wins; dictionaries merge, unless `over` says `_delete_=True`."""
    result = Settings()
    for source in (over,) if over.get("_delete_") is True else (base, over):
        for key, value in source.items():
            old = result.get(key)
            if isinstance(value, Settings):
                value = merged(old if isinstance(old, Settings) else Settings(), value)
            if key != "_delete_":
                result.put(key, value, source.places[key])
    return result


class Notes(list[str]):
    """Lines about settings that were not carried over as they are."""

    def add(self, settings: Settings, key: str, why: str) -> None:
        """A line about one setting, which is then removed: what is inside it needs no lines of its own."""
        self.append(f"{settings.places[key]}: {key}={short(settings.pop(key))}: {why}")

    def whole(self, settings: Settings, why: str) -> None:
        """A line about a component, whose settings need no lines of their own."""
        self.append(f"{settings.places['type']}: {short(settings)}: {why}")
        settings.taken |= {*settings}


def short(value: Any) -> str:
    """A value as it is written in a configuration, on one line of at most 60 characters."""
    text = " ".join(_written(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _written(value: Any) -> str:
    if isinstance(value, Settings):
        return f"dict({', '.join(f'{key}={_written(inner)}' for key, inner in value.items())})"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return value.text if isinstance(value, NotRead) else repr(value)
