"""Pictures of classes that may overlap: each set of classes that occurs becomes a label id with a colour.

So everything that draws pictures of one class a pixel draws these, too. The colour of a set is the mean of
those of its classes.

Shapes: maps of h x w pixels, C classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.sample import Palette
from engine.reporting.colours import display_colours

NONE, NONE_COLOUR = "none of the classes", (96, 96, 96)


def with_sets(
    maps: Sequence[Tensor], palette: Palette, class_names: Sequence[str], ignore_index: int
) -> tuple[list[Tensor], Palette, list[str]]:
    """Masks (C, h, w) as maps (h, w) of set ids, with the colours and names of the sets.

    A pixel of which a mask is void is void. Maps (h, w), of one class a pixel, are returned as they are.
    """
    if not maps or maps[0].dim() == 2:
        return list(maps), palette, list(class_names)
    pixels = np.concatenate([_bits(map.cpu().numpy() == 1) for map in maps])  # (all pixels, bytes)
    codes, ids = np.unique(_as_one_value(pixels), return_inverse=True)
    sets = np.unpackbits(codes.view(np.uint8).reshape(len(codes), -1), axis=1)[:, : len(class_names)]
    order = np.arange(len(codes))
    colours, names = _colours(sets, palette), _names(sets, class_names)
    if len(codes) > ignore_index >= 0:  # no set has the id of void
        order += order >= ignore_index
        colours.insert(ignore_index, NONE_COLOUR)
        names.insert(ignore_index, NONE)
    shown, start = [], 0
    for map in maps:
        h, w = map.shape[-2:]
        of_map = torch.from_numpy(order[ids[start : start + h * w]].reshape(h, w))
        shown.append(of_map.masked_fill((map.cpu() == ignore_index).any(0), ignore_index))
        start += h * w
    return shown, tuple(colours), names


def _bits(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(h w, bytes): the classes of each pixel, from (C, h, w)."""
    return np.packbits(masks.reshape(len(masks), -1).T, axis=1)


def _as_one_value(pixels: NDArray[np.uint8]) -> NDArray[np.void]:
    """(n, bytes) -> (n,), so that rows can be compared."""
    return np.ascontiguousarray(pixels).view(np.dtype((np.void, pixels.shape[1])))[:, 0]


def _colours(sets: NDArray[np.uint8], palette: Palette) -> list[tuple[int, int, int]]:
    shown = np.array(display_colours(palette))
    means = [shown[members.astype(bool)].mean(axis=0) if members.any() else NONE_COLOUR for members in sets]
    return [(round(r), round(g), round(b)) for r, g, b in means]


def _names(sets: NDArray[np.uint8], class_names: Sequence[str]) -> list[str]:
    return [
        " + ".join(name for name, is_in in zip(class_names, members, strict=True) if is_in) or NONE
        for members in sets
    ]
