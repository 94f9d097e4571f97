"""Which images of a pool to label next: those that members disagree about, and no two alike.

Shapes: N images, F features.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.data.inputs import InputImage, input_images
from engine.data.mask_folders import without_masks
from engine.data.overlap import shared_files
from engine.data.sample import OR_SKIP, UnreadableSample, require_one_class_a_pixel
from engine.diagnosis.label_check import open_with_all_checkpoints
from engine.run_folder import RunFolderError
from engine.scoring.disagreement import entropy_bits
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.segmenter import Prediction, Segmenter
from engine.scoring.training_images import training_files
from engine.wording import quantity

LEAST_DISTANCE = 1e-6  # so that of images that are all alike the most uncertain ones are taken


class PoolImage(NamedTuple):
    """An image, the mean uncertainty of its pixels in bits, and its place (F,) in the space of features."""

    image: InputImage
    bits: float
    features: NDArray[np.float64]


class Pool:
    """The images of a folder, and a run with all its kept checkpoints, or a saved ensemble.

    Args:
        path: a run folder, a checkpoint in its top/, or the folder of a saved ensemble.
        overrides: recipe values for how images are predicted.
        folder: of the images, with its sub-folders.
        count: how many will be chosen.
        out: the folder of the output, whose images are not of the pool.

    Raises:
        RunFolderError, RecipeError, DataError, UseError: there is no such run, its classes may overlap, it
            does not predict whole images, or the folder has no more than `count` images that were not
            trained on.
    """

    def __init__(
        self, path: Path, overrides: Sequence[str], folder: Path, count: int, out: Path, device: torch.device
    ):
        if count < 1:
            raise RunFolderError(f"--next {count}: at least 1.")
        self.images = input_images([str(folder)], out)
        _require_a_choice(count, len(self.images), folder)
        trained = open_with_all_checkpoints(path, device, overrides)
        require_one_class_a_pixel(trained.recipe.data, "A choice of images", "Label those at random.")
        self.segmenter = Segmenter(trained, EvaluationProtocol.of(trained.recipe.eval))
        self.images, self.on_masks = without_masks(self.images, trained.recipe.data)
        seen = shared_files([image.path for image in self.images], training_files(trained))
        self.images = [image for image in self.images if image.path not in seen]
        _require_a_choice(count, len(self.images), folder, " that the run was not trained on")
        self.num_trained_on = len(seen)
        self.left_out: list[str] = []

    @property
    def num_members(self) -> int:
        return len(self.segmenter.trained.members)

    def measured(self, progress: Callable[[int, int], None]) -> list[PoolImage]:
        """Every image that can be read; the reasons of the others are in `left_out`."""
        found: list[PoolImage] = []
        first = next(iter(self.segmenter.trained.members.values()))
        with _pooled_features(first) as seen:
            for done, image in enumerate(self.images, 1):
                try:
                    prediction, bits = self.predict(image)
                except UnreadableSample as error:
                    self.left_out.append(str(error).replace(OR_SKIP, ""))  # it is skipped already
                else:
                    features = (
                        torch.cat(seen).mean(dim=0) if seen else prediction.probabilities.mean(dim=(1, 2))
                    )
                    found.append(PoolImage(image, float(bits.mean()), features.double().numpy()))
                seen.clear()
                progress(done, len(self.images))
        return found

    def predict(self, image: InputImage) -> tuple[Prediction, Tensor]:
        """The prediction, and the uncertainty (h, w) of each pixel in bits.

        It is the mutual information of the members; of a single one, the entropy of its prediction.
        """
        prediction, found = self.segmenter.predict_and_compare(image.path)
        if self.num_members > 1:
            return prediction, found.mutual_information
        return prediction, entropy_bits(prediction.probabilities)


def _require_a_choice(count: int, num_images: int, folder: Path, which: str = "") -> None:
    """Raises RunFolderError where there are not more images than are to be chosen."""
    if count < num_images:
        return
    found = f"{folder} has {quantity(num_images, 'image')}{which}"
    remedy = f"Type a smaller number, such as --next {num_images // 2}"
    if num_images < 2:
        remedy = "Label it." if num_images else "Name a folder of other images with --pool"
    raise RunFolderError(f"--next {count}: {found}, so there is nothing to choose. {remedy}")


def choose(bits: NDArray[np.float64], features: NDArray[np.float64], count: int) -> list[int]:
    """The numbers of `count` images: the most uncertain, then by uncertainty times distance to the chosen.

    That is the greedy k-center of the core-set approach (Sener and Savarese 2018, arXiv 1708.00489), with
    uncertainties as weights. The distance is of directions, between 0 and 2.

    Args:
        bits: (N,). features: (N, F).
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.maximum(lengths, LEAST_DISTANCE)
    chosen = [int(bits.argmax())]
    nearest = np.full(len(bits), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.linalg.norm(directions - directions[chosen[-1]], axis=1))
        gain = bits * (nearest + LEAST_DISTANCE)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
    return chosen


@contextmanager
def _pooled_features(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the means (B, F) of the encoder's last map at each pass; nothing of a model without one.

    An image has several: of each window, scale and mirrored view.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        last = output[-1] if isinstance(output, list | tuple) else output
        if isinstance(last, Tensor) and last.dim() == 4:  # (B, F, h', w')
            seen.append(last.float().mean(dim=(2, 3)).cpu())

    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, nn.Module):
        yield seen
        return
    hook = encoder.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
