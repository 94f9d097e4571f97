"""A segmenter that is traced in seconds."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from engine.data.formats.voc import voc_palette
from engine.exporting.graph import Graph, trace
from engine.recipe import Recipe
from engine.run_folder import DataIdentity
from engine.scoring.combining import Combination
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.segmenter import Segmenter
from engine.scoring.trained import Trained

NAMES = ("ground", "cat", "dog")
MIXED = Combination("logit", ((0.25, 0.5, 0.9), (0.75, 0.5, 0.1)), (1.0, 2.0))


class SmallNet(nn.Module):
    """Like the real ones, it normalises, pads to a multiple of 4, gives logits at a quarter of the size."""

    def __init__(self, seed: int, num_bands: int = 3):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(num_bands, 8, 7, stride=4, padding=3)
        self.head = nn.Conv2d(8, len(NAMES), 1)

    def forward(self, image: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        x = F.pad((image.float() - 120) / 60, (0, (W + 3) // 4 * 4 - W, 0, (H + 3) // 4 * 4 - H))
        return 4 * self.head(self.conv(x).relu())


@pytest.fixture(scope="session")
def segmenter_of() -> Callable[..., Segmenter]:
    """`segmenter_of([models], combination, protocol)`."""

    def make(
        models: list[nn.Module],
        combination: Combination | None = None,
        protocol: EvaluationProtocol | None = None,
        recipe: Recipe | None = None,
    ) -> Segmenter:
        identity = DataIdentity(format="", train="", val="", train_fingerprint="", val_fingerprint="")
        trained = Trained(
            name="small",
            members={f"member {number}": model.eval() for number, model in enumerate(models)},
            combination=combination or Combination.mean(len(models)),
            class_names=NAMES,
            palette=voc_palette(len(NAMES)),
            recipe=recipe or Recipe(name="small"),
            data=identity,
            weights=[None] * len(models),
        )
        return Segmenter(trained, protocol or EvaluationProtocol())

    return make


@pytest.fixture
def two_small(segmenter_of) -> Segmenter:
    """Two members, weighted by class, geometric, one softened; two scales and mirrored."""
    return segmenter_of([SmallNet(0), SmallNet(1)], MIXED, EvaluationProtocol("native", (0.5, 1.0), True))


@pytest.fixture
def two_at_half_size(segmenter_of) -> Segmenter:
    """The same at one scale, which is traced in half the time."""
    return segmenter_of([SmallNet(0), SmallNet(1)], MIXED, EvaluationProtocol("native", (0.5,), True))


@pytest.fixture
def one_small(segmenter_of) -> Segmenter:
    """A single member under the protocol native."""
    return segmenter_of([SmallNet(0)])


@pytest.fixture
def one_of_four_bands(segmenter_of) -> Segmenter:
    """A single member that takes red, green, blue and a further band."""
    recipe = Recipe.model_validate({"name": "small", "data": {"bands": 4}})
    return segmenter_of([SmallNet(0, 4)], recipe=recipe)


@pytest.fixture(scope="session")
def traced_segformer(small_segformer: Segmenter) -> ExportedProgram:
    return trace(Graph(small_segformer))


@pytest.fixture(scope="session")
def small_segformer(segmenter_of) -> Segmenter:
    """SegFormer with one block in each of its first two stages: every operation of the real one."""
    from models.segformer import SegFormer
    from models.segformer_heads import PaperHead

    torch.manual_seed(0)
    model = SegFormer("b0", num_classes=len(NAMES))
    model.encoder.stages = model.encoder.stages[:2]
    for stage in model.encoder.stages:
        stage.blocks = stage.blocks[:1]
    model.head = PaperHead(model.encoder.channels[:2], 16, len(NAMES), dropout=0.1)
    nn.init.normal_(model.head.classifier.weight)
    return segmenter_of([model])
