"""Feature maps: which layers a pattern names, what is kept of them, and what is refused."""

from contextlib import nullcontext

import pytest
import torch

from engine.data.sample import Sample
from engine.recipe import RecipeError
from engine.scoring.predictor import Predictor
from engine.scoring.protocols import EvaluationProtocol
from engine.training.features import FeatureMaps, channels_first, matching_layers, require_maps
from models.segformer import SegFormer


@pytest.fixture(scope="module")
def model() -> SegFormer:
    torch.manual_seed(0)
    return SegFormer("b0", 3, decoder_width=16)


def test_a_star_matches_one_part_of_a_name(model) -> None:
    stages = [f"encoder.stages.{number}" for number in range(4)]
    assert matching_layers(model, ["encoder.stages.*"]) == stages
    assert matching_layers(model, ["encoder.stages.[13]", "head", "encoder.stages.1"]) == [
        "encoder.stages.1", "encoder.stages.3", "head",
    ]  # fmt: skip
    assert matching_layers(model, ["encoder.stages.0.blocks.*.att?"]) == [
        "encoder.stages.0.blocks.0.attn", "encoder.stages.0.blocks.1.attn",
    ]  # fmt: skip


def test_a_pattern_without_a_layer_is_refused_with_near_names(model) -> None:
    with pytest.raises(
        RecipeError, match=r"'encoder.stage.3'.*Near it are encoder\.stages\.3.*encoder, head"
    ):
        matching_layers(model, ["encoder", "encoder.stage.3"])


def test_layers_without_a_map_are_refused(model) -> None:
    require_maps(model, ["encoder", "head", "encoder.stages.1.embed", "head.classifier"])
    with pytest.raises(RecipeError, match=r"log\.feature_layers.*head\.mlps\.0 "):
        require_maps(model, ["encoder", "head.mlps.0"])  # its weights are folded into others
    assert model.training


def test_maps_are_the_outputs_of_the_layers(model) -> None:
    model.eval()
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    data = OneImage(image)
    for scales, flip in (((1.0,), False), ((1.0, 0.5), True)):  # of several views, the first
        predictor = Predictor(EvaluationProtocol(scales=scales, flip=flip), nullcontext)
        found = FeatureMaps(["encoder", "encoder.stages.1.embed"], data, [0], predictor)(model)
        x = (image[None] - model.mean) / model.std
        with torch.no_grad():
            maps = model.encoder(x)
        assert set(found) == {*(f"encoder.{number}" for number in range(4)), "encoder.stages.1.embed"}
        for number, tensor in enumerate(maps):
            [row] = found[f"encoder.{number}"]
            assert len(row.numbers) == 10 and row.numbers == sorted(set(row.numbers))
            torch.testing.assert_close(row.channels, tensor[0, row.numbers])
        assert found["encoder.stages.1.embed"][0].channels.shape == (
            10,
            6,
            8,
        )  # channels are last in that output
    model.train()


def test_the_model_is_unchanged_and_keeps_no_hook(model) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = OneImage(torch.zeros(3, 32, 32, dtype=torch.uint8))
    FeatureMaps(["encoder"], data, [0], Predictor(EvaluationProtocol(), nullcontext))(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("shape", [(5, 6, 8), (6, 8, 5), (32, 12, 16), (12, 16, 32)])
def test_channels_are_found_by_the_shape_of_the_image(shape: tuple[int, int, int]) -> None:
    num_channels = {5, 32} & set(shape)
    assert channels_first(torch.zeros(shape), aspect=48 / 64).shape[0] in num_channels
    assert channels_first(torch.zeros(shape), aspect=48 / 64).shape[1:] in {(6, 8), (12, 16)}


class OneImage:
    """A data set of one image."""

    skipped = None
    bands = None

    def __init__(self, image: torch.Tensor):
        self.image = image

    def __getitem__(self, index: int):
        return Sample("one", self.image, torch.zeros(self.image.shape[1:], dtype=torch.uint8))
