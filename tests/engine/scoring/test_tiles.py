"""Tiles of a large image: together they are the image, and no seam is left."""

import pytest
import torch
from torch import Tensor, nn

from engine.scoring.protocols import Rectangle
from engine.scoring.tiles import Tiling


def whole(tiling: Tiling, image: Tensor, probabilities) -> Tensor:
    """The parts put together; each pixel has to come exactly once."""

    def read(box: Rectangle) -> Tensor:
        return image[:, slice(*box.rows), slice(*box.columns)]

    h, w = image.shape[1:]
    result, times = torch.zeros(2, h, w), torch.zeros(h, w)
    for box, part in tiling.blended((h, w), read, probabilities):
        assert part.shape == (2, box.height, box.width)
        result[:, box.top : box.top + box.height, box.left : box.left + box.width] = part
        times[box.top : box.top + box.height, box.left : box.left + box.width] += 1
    assert (times == 1).all()
    return result


def by_pixel(tile: Tensor) -> Tensor:
    """(1, 3, h, w) -> (1, 2, h, w): a prediction that depends on the pixel alone."""
    p = tile[:, :1].float() / 255
    return torch.cat([p, 1 - p], dim=1)


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (32, 32), (33, 31), (64, 57), (100, 131)])
@pytest.mark.parametrize(("side", "overlap"), [(32, 0), (32, 8), (32, 16), (31, 15), (1, 0), (200, 100)])
def test_a_prediction_of_single_pixels_is_that_of_the_whole_image(side, overlap, size):
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(whole(Tiling(side, overlap), image, by_pixel), by_pixel(image[None])[0])


def test_between_two_tiles_the_prediction_changes_linearly():
    """Two tiles that see different things: 0 on the left one, 1 on the right one."""
    image = torch.zeros(3, 4, 24, dtype=torch.uint8)
    values = iter([0.0, 1.0])

    def constant(tile: Tensor) -> Tensor:
        return torch.full((1, 2, *tile.shape[2:]), next(values))

    row = whole(Tiling(16, 8), image, constant)[0, 0]
    assert row[:8].tolist() == [0] * 8 and row[16:].tolist() == [1] * 8
    torch.testing.assert_close(row[8:16], (torch.arange(8) + 0.5) / 8)


def test_tiles_at_the_edge_are_of_full_size():
    sides = set()

    def probabilities(tile: Tensor) -> Tensor:
        sides.add(tuple(tile.shape[2:]))
        return by_pixel(tile)

    whole(Tiling(32, 8), torch.zeros(3, 61, 85, dtype=torch.uint8), probabilities)
    assert sides == {(32, 32)}


def test_a_network_that_sees_less_than_half_of_the_overlap_has_no_seam():
    torch.manual_seed(0)
    network = nn.Conv2d(3, 2, 5)  # without padding: it sees two pixels around

    def probabilities(tile: Tensor) -> Tensor:
        with torch.no_grad():
            return network(nn.functional.pad(tile.float(), (2, 2, 2, 2))).softmax(dim=1)

    image = torch.randint(0, 256, (3, 70, 70), dtype=torch.uint8)
    tiled, once = whole(Tiling(32, 16), image, probabilities), probabilities(image[None])[0]
    inner = torch.ones(70, 70, dtype=torch.bool)
    for _, end in Tiling(32, 16).spans(70)[:-1]:  # within two pixels of a tile's edge a weight is small
        inner[end - 2 : end] = inner[:, end - 2 : end] = False
    for start, _ in Tiling(32, 16).spans(70)[1:]:
        inner[start : start + 2] = inner[:, start : start + 2] = False
    torch.testing.assert_close(tiled[:, inner], once[:, inner])
    assert (tiled - once).abs().max() < 0.2


@pytest.mark.parametrize(("side", "overlap"), [(32, 17), (32, -1)])
def test_more_than_half_a_tile_cannot_overlap(side, overlap):
    with pytest.raises(ValueError, match="half a tile"):
        Tiling(side, overlap)
