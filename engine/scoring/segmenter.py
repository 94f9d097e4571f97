"""A trained model for inference: an image in, its labels and probabilities out.

Shapes: an image of h x w pixels, C classes.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from engine.data.bands import RGB, Bands, band_names, ranges_of
from engine.data.formats.bands import image_pixels
from engine.data.formats.images import upright_rgb
from engine.data.formats.value_range import ValueRanges
from engine.data.sample import UnreadableSample
from engine.scoring.disagreement import Disagreement, disagreement
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.trained import Trained, open_trained
from engine.scoring.upsampling import combined
from engine.wording import near_path

Picture = str | Path | Image.Image | NDArray[np.uint8] | Tensor


class UseError(ValueError):
    """A request that a trained model cannot fulfil; the text says what to do instead."""

    exit_code = 2


class Prediction(NamedTuple):
    """labels: (h, w) uint8, the most likely class. probabilities: (C, h, w) float32. Both on the CPU.

    With data.labels: multi, labels are (C, h, w): 1 where the probability of a class reaches its threshold.
    """

    labels: Tensor
    probabilities: Tensor


class Segmenter:
    """A run, a checkpoint or an ensemble, that predicts as it was scored.

    Args:
        trained: the models, and how they are combined.
        protocol: how images are resized, padded and cropped for them.

    Raises:
        UseError: the protocol leaves out a part of the image.
    """

    def __init__(self, trained: Trained, protocol: EvaluationProtocol):
        if not protocol.is_whole:
            raise UseError(
                f"eval.protocol={protocol.name} leaves a part of each image out, so {trained.name} has no "
                "label for it. Add eval.protocol=native."
            )
        self.trained, self.protocol = trained, protocol
        self.name, self.class_names, self.palette = trained.name, trained.class_names, trained.palette
        self._models = trained.for_predictions()
        self._device = next(next(iter(trained.members.values())).parameters()).device
        self.value_range = ranges_of(trained.recipe.data)
        self.bands = band_names(trained.recipe.data.bands)
        self.kind = trained.kind
        self._predictor = Predictor(protocol, nullcontext, self.kind)  # no autocast: as in scoring

    def predict(self, image: Picture) -> Prediction:
        """Labels and probabilities of one image, at its own size.

        Args:
            image: a path or a PIL image, either rotated as its EXIF orientation says; or pixels of 0..255,
                uint8: an array (h, w, n) or a tensor (n, h, w), of RGB or of the bands of data.bands.

        Raises:
            UnreadableSample: the file is not an image, or damaged.
            DataError: the file has other bands than those of the training.
            UseError: the pixels have another type or shape.
        """
        pixels = self.pixels(image)  # (n, h, w)
        return self._decided(self.probabilities(pixels.unsqueeze(0)))

    def predict_and_compare(self, image: Picture) -> tuple[Prediction, Disagreement]:
        """What `predict` gives, and where the members disagree; both on the CPU. Raises as `predict` does.

        Not of classes that may overlap.
        """
        assert not self.kind.is_multi, "votes are for one class a pixel"
        pixels = self.pixels(image).unsqueeze(0).to(self._device)
        members = [self._predictor.pieces(model, pixels) for model in self._models.values()]
        prediction = self._decided(combined(members, self.trained.combination))
        each = (member.all_probabilities()[0].cpu() for member in members)
        return prediction, disagreement(each, prediction.labels)

    def of_all_members(self) -> "Segmenter":
        """The same without an early exit, as a graph computes it."""
        combination = replace(self.trained.combination, early_exit=None)
        return Segmenter(replace(self.trained, combination=combination), self.protocol)

    def _decided(self, probabilities: Tensor) -> Prediction:
        """From (1, C, h, w)."""
        labels, _ = self.kind.decide(probabilities)
        return Prediction(labels[0].to(torch.uint8).cpu(), probabilities[0].cpu())

    def pixels(self, image: Picture) -> Tensor:
        """(n, h, w) uint8, upright, of values in the run's data.range. Raises as `predict` does."""
        return pixels_of(image, self.value_range, self.bands)

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, n, h, w) uint8 -> (B, C, h, w) float32 on the device of the first model."""
        return self._predictor.together(self._models, self.trained.combination, images.to(self._device))


def open_segmenter(
    path: str | Path,
    device: str | torch.device | None = None,
    overrides: Sequence[str] = (),
    step: int | None = None,
) -> Segmenter:
    """The run, checkpoint or ensemble that `open_trained` opens, with the protocol of its recipe.

    Args:
        device: None takes the GPU if there is one, and of several GPUs all for an ensemble.
        overrides: as of `open_trained`; "eval.flip=true" changes the protocol.
        step: of a run's kept checkpoint; None takes the best.

    Raises:
        RunFolderError, RecipeError: see `open_trained`.
        UseError: see `Segmenter`.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trained = open_trained(Path(path).expanduser(), chosen, step, overrides)
    return Segmenter(trained, EvaluationProtocol.of(trained.recipe.eval))


def pixels_of(image: Picture, value_range: ValueRanges | None = None, bands: Bands = None) -> Tensor:
    """(n, h, w) uint8, upright; `value_range` is for images of more than 8 bits per channel.

    Raises as `Segmenter.predict` does.
    """
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        if not path.exists():
            raise UnreadableSample(f"{image}: no such file.{near_path(image)}")
        return torch.from_numpy(image_pixels(path, value_range, bands)[0])
    if isinstance(image, Image.Image):
        if bands is None:
            image = upright_rgb(image, value_range=value_range)[0]
        else:
            image = np.atleast_3d(np.asarray(ImageOps.exif_transpose(image)))
    if not isinstance(image, Tensor | np.ndarray):
        raise UseError(
            f"Expected one image: a path, a PIL image, an array or a tensor; got a {type(image).__name__}."
        )
    if isinstance(image, Tensor):
        _require_pixels(image, 0, bands, "a tensor ({n}, h, w)")
        return image
    _require_pixels(image, -1, bands, "an array (h, w, {n})")
    return torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1).contiguous()  # mirrored arrays, too


def _require_pixels(pixels: Tensor | NDArray[np.uint8], channels: int, bands: Bands, expected: str) -> None:
    """Raises UseError for another type or shape; the dimension `channels` is that of the bands."""
    names, shape = bands or RGB, pixels.shape
    if (
        len(shape) != 3
        or shape[channels] != len(names)
        or pixels.dtype not in (torch.uint8, np.uint8)
        or 0 in shape
    ):
        what = "RGB pixels" if bands is None else f"pixels of {', '.join(bands)}"
        raise UseError(
            f"Expected {what} of 0..255 as uint8, {expected.format(n=len(names))}; got {pixels.dtype} of "
            f"shape {tuple(shape)}."
        )
