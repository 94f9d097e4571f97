"""The traceable graph predicts as the segmenter does, and the comparison finds differences."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.exporting import ExportError
from engine.exporting.graph import Graph, _rounded, largest_difference
from engine.scoring.protocols import EvaluationProtocol
from engine.scoring.segmenter import Segmenter

# Of probabilities. A sum of n float32 in another order differs by about sqrt(n) * 2^-24 of its size: 4e-6 for
# the 147 products of a convolution and logits of 5, which moves a probability by a quarter of that. Ten times
# as much is allowed; real errors are far larger.
NOISE = 1e-5


@given(st.integers(64, 20_000), st.sampled_from([0.35, 0.5, 0.75, 1.25, 1.5, 1.75, 2.0, 0.125]))
def test_sizes_are_rounded_as_python_rounds(side: int, scale: float) -> None:
    assert _rounded(Fraction(repr(scale)), side) == round(Fraction(repr(scale)) * side)


def test_the_graph_predicts_as_the_segmenter_does(two_small) -> None:
    graph = Graph(two_small)
    assert graph.min_size_px == 128  # 64 at scale 0.5
    assert largest_difference(graph, two_small, graph.min_size_px, 1e-4) < NOISE


def test_sides_that_are_multiples_are_in_the_graph(two_small) -> None:
    plain = Graph(two_small)
    two_small.protocol = EvaluationProtocol("native", (0.5, 1.0), multiple=32)
    assert (
        largest_difference(Graph(two_small), Segmenter(two_small.trained, two_small.protocol), 128, 1e-4)
        < NOISE
    )
    with pytest.raises(ExportError, match="differs"):
        largest_difference(plain, Segmenter(two_small.trained, two_small.protocol), 128, 1e-4)


def test_a_difference_in_one_pixel_is_found(two_small) -> None:
    graph = Graph(two_small)

    def nearly(images: Tensor) -> tuple[Tensor, Tensor]:
        labels, probabilities = graph(images)
        probabilities[-1, 0, -1, -1] += 0.01
        return labels, probabilities

    with pytest.raises(ExportError, match="differs by 0.01 from torch on images 1x3x128x128.*export onnx"):
        largest_difference(nearly, two_small, 128, 1e-3)


def test_a_wrong_label_is_found(two_small) -> None:
    graph = Graph(two_small)

    def nearly(images: Tensor) -> tuple[Tensor, Tensor]:
        labels, probabilities = graph(images)
        labels[0, 0, 0] = probabilities[0, :, 0, 0].argmin()
        return labels, probabilities

    with pytest.raises(ExportError, match="differs"):
        largest_difference(nearly, two_small, 128, 1e-3)


def test_a_nan_is_found(two_small) -> None:
    def broken(images: Tensor) -> tuple[Tensor, Tensor]:
        labels, probabilities = Graph(two_small)(images)
        return labels, probabilities * float("nan")

    with pytest.raises(ExportError, match="differs by nan"):
        largest_difference(broken, two_small, 128, 1e-3)


def test_another_size_and_a_failing_runtime_are_reported(two_small) -> None:
    def cut(images: Tensor) -> tuple[Tensor, Tensor]:
        return Graph(two_small)(images[..., 1:, :])

    def fails(images: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no such operation")

    with pytest.raises(ExportError, match=r"gives \(1, 3, 127, 128\) for images 1x3x128x128"):
        largest_difference(cut, two_small, 128, 1e-3)
    with pytest.raises(
        ExportError, match="fails on images 1x3x128x128, so nothing was written: no such operation"
    ):
        largest_difference(fails, two_small, 128, 1e-3)


def test_other_protocols_are_refused(two_small) -> None:
    two_small.protocol = EvaluationProtocol("slide")
    with pytest.raises(ExportError, match="eval.protocol=slide.* eval.protocol=native"):
        Graph(two_small)
    two_small.protocol = EvaluationProtocol("native", average="logit")
    with pytest.raises(ExportError, match="eval.average=logit.* eval.average=probability"):
        Graph(two_small)


def test_window_settings_that_native_does_not_use_are_ignored(one_small) -> None:
    one_small.protocol = EvaluationProtocol("native", window_px=256, stride_px=128)
    assert Graph(one_small).min_size_px == 64


def test_dropout_is_off_and_no_parameter_needs_a_gradient(small_segformer) -> None:
    graph = Graph(small_segformer)
    assert not any(module.training for module in graph.modules())
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert torch.equal(graph(images)[1], graph(images)[1])
