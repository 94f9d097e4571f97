"""A large image as overlapping tiles, whose probabilities are blended where they overlap.

Each tile counts linearly less towards its inner edges, so that the weights of all tiles add up to 1 at each
pixel and no seam is left. Memory holds one tile, a strip of its rows and two strips of their overlap: it does
not grow with the height of the image.

Shapes: an image of h x w pixels, C classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.scoring.protocols import Rectangle, Size

Rows = Callable[[int, int], Tensor]  # from the first row to before the last -> (3, rows, w) uint8
Probabilities = Callable[[Tensor], Tensor]  # (1, 3, h, w) uint8 -> (1, C, h, w)


@dataclass(frozen=True)
class Tiling:
    """
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

    def spans(self, length: int) -> list[tuple[int, int]]:
        """(start, end) of the tiles along a side of an image; the last one ends with it."""
        step = self.side - self.overlap
        starts = range(0, max(1, length - self.overlap), step)
        return [(start, min(start + self.side, length)) for start in starts]

    def number(self, size: Size) -> int:
        """Of tiles in an image of this size."""
        return len(self.spans(size[0])) * len(self.spans(size[1]))

    def blended(
        self, size: Size, rows: Rows, probabilities: Probabilities
    ) -> Iterator[tuple[Rectangle, Tensor]]:
        """Predict tile after tile.

        Args:
            size: h, w of the image.
            rows: reads rows of it; each row is read once.
            probabilities: of a tile. A tile at the right or bottom edge is filled up with pixels to its left
                and above, so that all have the same context.

        Returns:
            Each part of the image once, with its probabilities (C, height, width) on the CPU.
        """
        h, w = size
        downs, acrosses = self.spans(h), self.spans(w)
        above: Tensor | None = None  # (C, overlap, w): what the tiles above add to the first rows
        strip, first = rows(0, 0), 0  # the rows that were read, from `first` on
        for top, bottom in downs:
            seen_top = max(0, bottom - self.side)
            strip = torch.cat([strip[:, seen_top - first :], rows(first + strip.shape[1], bottom)], dim=1)
            first = seen_top
            is_last_row = bottom == h
            below: Tensor | None = None
            left: Tensor | None = None  # (C, height, overlap): what the tile to the left adds
            for start, end in acrosses:
                seen = strip[:, :, max(0, end - self.side) : end]  # (3, side, side)
                part = probabilities(seen[None])[0].float().cpu()  # (C, side, side)
                part = part[:, top - bottom :, start - end :]  # (C, height, width)
                part = part * self._weight(top, bottom, h)[:, None] * self._weight(start, end, w)
                is_last = end == w
                if not is_last_row:
                    if below is None:
                        below = torch.zeros(len(part), self.overlap, w)
                    below[:, :, start:end] += part[:, part.shape[1] - self.overlap :]
                next_left = part[:, :, part.shape[2] - self.overlap :].clone()
                if left is not None:
                    part[:, :, : self.overlap] += left
                left = next_left
                height = bottom - top - (0 if is_last_row else self.overlap)
                width = end - start - (0 if is_last else self.overlap)
                part = part[:, :height, :width]
                if above is not None:
                    covered = min(self.overlap, height)
                    part[:, :covered] += above[:, :covered, start : start + width]
                yield Rectangle(top, start, height, width), part
            above = below

    def _weight(self, start: int, end: int, length: int) -> Tensor:
        """(end - start,): 1, and a ramp where a neighbour overlaps."""
        ramp = (torch.arange(self.overlap) + 0.5) / self.overlap if self.overlap else torch.ones(0)
        weight = torch.ones(end - start)
        if start > 0:
            weight[: self.overlap] = ramp
        if end < length:
            weight[len(weight) - self.overlap :] = ramp.flip(0)
        return weight
