"""Dropout and stochastic depth by a sample's place in the batch of the update, not by its process.

Every process seeds its generator alike, a layer draws for all samples of the update, and each process takes
the rows of its own. So another number of processes, or of chunks, trains with the same masks.
"""

from collections.abc import Sequence

import timm.layers
import torch
from torch import Tensor, nn

from models.segformer import DropPath


class Places:
    """The places, in the batch of the update, of the samples that this process computes next.

    Args:
        rank, world_size: this process has every `world_size`-th sample, from `rank` on.
    """

    def __init__(self, rank: int = 0, world_size: int = 1):
        self._rank = rank
        self._world_size = world_size
        self.num_samples = self.num_here = 0  # of the update, and of the chunk in this process
        self._rows: Tensor | None = None  # (num_here,); None: all samples of the update

    def take(self, start: int, num_here: int, share: int, device: torch.device) -> None:
        """Set the places of a chunk: `num_here` samples from `start` on, of the `share` of this process."""
        self.num_samples, self.num_here = share * self._world_size, num_here
        if num_here == self.num_samples:
            self._rows = None
            return
        places = torch.arange(start, start + num_here, device=device)
        self._rows = places * self._world_size + self._rank

    def mine(self, drawn: Tensor) -> Tensor:
        """(num_samples, ...) -> (num_here, ...): the rows of the samples here."""
        return drawn if self._rows is None else drawn[self._rows]

    def kept(self, x: Tensor, shape: Sequence[int], probability: float) -> Tensor:
        """Which rows or values of x to keep, as True; (len(x), *shape).

        Several rows may belong to one sample, such as the windows of a Swin transformer. If the rows are not
        samples, all processes draw the same.
        """
        per_sample, rest = divmod(len(x), self.num_here or len(x))
        if rest or not self.num_here:
            return torch.empty(len(x), *shape, dtype=torch.bool, device=x.device).bernoulli_(probability)
        whole = torch.empty(self.num_samples, per_sample, *shape, dtype=torch.bool, device=x.device)
        return self.mine(whole.bernoulli_(probability)).flatten(0, 1)


def draw_by_place(model: nn.Module, places: Places) -> None:
    """Make the dropout layers of a model draw by place. Other random calls do not change."""
    for module in model.modules():
        if type(module) in BY_PLACE:
            module.__class__ = BY_PLACE[type(module)]  # the same attributes, another forward
            module.places = places  # type: ignore[assignment]


def seed_update(seed: int, count: int, stream: int = 0) -> None:
    """Seed dropout and stochastic depth by (seed, update) alone, so that a resumed run draws the same.

    `stream` is 0 for the labelled images, and another number for each view of the unlabelled ones.
    """
    torch.manual_seed(hash((seed, count, stream)) & 0x7FFF_FFFF_FFFF_FFFF)


class _DropPathByPlace(nn.Module):
    places: Places
    drop_prob: float
    scale_by_keep = True  # timm's may have another value

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        factor = self.places.kept(x, [1] * (x.ndim - 1), keep).to(x.dtype)
        return x * (factor / keep if keep > 0 and self.scale_by_keep else factor)


class _DropoutByPlace(nn.Dropout):
    places: Places

    def forward(self, x: Tensor) -> Tensor:
        return _dropped(self, x, x.shape[1:])


class _ChannelDropoutByPlace(nn.Dropout2d):
    places: Places

    def forward(self, x: Tensor) -> Tensor:
        return _dropped(self, x, [x.shape[1], *[1] * (x.ndim - 2)])


def _dropped(layer: _DropoutByPlace | _ChannelDropoutByPlace, x: Tensor, shape: Sequence[int]) -> Tensor:
    if layer.p == 0 or not layer.training:
        return x
    if layer.p == 1:
        return x * 0
    return x * layer.places.kept(x, shape, 1 - layer.p) / (1 - layer.p)


BY_PLACE: dict[type[nn.Module], type[nn.Module]] = {
    DropPath: _DropPathByPlace,
    timm.layers.DropPath: _DropPathByPlace,
    nn.Dropout: _DropoutByPlace,
    nn.Dropout2d: _ChannelDropoutByPlace,
}
