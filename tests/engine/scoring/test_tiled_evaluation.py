"""Scores by tiles are those of whole images, where each pixel is predicted alike."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from engine.data.batches import scoring_batches
from engine.data.formats.files import FileDataset, Pair
from engine.data.formats.masks import SameIds
from engine.data.sample import Skipped
from engine.scoring import tiled_evaluation
from engine.scoring.counting import Counts
from engine.scoring.evaluation import evaluate
from engine.scoring.label_kinds import SINGLE
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.results import evaluate_trained, open_for_scoring
from engine.scoring.tiled_evaluation import evaluate_tiles
from engine.scoring.tiles import Tiling

CPU = torch.device("cpu")
NAMES = ("a", "b", "c")
SIZES = [(90, 70), (33, 64)]


@dataclass
class ByPixel:
    """What `evaluate_tiles` asks of a segmenter; a prediction depends on its pixel alone."""

    model: nn.Module
    class_names: tuple[str, ...] = NAMES
    kind = SINGLE
    protocol = EvaluationProtocol()

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        return self.model(images).softmax(dim=1)


class Pixelwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, len(NAMES), 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.float() / 64 - 2)


@pytest.fixture
def photos(tmp_path: Path) -> FileDataset:
    """Two photos as TIFF, of soft noise, with labels in large regions and some void."""
    rng, pairs = np.random.default_rng(0), []
    for number, size in enumerate(SIZES):
        small = rng.integers(0, 256, (size[0] // 6, size[1] // 6, 3), np.uint8)
        Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(tmp_path / f"{number}.tif")
        ids = rng.choice(np.array([0, 1, 2, 255], np.uint8), (size[0] // 11 + 1, size[1] // 11 + 1))
        mask = np.kron(ids, np.ones((11, 11), np.uint8))[: size[0], : size[1]]
        Image.fromarray(mask).save(tmp_path / f"{number}_mask.tif")
        pairs.append(Pair(str(number), tmp_path / f"{number}.tif", tmp_path / f"{number}_mask.tif"))
    palette = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
    return FileDataset(pairs, NAMES, palette, 255, SameIds(3, 255))


@pytest.mark.parametrize("tiling", [Tiling(200, 0), Tiling(32, 8), Tiling(17, 8)])
@pytest.mark.parametrize("part_px", [2048, 16])
def test_counts_are_those_of_whole_images(
    photos: FileDataset, monkeypatch: pytest.MonkeyPatch, tiling: Tiling, part_px: int
) -> None:
    monkeypatch.setattr(tiled_evaluation, "PART_PX", part_px)
    torch.manual_seed(0)
    model, by_image = Pixelwise().eval(), {}

    def keep(ids: list[str], counts: dict[str, Counts]) -> None:
        for row, id in enumerate(ids):
            by_image[id] = {kind: values[row] for kind, values in counts["m"].items()}

    [expected] = evaluate(
        {"m": model}, scoring_batches(photos, CPU, workers=0), Predictor(EvaluationProtocol(), torch.no_grad),
        len(NAMES), 255, CPU, keep, detailed=True,
    ).values()  # fmt: skip
    found: dict[str, Counts] = {}
    tally = evaluate_tiles(ByPixel(model), photos, tiling, lambda id, counts: found.update({id: counts}))
    for ours, whole in zip(tally.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(tally.confusion, expected.confusion) and tally.boundary.sum() > 0
    assert torch.equal(tally.boundary, expected.boundary) and torch.equal(tally.edges, expected.edges)
    assert list(found) == list(by_image)
    for id, counts in found.items():
        for kind, values in counts.items():
            torch.testing.assert_close(values[0], by_image[id][kind], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("what", "overrides"), [("run", []), ("ensemble", ["eval.flip=true", "eval.average=logit"])]
)
def test_a_tile_as_large_as_the_image_scores_as_the_protocol_does(
    request: pytest.FixtureRequest, voc_run, what: str, overrides: list[str]
) -> None:
    path = voc_run() if what == "run" else request.getfixturevalue("voc_ensemble")
    trained, dataset, split = open_for_scoring(path, [*overrides, "data.workers=0"], "val", CPU)
    protocol = EvaluationProtocol.of(trained.recipe.eval)
    whole = evaluate_trained(protocol, trained, dataset, split, CPU).to_dict()
    tiles = evaluate_trained(protocol, trained, dataset, split, CPU, tiling=Tiling(1 << 12, 0)).to_dict()
    assert tiles["card"].pop("tiles") == "4096 px, which overlap by 0 px"
    # Sums of float32, which differ a little with the number of images of a batch.
    sums = [[one.pop("log_loss"), one.pop("calibration")["ece"]] for one in (whole, tiles)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-6)
    assert repr(tiles) == repr(whole)  # NaN included


def test_unreadable_images_are_skipped_where_the_recipe_says_so(photos: FileDataset) -> None:
    path = photos.image_path(0)
    path.write_bytes(path.read_bytes()[:200])
    photos.skipped = Skipped()
    found: dict[str, Counts] = {}
    torch.manual_seed(0)
    tally = evaluate_tiles(
        ByPixel(Pixelwise()), photos, Tiling(32, 8), lambda id, counts: found.update({id: counts})
    )
    assert list(found) == ["1"] and list(photos.skipped.reasons) == ["0"]
    assert tally.confusion.sum() + tally.num_void == SIZES[1][0] * SIZES[1][1]
