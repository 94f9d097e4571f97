"""OpenVINO models: the results of torch at every size, half the size with --half, nothing left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.exporting import ExportError
from engine.exporting.openvino_graph import export_openvino
from engine.scoring.protocols import EvaluationProtocol

openvino = pytest.importorskip("openvino", reason="the extra `openvino` is not installed: it is unchecked")


def test_a_segformer_at_every_size(
    small_segformer, traced_segformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.exporting.onnx_graph.trace", lambda graph: traced_segformer)
    out = tmp_path / "deep/model.xml"
    assert export_openvino(small_segformer, out) < 1e-4
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.bin", "model.xml"]
    run = openvino.Core().compile_model(out, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch, h, w in [(1, 65, 66), (2, 67, 96)]:
        images = np.random.default_rng(h).integers(0, 256, (batch, 3, h, w), np.uint8)
        found = run({"images": images})
        expected = small_segformer.probabilities(torch.from_numpy(images)).numpy()
        assert np.abs(found["probabilities"] - expected).max() < 1e-4
        assert np.array_equal(found["labels"], found["probabilities"].argmax(axis=1))
    about = openvino.Core().read_model(out)
    assert json.loads(about.get_rt_info(["trident", "class_names"]).value) == ["ground", "cat", "dog"]

    half = tmp_path / "half.xml"
    assert export_openvino(small_segformer, half, half=True) < 0.05
    weights = [path.with_suffix(".bin").stat().st_size for path in (half, out)]
    assert weights[0] < 0.6 * weights[1]


class WithPositionCodes(nn.Module):
    """As vision transformers have them: a grid that is resized to that of the image, with a filter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.codes = nn.Parameter(torch.randn(1, 3, 7, 9))

    def forward(self, image: Tensor) -> Tensor:
        size = [image.shape[-2] // 16, image.shape[-1] // 16]
        codes = F.interpolate(self.codes, size, mode="bicubic", antialias=True, align_corners=False)
        return codes + F.interpolate(image / 255, size, mode="bilinear", antialias=True)


def test_resizing_with_a_filter_is_that_of_torch(segmenter_of, tmp_path: Path) -> None:
    """Images at a scale of the evaluation; position embeddings from 7 by 9 cells to fewer and to more."""
    protocol = EvaluationProtocol("native", (0.5,), multiple=32)
    assert export_openvino(segmenter_of([WithPositionCodes()], protocol=protocol), tmp_path / "a.xml") < 1e-4


def test_a_model_that_differs_from_torch_is_not_written(
    one_small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.exporting.openvino_graph.TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="Nothing was written"):
        export_openvino(one_small, tmp_path / "model.xml")
    assert list(tmp_path.iterdir()) == []
