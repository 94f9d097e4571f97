"""A recipe before it is checked: the file, its `base:` files and the overrides, merged, with provenance.

Dictionaries merge, lists and plain values replace, `null` removes a section.
"""

import difflib
import os
import shlex
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from engine.going_on import STAGES, to_go_on
from engine.recipe.epochs import as_steps
from engine.recipe.stages import CHOICE, Stage, by_place, chosen_stage, folder_of_stages, stages_in, unused
from engine.recipe.text import Parsed, Path, RecipeError, Sources, parse_yaml
from engine.wording import near_path

OVERRIDE_FORM = "expected key.path=value, for example train.batch=8"


@dataclass
class Document:
    """Merged values, where each came from, and the mistakes found so far, one line each."""

    values: dict[str, Any]
    sources: Sources
    problems: list[str]

    def value(self, path: Path) -> Any:
        """The value at `path`, or None."""
        found: Any = self.values
        for key in path:
            found = _child(found, key)
        return found

    def place(self, path: Path) -> str:
        """Where the value at `path` was written or, if it was not, the section around it."""
        while path and path not in self.sources:
            path = path[:-1]
        return self.sources[path]

    def merge(self, over: "Document") -> None:
        """Merge `over` into the document; its values win."""
        for key, value in over.values.items():
            self._put(self.values, key, value, (key,))
        self.sources.update(over.sources)
        self.problems += over.problems

    def override(self, text: str, defaults: Mapping[str, Any]) -> None:
        """Apply one `key.path=value`; a list that only `defaults` has can be changed by index, too."""
        origin = f"override {text}"
        dotted_path, equals, value_text = text.partition("=")
        keys = dotted_path.strip().split(".")
        if not equals or not all(keys):
            self.problems.append(f"{origin}: {OVERRIDE_FORM}")
            return
        if keys == ["base"]:
            self.problems.append(
                f"{origin}: base is for files; give another recipe file to the command instead"
            )
            return
        if value_text == "...":
            self.problems.append(f"{origin}: ... stands for a value of yours; type that instead")
            return
        if any("\ud800" <= character <= "\udfff" for character in value_text):
            self.problems.append(
                f"{origin}: bytes that are no UTF-8, which no recipe can hold; rename the file or folder"
            )
            return
        try:
            parsed = parse_yaml(value_text, origin, with_lines=False)
        except RecipeError as error:
            self.problems.append(f"{error}; put text with special characters in quotes: {keys[-1]}='\"...\"'")
            return
        self.problems += parsed.problems
        if keys == ["data"]:
            parsed = _one_section_of_sets(parsed)
        self._set(keys, parsed, origin, defaults)

    def take_stage(self, stage: Stage, defaults: Mapping[str, Any]) -> None:
        """Put in the values of a stage, its folder, and its start from the stage before."""
        for key, parsed in stage.values.items():
            self._set(key.split("."), parsed, stage.place, defaults)
        folder = folder_of_stages(self.values, defaults)
        own: dict[str, Any] = {"output.dir": folder, "name": stage.name}
        weights, from_scratch = (("model", key) for key in ("weights", "from_scratch"))
        sets_weights, sets_from_scratch = (dotted(key) in stage.keys for key in (weights, from_scratch))
        if sets_from_scratch and self.value(from_scratch) and not sets_weights:
            own["model.weights"] = None  # of the file
        elif sets_weights and self.value(weights) is not None and not sets_from_scratch:
            own["model.from_scratch"] = False
        elif stage.before and not sets_weights and not (sets_from_scratch and self.value(weights)):
            own |= {"model.from_scratch": False, "model.weights": f"{folder}/{stage.before}"}
        for key, value in own.items():
            self._set(key.split("."), Parsed(value, {(): stage.place}), stage.place, defaults)

    def _set(self, keys: list[str], parsed: Parsed, origin: str, defaults: Any) -> None:
        names, parsed = as_steps(tuple(keys), parsed)
        node: Any = self.values
        path: Path = ()
        for depth, name in enumerate(map(str, names)):
            key: str | int = name
            if isinstance(node, list):
                if not (name.isdecimal() and int(name) < len(node)):
                    places = ", ".join(_places_in(node, path)) or "none"
                    self.problems.append(f"{origin}: {dotted(path)} is a list; its places are: {places}")
                    return
                key = int(name)
                self.sources[path] = origin
            elif not isinstance(node, dict):
                self.problems.append(f"{origin}: {dotted(path)} is a single value, it has no `{name}`")
                return
            path = (*path, key)
            defaults = _child(defaults, key)
            if depth == len(names) - 1:
                self._put(node, key, parsed.values, path)
                self.sources.update({path + below: source for below, source in parsed.sources.items()})
            elif _child(node, key) is None:
                node[key] = deepcopy(defaults) if isinstance(defaults, list) else {}
                self.sources[path] = origin
            node = node[key]

    def _put(self, container: Any, key: str | int, value: Any, path: Path) -> None:
        old = _child(container, key)
        if isinstance(old, dict) and isinstance(value, dict):
            for name, child in value.items():
                self._put(old, name, child, (*path, name))
            return
        for known in [known for known in self.sources if known[: len(path)] == path]:
            del self.sources[known]
        container[key] = value


