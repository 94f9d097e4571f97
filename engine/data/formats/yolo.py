"""YOLO segmentation: data.yaml, and a text file of polygons in labels/ for each image in images/.

A line is a class and the corners x y x y ..., as shares of width and height. A hole is in the line itself, as
an outline that returns on its own path. An image without a text file has no object. Where objects overlap,
the smaller is on top, as in Ultralytics' masks.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from engine.data.formats.files import Pair, bytes_of_file
from engine.data.formats.listing import folders_in, ids_in_list, images_below, names_in
from engine.data.formats.outlines import Annotation, Source, damaged, part_of, polygon
from engine.data.formats.tiff import any_header
from engine.data.sample import DataError, first_few

MOST = 1.01  # of a side; a corner just beyond the edge is a rounding
NUM_OF_BOX = 5  # class x y width height


def yolo(root: Path, split: str) -> Source | None:
    """The images of a split of data.yaml, or in images/<split>; None where there is neither."""
    description = next(
        (root / n for n in ("data.yaml", "data.yml", "dataset.yaml") if (root / n).is_file()), None
    )
    content = _description(description) if description else {}
    names = _names(content.get("names"), root, description)
    images = _images(content, root, split)
    if not images:
        return None
    folder, files = images
    pairs = [Pair(_id(path, folder), path, _text_file(path)) for path in files]
    if not any(pair.mask.parent.is_dir() for pair in pairs):
        return None
    labels = [names[id] for id in sorted(names)]
    note = _without_image(pairs)
    return Source(pairs, _Parser(names), _content, labels, note, is_split=bool(split))


def _description(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no YAML: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a description of YOLO data: it needs names, train and val.")
    return content


def _names(names: Any, root: Path, description: Path | None) -> dict[int, str]:
    """Names by YOLO's class ids; empty where none are given."""
    if names is None:
        listed = next((root / n for n in ("classes.txt", "labels/classes.txt") if (root / n).is_file()), None)
        names = ids_in_list(listed) if listed else []
    by_id = dict(enumerate(names)) if isinstance(names, list) else names
    is_table = isinstance(by_id, dict) and all(str(id).isdigit() for id in by_id)
    if not is_table or not all(isinstance(name, str | int | float) for name in by_id.values()):
        raise DataError(f"{description}: names is neither a list of names nor {{id: name}}. Correct it.")
    return {int(id): str(name).strip() for id, name in by_id.items()}


def _images(content: dict[str, Any], root: Path, split: str) -> tuple[Path, list[Path]] | None:
    """The folder that ids are relative to, and the images."""
    named = content.get(split) or (content.get("val") if split == "valid" else None)
    places = [named] if isinstance(named, str) else list(named or ())
    found: list[Path] = []
    for place in places:
        path = _below(root, str(content.get("path") or "."), str(place))
        if path is None:
            raise DataError(f"data.yaml: {split}: {place} is not below {root}. Correct it in data.yaml.")
        found += _listed(path) if path.is_file() else images_below(path)
    if found:
        first = _below(root, str(content.get("path") or "."), str(places[0]))
        return (first if first and first.is_dir() and len(places) == 1 else root), found
    for folder in (root / "images" / split, root / split / "images"):
        if folder.is_dir():
            return folder, images_below(folder)
    if not split and "images" in folders_in(root) and "labels" in folders_in(root):
        return root / "images", images_below(root / "images")
    return None


def _below(root: Path, base: str, place: str) -> Path | None:
    """Where a path of data.yaml is: it may be that of another machine, or relative to another folder."""
    parts = [part for part in PurePosixPath(place.replace("\\", "/")).parts if part not in ("..", ".", "/")]
    tried = [root / base / place, root / place, *(root.joinpath(*parts[i:]) for i in range(len(parts)))]
    return next((path for path in tried if path.exists()), None)


def _listed(path: Path) -> list[Path]:
    return [_below(path.parent, ".", line) or path.parent / line for line in ids_in_list(path)]


def _id(path: Path, folder: Path) -> str:
    inside = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    return inside.with_suffix("").as_posix()


def _text_file(image: Path) -> Path:
    """The last folder images on its path becomes labels."""
    parts = list(image.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _without_image(pairs: list[Pair]) -> str:
    """A note on text files beside which no image of the same name is."""
    lost = []
    for texts, images in sorted({(pair.mask.parent, pair.image.parent) for pair in pairs}):
        there = {Path(name).stem for name in names_in(images)} | {"classes"}
        lost += [texts / name for name in sorted(names_in(texts)) if Path(name).stem not in there]
    return f"text files of YOLO without an image, not used: {len(lost)} ({first_few(lost)})" if lost else ""


def _content(pair: Pair) -> bytes:
    return bytes_of_file(pair) if pair.mask.name in names_in(pair.mask.parent) else b""


class _Parser:
    """The lines of a text file as polygons; `names` by class id."""

    def __init__(self, names: dict[int, str]):
        self.names = names

    def __call__(self, content: bytes, pair: Pair) -> Annotation:
        h, w = any_header(pair.image)[0]
        shapes = []
        for number, line in enumerate(content.decode("utf-8-sig").splitlines(), 1):
            cells = line.split()
            if not cells:
                continue
            try:
                shares = np.array([float(cell) for cell in cells[1:]])
                id = int(cells[0])
            except ValueError as error:
                raise damaged(pair, f"line {number} is not a class and numbers") from error
            if len(cells) == NUM_OF_BOX:
                raise DataError(
                    f"{pair.mask}, line {number}: a box, or an outline of two points. "
                    "Boxes alone are no masks; export polygons."
                )
            if (shares > MOST).any() or (shares < 1 - MOST).any():
                raise damaged(
                    pair,
                    f"line {number} has the coordinate {shares[abs(shares - 0.5).argmax()]:g}, and YOLO's "
                    "are shares of width and height, 0 to 1",
                )
            if self.names and id not in self.names:
                raise DataError(
                    f"{pair.mask}, line {number}: class {id} has no name in data.yaml. Add it to names."
                )
            if len(shares) % 2:
                raise damaged(pair, f"line {number} has an odd number of coordinates")
            with part_of(pair, f"line {number}"):
                shapes.append(polygon(self.names.get(id, f"class_{id}"), shares.reshape(-1, 2) * (w, h)))
        return Annotation(None, shapes)
