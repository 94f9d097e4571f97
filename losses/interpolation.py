"""Linear interpolation along one side of an image, as weights of source pixels.

A source is a pixel of the logits, an output pixel one of the labels.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


@lru_cache(maxsize=16)
def interpolation_matrix(size: int, source_size: int, align_corners: bool) -> Tensor:
    """(size, source_size) float64: the weight of each source pixel in each output pixel.

    The result is cached, so it must not be modified.
    """
    eye = torch.eye(source_size, dtype=torch.float64)[None]  # (1, sources, sources)
    return F.interpolate(eye, size, mode="linear", align_corners=align_corners)[0].T


class Taps:
    """The two source pixels that each output pixel reads, as tensors on a device.

    sources: for each output pixel, the index of the source before it, of the one after it, and the weight of
        the latter.
    first: for each source, the first output pixel that reads it.
    most: the largest number of output pixels that read one source.
    """

    def __init__(self, matrix: Tensor, device: torch.device, dtype: torch.dtype):
        """From an `interpolation_matrix`."""
        used = matrix.ne(0)
        before = used.int().argmax(1)  # (size,)
        after = used.shape[1] - 1 - used.flip(1).int().argmax(1)
        share = matrix.gather(1, after[:, None])[:, 0] * (after > before)
        first = used.int().argmax(0)  # (source_size,)
        last = used.shape[0] - 1 - used.flip(0).int().argmax(0)
        self.sources = before.int().to(device), after.int().to(device), share.to(device, dtype)
        self.first = first.int().to(device)
        self.most = int((last - first).max()) + 1


@lru_cache(maxsize=32)
def taps(size: int, source_size: int, align_corners: bool, device: torch.device, dtype: torch.dtype) -> Taps:
    """`Taps` of an `interpolation_matrix`; cached, since copying them to the device makes the host wait."""
    return Taps(interpolation_matrix(size, source_size, align_corners), device, dtype)