def read_recipe(
    path: str | os.PathLike[str], overrides: Iterable[str], defaults: Mapping[str, Any]
) -> Document:
    """Read a recipe file with everything it is based on, and apply the overrides in their order.

    Args:
        path: of the YAML file, or the name of a shipped recipe; see `find_recipe`.
        overrides: `key.path=value` each.
        defaults: the values of keys that the files do not set.

    Raises:
        RecipeError: a file is missing, is not YAML, or `base` goes in a circle. Other mistakes are collected
            in the document, so that they can be reported together with those in the values.
    """
    document, stages, rest = _read_stages(path, overrides, defaults)
    stage = chosen_stage(stages, rest, os.fspath(path))
    for text in rest:
        if not text.startswith(CHOICE):
            document.override(text, defaults)
    if stage:
        document.problems += unused(rest, stages)
        document.take_stage(stage, defaults)
    return document


def stage_names(
    path: str | os.PathLike[str], overrides: Iterable[str], defaults: Mapping[str, Any]
) -> list[str]:
    """The names of a recipe's stages, in their order; none where it has no stages, or one was chosen.

    Raises:
        RecipeError: as `read_recipe`.
    """
    _, stages, rest = _read_stages(path, overrides, defaults)
    return [] if any(text.startswith(CHOICE) for text in rest) else [stage.name for stage in stages]


def _read_stages(
    path: str | os.PathLike[str], overrides: Iterable[str], defaults: Mapping[str, Any]
) -> tuple[Document, list[Stage], list[str]]:
    """The common part of a recipe, its stages, and the overrides that are not of `stages`."""
    file = find_recipe(path)
    document = _read_chain(file, "", [])
    if "name" not in document.values:
        document.values["name"] = file.stem
        document.sources["name",] = "file name"
    rest = []
    for text in overrides:
        if text.startswith(("stages.", "stages=")):
            document.override(by_place(text, document.values.get("stages")), defaults)
        else:
            rest.append(text)
    return document, stages_in(document.values, document.sources), rest


def shipped_recipes() -> dict[str, FilePath]:
    """The recipes that come with Trident, by name: in `recipes/` of a checkout, in `engine` if installed."""
    engine = FilePath(__file__).parents[1]
    installed = engine / "shipped_recipes"
    folder = installed if installed.is_dir() else engine.parent / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str | os.PathLike[str]) -> FilePath:
    """The file `name`, else the file `name`.yaml, else the shipped recipe `name`, else a missing file."""
    name = os.path.expanduser(name)
    for file in (FilePath(name), FilePath(f"{name}.yaml")):
        if file.is_file():
            return file
    return shipped_recipes().get(name, FilePath(name))


def dotted(path: Path) -> str:
    """("loss", 0, "weight") -> "loss.0.weight" """
    return ".".join(map(str, path))


def _read_chain(file: FilePath, wanted_by: str, above: list[FilePath]) -> Document:
    document = _read_file(file, wanted_by)
    base = document.values.pop("base", None)
    if base is None:
        return document
    place = document.sources.pop(("base",))
    if not isinstance(base, str):
        raise RecipeError(f"{place}: base: expected the name of one recipe file, got {base!r}")
    base_file = find_recipe(os.path.normpath(file.parent / os.path.expanduser(base)))
    if not base_file.is_file():  # a copy of a shipped recipe works anywhere
        base_file = shipped_recipes().get(base.removesuffix(".yaml"), base_file)
    chain = [*above, file]
    if base_file.resolve() in [link.resolve() for link in chain]:
        raise RecipeError(f"{place}: base goes in a circle: {' -> '.join(map(str, [*chain, base_file]))}")
    below = _read_chain(base_file, f"{place}: base: ", chain)
    below.values.pop("name", None)  # two recipes must not share a run folder
    below.sources.pop(("name",), None)
    below.merge(document)
    return below


