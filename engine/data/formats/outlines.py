"""The annotation of one image as labelled shapes, and how their outlines become pixels.

A reader of a format (labelme.py, yolo.py, cvat.py, label_studio.py) returns a `Source`; drawn.py makes a data
set of it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.data.formats.files import Pair, bytes_of_file
from engine.data.formats.shapes import Area, area_of, require_inside
from engine.data.sample import DataError, UnreadableSample
from engine.wording import quantity

LEAST_POINTS = 3
NOT_READABLE = (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Shape:
    """One object: its label, the function of (h, w) that gives its pixels, its layer (higher is on top)."""

    label: str
    area: Callable[[int, int], Area]
    layer: int = 0


@dataclass(frozen=True)
class Annotation:
    """size: (h, w) of the annotated image, or None where the file does not say it. shapes: in their order."""

    size: tuple[int, int] | None
    shapes: list[Shape]


@dataclass(frozen=True)
class Source:
    """The annotations of one split.

    pairs: each image with the file that annotates it. parse: what that file says about the image, from
    `content(pair)`. label_names: all labels that the format declares, where it declares them. note: on images
    without annotation, for the doctor. is_split: the format itself names the split that was asked for.
    """

    pairs: list[Pair]
    parse: Callable[[bytes, Pair], Annotation]
    content: Callable[[Pair], bytes] = bytes_of_file
    label_names: list[str] = field(default_factory=list)
    note: str = ""
    is_split: bool = False

    def annotation(self, pair: Pair) -> Annotation:
        """What is annotated in one image.

        Raises:
            UnreadableSample: its annotation is damaged.
        """
        try:
            return self.parse(self.content(pair), pair)
        except DataError:
            raise
        except (OSError, *NOT_READABLE) as error:
            raise damaged(pair, error) from error


def content_of(contents: Mapping[str, bytes], pair: Pair) -> bytes:
    """The `content` of a source whose images are annotated in one file; contents: by id."""
    return contents[pair.id]


def damaged(pair: Pair, error: Exception | str) -> UnreadableSample:
    """The error for an annotation that cannot be understood; `data.on_error: skip` leaves the image out."""
    return UnreadableSample(
        f"{pair.mask} is damaged: of image {pair.image.name}, {told(error)}. Correct it in the annotation "
        "tool and export again, or type data.on_error=skip to leave such images out."
    )


def told(error: Exception | str) -> str:
    """What is wrong with a file, from an error of Python that reading it gave."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not complete JSON ({error})"
    if isinstance(error, UnicodeDecodeError):
        return f"its text is not {error.encoding}"
    if isinstance(error, (str, OSError, DataError)):
        return str(error)
    return f"a value is of another kind than there should be ({error})"


@contextmanager
def part_of(pair: Pair, what: str) -> Iterator[None]:
    """Errors of one part of an annotation, such as "shape 3", as that of a damaged file that names it."""
    try:
        yield
    except UnreadableSample as error:
        raise damaged(pair, f"{what}: {error}") from error
    except DataError:
        raise
    except NOT_READABLE as error:
        raise damaged(pair, f"{what}: {told(error)}") from error


def read_json(content: bytes, path: Path) -> Any:
    """The content of a JSON file in UTF-8, 16 or 32, with or without a byte order mark.

    Raises:
        UnreadableSample: it is cut or no JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableSample(
            f"{path} is not complete JSON: {error}. Save or export it again, or type data.on_error=skip."
        ) from error


def polygon(label: str, points: ArrayLike, layer: int = 0) -> Shape:
    """A closed polygon of (k, 2) points, x and y in pixels; the interior by the even-odd rule.

    Raises:
        UnreadableSample: fewer than three points, or one that is no number.
    """
    try:
        corners = np.asarray(points, np.float64)
    except (TypeError, ValueError) as error:
        raise UnreadableSample(f"a polygon of {label!r} has a point that is not two numbers") from error
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < LEAST_POINTS:
        points_there = quantity(len(corners), "point")
        raise UnreadableSample(f"a polygon of {label!r} has {points_there}, and needs three")
    if not np.isfinite(corners).all():
        raise UnreadableSample(f"a polygon of {label!r} has a point that is no number")
    return Shape(label, partial(_polygon, label, corners), layer)


def rectangle(label: str, corners: ArrayLike, layer: int = 0) -> Shape:
    """The box between two opposite corners, (2, 2)."""
    (x0, y0), (x1, y1) = np.asarray(corners, np.float64)
    return polygon(label, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], layer)


def ellipse(
    label: str, x: float, y: float, rx: float, ry: float, turn_deg: float = 0, layer: int = 0
) -> Shape:
    """An ellipse around (x, y), turned clockwise, as a polygon with an error far below a pixel."""
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    turn = np.deg2rad(turn_deg)
    u, v = rx * np.cos(angle), ry * np.sin(angle)
    points = np.stack([x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], 1)
    return polygon(label, points, layer)


def _polygon(label: str, points: NDArray[np.float64], h: int, w: int) -> Area:
    try:
        require_inside(points, h, w)
        return area_of([points.ravel()], h, w)
    except DataError as error:
        raise UnreadableSample(f"{error}; its label is {label!r}") from error


def placed(mask: Area, left: int, top: int, h: int, w: int) -> Area:
    """A mask with its left top corner at (left, top) of an area of (h, w)."""
    rows, columns = mask.shape
    if left < 0 or top < 0 or top + rows > h or left + columns > w:
        raise UnreadableSample(
            f"a mask of {columns}x{rows} px at ({left}, {top}) lies outside the image of {w}x{h} px"
        )
    area = np.zeros((h, w), bool)
    area[top : top + rows, left : left + columns] = mask
    return area


def mask_of_rows(runs: Sequence[int], left: int, top: int, rows: int, columns: int, h: int, w: int) -> Area:
    """Run lengths along the rows of a box, starting with the pixels outside."""
    lengths = np.asarray(runs, np.int64)
    if rows * columns > h * w or lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != rows * columns:
        raise UnreadableSample(f"run lengths do not fill their box of {columns}x{rows} px")
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return placed(inside.reshape(rows, columns), left, top, h, w)
