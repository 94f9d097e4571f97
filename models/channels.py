"""Input channels other than RGB: their normalisation, and first layers that are widened to take them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def statistics_of(in_channels: int, values: Sequence[float]) -> Tensor:
    """(1, n, 1, 1): a value for each channel; their mean for each if there are more or fewer than n."""
    own = values if len(values) == in_channels else [sum(values) / len(values)] * in_channels
    return torch.tensor(own).view(1, in_channels, 1, 1)


def adapted_to_bands(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor], here: Sequence[str], there: Sequence[str]
) -> tuple[dict[str, Tensor], str]:
    """Weights whose first layer takes the bands of the model.

    A band that both have keeps its filter; any other starts from the mean of all filters. If no band is in
    common, the mean is multiplied by the ratio of the numbers of bands, so that an image of equal bands gives
    the output that it gave before.

    Args:
        own: the model's state dict.
        found: loaded tensors under the model's names.
        here, there: the bands of the model, and those that the weights were trained on.

    Returns:
        `found` with the adapted first layer, and a text about it, empty if the bands are the same.
    """
    adapted = dict(found)
    if tuple(here) == tuple(there):
        return adapted, ""
    shared = [band for band in here if band in there]
    scale = 1.0 if shared else len(there) / len(here)
    first = [
        key for key, tensor in found.items() if _is_first_layer(own.get(key), len(here), tensor, len(there))
    ]
    for key in first:
        mean = scale * found[key].mean(dim=1)  # (out, k, k)
        filters = [found[key][:, there.index(band)] if band in there else mean for band in here]
        adapted[key] = torch.stack(filters, dim=1)  # (out, n, k, k)
    others = [band for band in here if band not in there]
    what = [f"{', '.join(shared)} keep their filters"] * bool(shared)
    what += [f"{', '.join(others)} start from the mean of the filters of {', '.join(there)}"] * bool(others)
    return adapted, f"{', '.join(first)}: {'; '.join(what)}" if first else ""


def _is_first_layer(own: Tensor | None, num_here: int, found: Tensor, num_there: int) -> bool:
    """Whether both are kernels of a convolution of the input, (out, n, k, k)."""
    if own is None or own.ndim != 4 or found.ndim != 4:
        return False
    same = own.shape[0] == found.shape[0] and own.shape[2:] == found.shape[2:]
    return same and (own.shape[1], found.shape[1]) == (num_here, num_there)