def _read_file(file: FilePath, wanted_by: str) -> Document:
    if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe could be waited for without end
        raise RecipeError(f"{wanted_by}{file} is a pipe or a device, and no recipe file")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"{wanted_by}{_missing(file)}") from None
    except IsADirectoryError:
        raise RecipeError(f"{wanted_by}{file} is a folder, not a recipe file. {_of_folder(file)}") from None
    except OSError as error:
        raise RecipeError(f"{wanted_by}cannot read the recipe {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{wanted_by}{file}: not a text file in UTF-8 (byte {error.start})") from None
    _, parsed = as_steps((), parse_yaml(text, str(file)))
    values = {} if parsed.values is None else parsed.values
    if not isinstance(values, dict):
        raise RecipeError(f"{wanted_by}{file}: a recipe is made of `key: value` lines, this file is not")
    if isinstance(values.get("data"), list):
        inside = {path[1:]: place for path, place in parsed.sources.items() if path[:1] == ("data",)}
        data = _one_section_of_sets(Parsed(values["data"], inside))
        others = {path: place for path, place in parsed.sources.items() if path[:1] != ("data",)}
        parsed.sources = others | {("data", *path): place for path, place in data.sources.items()}
        parsed.problems += data.problems
        values["data"] = data.values
    return Document(values, parsed.sources, parsed.problems)


def _one_section_of_sets(parsed: Parsed) -> Parsed:
    """A list of sets as one `data` section: the first that has no class map, with the others in its `also`.

    What is no list of sections stays as it is, and is reported when it is checked.
    """
    sets, place = parsed.values, parsed.sources.get((), "")
    if not isinstance(sets, list) or not sets:
        return parsed
    if not all(isinstance(item, dict) and "also" not in item for item in sets):
        return parsed
    first = next((number for number, item in enumerate(sets) if "map" not in item), None)
    if first is None:
        text = "every set has a map. Leave it out of the set whose classes the model learns"
        return Parsed({}, {(): place}, [*parsed.problems, f"data ({place}): {text}"])
    further = [number for number in range(len(sets)) if number != first]
    sources: Sources = {("also",): place}
    for path, source in parsed.sources.items():
        if path and path[0] == first:
            sources[path[1:]] = source
        elif path:
            sources["also", further.index(int(path[0])), *path[1:]] = source
    return Parsed({**sets[first], "also": [sets[number] for number in further]}, sources, parsed.problems)


def _of_folder(folder: FilePath) -> str:
    if (folder / "recipe.yaml").is_file() or (folder / STAGES).is_file():
        return to_go_on(folder)
    return f"For a folder of images and masks, write a recipe: trident new {shlex.quote(str(folder))}"


def _missing(file: FilePath) -> str:
    text = f"no recipe file {file}"
    if not file.parent.is_dir():
        text = f"{text}: the folder {file.parent} does not exist"
    own = {other.stem: other for other in sorted(file.parent.glob("*.yaml"))}
    shipped = shipped_recipes()
    near = near_path(file) if file.parent != FilePath() else ""
    close = difflib.get_close_matches(file.stem, own if near else [*own, *shipped], n=1)
    hint = f"; did you mean {own.get(close[0], close[0])}?" if close else f".{near}"
    here = f" Recipes in {file.parent}: {', '.join(other.name for other in own.values())}." if own else ""
    return f"{text}{hint}{here} Recipes that come with Trident: {', '.join(shipped)}"


def _places_in(listed: list[Any], path: Path) -> list[str]:
    """What may follow the path of a list in an override: of stages their names, else numbers."""
    if path == ("stages",) and all(isinstance(item, dict) and "name" in item for item in listed):
        return [str(item["name"]) for item in listed]
    return [str(place) for place in range(len(listed))]


def _child(container: Any, key: str | int) -> Any:
    """The value at `key`, or None."""
    if isinstance(container, list):
        return container[key] if isinstance(key, int) and key < len(container) else None
    return container.get(key) if isinstance(container, dict) else None
