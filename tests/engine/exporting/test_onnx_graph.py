"""ONNX files in onnxruntime: the results of torch at every size, and their metadata."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.exporting import ExportError, require_libraries
from engine.exporting.onnx_graph import export_onnx, require_opset
from models.origin import OWN

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed: ONNX unchecked")


def compare(path: Path, segmenter, sizes: list[tuple[int, int, int]]) -> float:
    """The largest difference of probabilities on noise, which is harder than the export's own images."""
    import torch

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = 0.0
    for batch, h, w in sizes:
        num_bands = len(segmenter.bands or "RGB")
        images = np.random.default_rng(h).integers(0, 256, (batch, num_bands, h, w), np.uint8)
        labels, probabilities = session.run(None, {"images": images})
        expected = segmenter.probabilities(torch.from_numpy(images)).numpy()
        assert labels.dtype == np.uint8 and labels.shape == (batch, h, w)
        assert np.array_equal(labels, probabilities.argmax(axis=1))
        found = max(found, float(np.abs(probabilities - expected).max()))
    return found


def test_a_segformer_at_sizes_that_4_does_not_divide(
    small_segformer, traced_segformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.exporting.onnx_graph.trace", lambda graph: traced_segformer)
    out = tmp_path / "deep/model.onnx"
    assert export_onnx(small_segformer, out) < 1e-4
    assert compare(out, small_segformer, [(1, 65, 66), (2, 67, 96), (1, 333, 257)]) < 1e-4


@pytest.mark.parametrize("arch", ["dpt", pytest.param("upernet", marks=pytest.mark.slow)])
def test_a_vision_transformer_at_sizes_that_its_patches_do_not_divide(
    segmenter_of, tmp_path: Path, arch: str
) -> None:
    import torch

    from models import build_model

    torch.manual_seed(0)
    model = build_model(arch, num_classes=3, encoder="tu-test_vit", decoder_width=8)
    vit = model.encoder
    vit._output_indices = list(range(len(vit._output_indices)))
    vit.model.blocks = vit.model.blocks[: len(vit._output_indices)]  # as many as maps
    small = segmenter_of([model])
    out = tmp_path / "model.onnx"
    assert export_onnx(small, out) < 1e-4
    assert compare(out, small, [(1, 65, 66), (2, 67, 96)]) < 1e-4


def test_an_ensemble_with_mirrored_views_at_a_scale(two_at_half_size, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    assert export_onnx(two_at_half_size, out) < 1e-3
    assert compare(out, two_at_half_size, [(1, 129, 131), (2, 130, 128)]) < 1e-3
    about = onnxruntime.InferenceSession(out).get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == ["ground", "cat", "dog"]
    assert json.loads(about["palette"])[1] == [128, 0, 0]
    assert (json.loads(about["scales"]), json.loads(about["flip"])) == ([0.5], True)
    assert json.loads(about["members"]) == ["member 0", "member 1"]
    assert (about["licence"], about["name"]) == (OWN, "small")
    assert str(Path(__file__).parents[3]).encode() not in out.read_bytes()  # no path of this machine


def test_images_of_four_bands(one_of_four_bands, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    assert export_onnx(one_of_four_bands, out) < 1e-4
    assert compare(out, one_of_four_bands, [(1, 65, 66), (2, 67, 96)]) < 1e-4
    about = onnxruntime.InferenceSession(out).get_modelmeta().custom_metadata_map
    assert "red, green, blue, band4" in about["input"]


def test_half_precision_and_an_operator_set(
    small_segformer, traced_segformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    monkeypatch.setattr("engine.exporting.onnx_graph.trace", lambda graph: traced_segformer)
    full, half = tmp_path / "full.onnx", tmp_path / "half.onnx"
    export_onnx(small_segformer, full, opset=19)
    assert 1e-6 < export_onnx(small_segformer, half, opset=19, half=True) < 0.05
    assert half.stat().st_size < 0.75 * full.stat().st_size  # the graph itself is a part of so small a model
    assert 1e-6 < compare(half, small_segformer, [(1, 65, 66), (2, 67, 96)]) < 0.05
    for path, kind in ((full, onnx.TensorProto.FLOAT), (half, onnx.TensorProto.FLOAT16)):
        model = onnx.load(path)
        assert [one.version for one in model.opset_import if not one.domain] == [19]
        weights = [one for one in model.graph.initializer if len(one.dims) == 4]
        assert {one.data_type for one in weights} == {kind}


def test_an_unknown_operator_set_is_refused() -> None:
    require_opset(None)
    for opset in (11, 99):
        with pytest.raises(ExportError, match=f"--opset {opset}: expected a version from 18 to"):
            require_opset(opset)


def test_without_the_libraries_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ExportError, match=r"onnxscript is not installed. Type pip install 'trident-seg\[export\]'"
    ):
        require_libraries("export", "onnx", "onnxscript")


def test_a_model_too_large_for_a_file_is_refused(
    two_small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.exporting.onnx_graph.MAX_BYTES", 1000)
    with pytest.raises(ExportError, match="an ONNX file holds 2 GB"):
        export_onnx(two_small, tmp_path / "model.onnx")


def test_a_file_that_differs_from_torch_is_not_written(
    one_small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.exporting.onnx_graph.TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="Nothing was written"):
        export_onnx(one_small, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
