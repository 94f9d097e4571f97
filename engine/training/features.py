"""Activation maps of named layers for a few images, the same ones at each evaluation."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from engine.data.bands import shown_bands
from engine.data.sample import DataError, Dataset, first_few, read_or_error
from engine.recipe import RecipeError
from engine.reporting.feature_sheet import FeatureRow
from engine.scoring.predictor import Predictor
from models.folding import evaluating

TRIAL_PX = 64
NUM_CHANNELS = 10  # kept of each layer, evenly spaced, the same ones each time


class FeatureMaps:
    """Callable: model -> by layer, a row for each image.

    A layer that returns several maps, as an encoder does, counts as several layers: encoder.0, encoder.1, ...

    Args:
        layers: names of modules, from `matching_layers`.
        dataset: the split.
        indices: of its samples.
        predictor: feeds the images to the model; of several views, the first one is kept.
    """

    def __init__(self, layers: Sequence[str], dataset: Dataset, indices: list[int], predictor: Predictor):
        self.layers = layers
        self.dataset = dataset
        self.indices = indices
        self.predictor = predictor

    def __call__(self, model: nn.Module) -> dict[str, list[FeatureRow]]:
        device = next(model.parameters()).device
        rows: dict[str, list[FeatureRow]] = {}
        for index in self.indices:
            sample = read_or_error(self.dataset, index)
            if isinstance(sample, DataError):
                continue  # the evaluation reports the unreadable image
            seen = shown_bands(sample.image, self.dataset.bands).cpu()
            with evaluating(model):
                maps = self._maps(model, sample.image[None].to(device))
            for layer, values in maps.items():
                numbers = spread(NUM_CHANNELS, len(values))
                row = FeatureRow(sample.id, seen, values[numbers].float().cpu(), numbers)
                rows.setdefault(layer, []).append(row)
        return rows

    def _maps(self, model: nn.Module, image: Tensor) -> dict[str, Tensor]:
        """By layer, (C, h', w')."""
        aspect = image.shape[-2] / image.shape[-1]
        return {
            name: channels_first(tensor[0], aspect)
            for layer, output in outputs_of(model, self.layers, lambda: self.predictor(model, image)).items()
            for name, tensor in maps_in(layer, output)
        }


def outputs_of(model: nn.Module, layers: Sequence[str], run: Callable[[], object]) -> dict[str, object]:
    """Calls `run`, and returns the output of the first call of each layer."""
    outputs: dict[str, object] = {}
    modules = dict(model.named_modules())
    with ExitStack() as hooks:
        for name in layers:

            def keep(module: nn.Module, inputs: object, output: object, name: str = name) -> None:
                outputs.setdefault(name, output)

            hooks.callback(modules[name].register_forward_hook(keep).remove)
        run()
    return outputs


def maps_in(name: str, output: object) -> Iterator[tuple[str, Tensor]]:
    """The maps (B, C, h, w) or (B, h, w, C) in the output of a layer, which may be nested."""
    if isinstance(output, Tensor) and output.ndim == 4 and output.numel():
        yield name, output.detach()
    elif isinstance(output, list | tuple):
        for number, part in enumerate(output):
            yield from maps_in(f"{name}.{number}", part)


def matching_layers(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Names of the modules that match a pattern, in the model's order.

    `*` matches within one part of a name, as it does within one folder of a path: "encoder.stages.*".

    Raises:
        RecipeError: a pattern matches no module; the message lists near names.
    """
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            near = get_close_matches(pattern, names, n=4, cutoff=0.3)
            top = [name for name, _ in model.named_children()]
            raise RecipeError(
                f"log.feature_layers: no layer of this model is called {pattern!r}. "
                f"Near it are {', '.join(near) or 'none'}; at its top are {', '.join(top)}. "
                f"Type for example log.feature_layers=['{[*near, *top][0]}']."
            )
    return [name for name in names if any(_fits(name, pattern) for pattern in patterns)]


@torch.no_grad()
def require_maps(model: nn.Module, layers: Sequence[str], num_bands: int = 3) -> None:
    """Runs the model on a small image of so many bands to check that each layer returns a map.

    Raises:
        RecipeError: the names of the layers that do not.
    """
    image = torch.zeros(1, num_bands, TRIAL_PX, TRIAL_PX, device=next(model.parameters()).device)
    with evaluating(model):
        outputs = outputs_of(model, layers, lambda: model(image))
    without = [name for name in layers if not any(True for _ in maps_in(name, outputs.get(name)))]
    if without:
        raise RecipeError(
            f"log.feature_layers: {first_few(without)} return no map (B, C, h, w), or are never called "
            f"directly. Leave them out, or type log.features=0."
        )


def channels_first(values: Tensor, aspect: float) -> Tensor:
    """(C, h, w) of a map that may be (h, w, C): whichever is closer to the image's height / width."""
    a, b, c = values.shape
    first, last = (abs(math.log(h / w / aspect)) for h, w in ((b, c), (a, b)))
    return values if first <= last else values.movedim(-1, 0)


def _fits(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def spread(count: int, total: int) -> list[int]:
    """Up to `count` indices, evenly over 0..total-1."""
    count = min(count, total)
    return [index * total // count for index in range(count)]
