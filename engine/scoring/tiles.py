"""A large image as overlapping tiles, whose probabilities are blended where they overlap.

Each tile counts linearly less towards its inner edges, so that the weights of all tiles add up to 1 at each
pixel and no seam is left. Memory holds one tile, whatever the size of the image: what a row of tiles adds to
the next one is in a temporary file.

Shapes: an image of h x w pixels, C classes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

import torch
from torch import Tensor

from engine.scoring.protocols import Rectangle, Size

Read = Callable[[Rectangle], Tensor]  # a part of an image -> (3, height, width) uint8
Probabilities = Callable[[Tensor], Tensor]  # (1, 3, h, w) uint8 -> (1, C, h, w)


class TilingError(ValueError):
    """Tiles that cannot be; the text says what to type."""

    exit_code = 2


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles.

    side: of a tile, px. overlap: px that neighbours share, at most half a tile.

    Raises:
        ValueError: no pixels, or an overlap that is negative or more than half a tile.
    """

    side: int
    overlap: int

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"a side of {self.side} px is not above 0")
        if not 0 <= self.overlap <= self.side // 2:
            raise ValueError(
                f"an overlap of {self.overlap} px is not from 0 to half a tile, {self.side // 2} px"
            )

    @classmethod
    def of(cls, side: int | None, overlap: int | None) -> "Tiling | None":
        """Of --tile and --overlap; None where there are to be no tiles.

        Raises:
            TilingError: they do not fit together.
        """
        if side is None:
            if overlap is not None:
                raise TilingError("--overlap is for tiles. Add their side, such as --tile 1024.")
            return None
        overlap = side // 8 if overlap is None else overlap
        try:
            return cls(side, overlap)
        except ValueError as error:
            raise TilingError(f"--tile {side} --overlap {overlap}: {error}.") from None

    def card(self) -> dict[str, object]:
        """What is reported with a score."""
        return {"tiles": f"{self.side} px, which overlap by {self.overlap} px"}

    def spans(self, length: int) -> list[tuple[int, int]]:
        """(start, end) of the tiles along a side of an image; the last one ends with it."""
        step = self.side - self.overlap
        starts = range(0, max(1, length - self.overlap), step)
        return [(start, min(start + self.side, length)) for start in starts]

    def number(self, size: Size) -> int:
        """Of tiles in an image of this size."""
        return len(self.spans(size[0])) * len(self.spans(size[1]))

    def blended(
        self, size: Size, read: Read, probabilities: Probabilities
    ) -> Iterator[tuple[Rectangle, Tensor]]:
        """Predict tile after tile, from the left to the right and from the top to the bottom.

        Args:
            size: h, w of the image.
            read: gives the pixels of a tile.
            probabilities: of a tile. A tile at the right or bottom edge is filled up with pixels to its left
                and above, so that all have the same context.

        Returns:
            Each part of the image once, with its probabilities (C, height, width) on the CPU.
        """
        h, w = size
        with TemporaryFile() as file:  # what each tile adds to the one below
            for row, (top, bottom) in enumerate(self.spans(h)):
                height = bottom - top - (self.overlap if bottom < h else 0)
                from_left: Tensor | None = None  # (C, bottom - top, overlap)
                for column, (start, end) in enumerate(self.spans(w)):
                    width = end - start - (self.overlap if end < w else 0)
                    corner = max(0, bottom - self.side), max(0, end - self.side)
                    seen = Rectangle(*corner, min(h, self.side), min(w, self.side))
                    part = probabilities(read(seen)[None])[0].float().cpu()  # (C, side, side)
                    weight = self._weight(top, bottom, h)[:, None] * self._weight(start, end, w)
                    part = part[:, top - bottom :, start - end :] * weight
                    if from_left is not None:
                        part[:, :, : self.overlap] += from_left
                    part, from_left = part[:, :, :width], part[:, :, width:].clone()
                    place = 4 * column * len(part) * self.overlap * self.side
                    if row and self.overlap:
                        part[:, : self.overlap] += _load(file, place, (len(part), self.overlap, width))
                    if bottom < h:
                        _save(file, place, part[:, height:])
                    yield Rectangle(top, start, height, width), part[:, :height]

    def _weight(self, start: int, end: int, length: int) -> Tensor:
        """(end - start,): 1, and a ramp where a neighbour overlaps."""
        ramp = (torch.arange(self.overlap) + 0.5) / self.overlap if self.overlap else torch.ones(0)
        weight = torch.ones(end - start)
        if start > 0:
            weight[: self.overlap] = ramp
        if end < length:
            weight[len(weight) - self.overlap :] = ramp.flip(0)
        return weight


def _save(file: IO[bytes], place: int, values: Tensor) -> None:
    file.seek(place)
    file.write(values.contiguous().numpy().data)


def _load(file: IO[bytes], place: int, shape: tuple[int, int, int]) -> Tensor:
    """float32"""
    file.seek(place)
    return torch.frombuffer(bytearray(file.read(4 * math.prod(shape))), dtype=torch.float32).view(shape)
